"""Goals of an operation, and the verdict on them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from interlock.bench import Measured, Plan, State, goals, judge
from interlock.bench.latencies import Latencies
from interlock.bench.objectives import Goal, met
from interlock.bench.report import notes, report, rows
from interlock.contract.gen.interlock.v1.options_pb import Tier
from interlock.contract.model import Objectives
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SampleService

OPERATION = SampleService.service.operation(ECHO)


def result(*, rate: float = 100, succeeded: int = 100, latency: float = 0.01, span: float = 0.99) -> Measured:
    latencies = Latencies()
    for _ in range(100):
        latencies.add(latency)
    return Measured(
        plan=Plan(rate=rate, seconds=100 / rate),
        succeeded=succeeded,
        errors={"UNAVAILABLE": 100 - succeeded} if succeeded < 100 else {},
        latencies=latencies,
        lags=Latencies(),
        held=0,
        span=span,
    )


@pytest.mark.parametrize("tier,rate", [(Tier.HIGH_VOLUME, 10_000), (Tier.STANDARD, 1_000), (Tier.ADMIN, 100)])
def test_a_tier_means_a_rate(tier: Tier, rate: int) -> None:
    """Where nothing is declared the tier says how much, the standard how quickly and how well."""
    found = {each.name: (each.limit, each.source) for each in goals(replace(OPERATION, tier=tier))}
    assert found == {
        "latency_p95": (0.1, "standard"),
        "success_ratio": (0.99, "standard"),
        "requests_per_second": (rate, f"tier {tier.name}"),
    }


def test_what_is_declared_wins() -> None:
    """The contract's objectives stand before tier and standard."""
    declared = Objectives(latency_p95=timedelta(milliseconds=50), success_ratio=0.9, requests_per_second=20)
    found = goals(replace(OPERATION, objectives=declared))
    assert [(each.limit, each.source) for each in found] == [(0.05, "contract"), (0.9, "contract"), (20, "contract")]


def state(name: str, limit: float, measured: Measured) -> State:
    return judge(measured, [Goal(name=name, limit=limit, source="contract")])[0].state


@pytest.mark.parametrize("limit,expected", [(0.02, State.MET), (0.01, State.MET), (0.009, State.MISSED)])
def test_latency_is_at_most(limit: float, expected: State) -> None:
    """95 of 100 within the limit."""
    assert state("latency_p95", limit, result(latency=0.01)) is expected


@pytest.mark.parametrize("succeeded,expected", [(100, State.MET), (99, State.MET), (98, State.MISSED)])
def test_success_is_at_least(succeeded: int, expected: State) -> None:
    """A share of all arrivals."""
    assert state("success_ratio", 0.99, result(succeeded=succeeded)) is expected


@pytest.mark.parametrize(
    "asked,span,limit,expected",
    [
        (100, 0.99, 100, State.MET),
        (100, 0.995, 100, State.MET),  # within 1 %
        (100, 1.2, 100, State.MISSED),
        (100, 1.2, 50, State.MET),  # more was asked for than is promised
        (100, 0.99, 1000, State.UNTESTED),
        (100, 1.2, 1000, State.MISSED),  # not even what was asked for
    ],
)
def test_a_rate_is_met_missed_or_not_tested(asked: float, span: float, limit: float, expected: State) -> None:
    """A run that asks for less than is promised proves nothing about it, unless it fails already."""
    assert state("requests_per_second", limit, result(rate=asked, span=span)) is expected


def test_the_verdict_is_that_nothing_was_missed_and_says_what_was_not_tested() -> None:
    """UNTESTED does not fail a run, but stands in the notes."""
    measured = result()
    judged = judge(measured, goals(OPERATION))
    assert [each.state for each in judged] == [State.MET, State.MET, State.UNTESTED]
    assert met(judged)
    told = report("t", "/o", measured, goals(OPERATION), generator_cpu=0.1)
    assert notes(told) == ["requests_per_second was not tested: 100 requests/s were asked for, 1000 are promised"]
    assert not met(judge(result(succeeded=50), goals(OPERATION)))


def test_a_busy_generator_is_told() -> None:
    """Figures that the generator spoils say so."""
    told = report("t", "/o", result(), (), generator_cpu=0.97)
    assert "the load generator itself fell behind (P95 0 ms late, 97% of a core)" in notes(told)[0]


def test_rows_name_figures_goals_and_states() -> None:
    """One line each, failures by name at the end."""
    lines = rows(report("t", "/o", result(succeeded=90), goals(OPERATION), generator_cpu=0.1))
    assert ("succeeded", "90.00% of 100", "at least 99.00% (standard)", "missed") in lines
    assert ("P95", "10.0 ms", "at most 100 ms (standard)", "met") in lines
    assert lines[-1] == ("failed: UNAVAILABLE", "10", "", "")
