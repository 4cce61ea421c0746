"""What an operation promises, held against what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from interlock.bench.run import Measured
from interlock.contract.gen.interlock.v1.options_pb import Tier
from interlock.contract.model import Operation

TIER_RATES: Mapping[Tier, int] = {Tier.HIGH_VOLUME: 10_000, Tier.STANDARD: 1_000, Tier.ADMIN: 100}
"""Requests a second that each tier means."""

STANDARD_LATENCY = 0.1
"""P95 in seconds where a contract promises nothing: the standard's for synchronous calls (PERF001)."""

STANDARD_SUCCESS = 0.99
"""Success ratio where a contract promises nothing: the standard's threshold (OBS004)."""

_EXACT = 0.99  # a rate is measured to 1 %: the first and the last answer may lie anywhere within their latency


class State(Enum):
    """What a run says about a goal; UNTESTED where it did not try."""

    MET = "met"
    MISSED = "missed"
    UNTESTED = "untested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One objective: `latency_p95` (seconds, at most), `success_ratio` or `requests_per_second` (at least)."""

    name: str
    limit: float
    source: str
    """Who says so: `contract`, a tier, or the standard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A goal, what was measured, and whether that meets it."""

    goal: Goal
    measured: float
    state: State


def goals(operation: Operation) -> tuple[Goal, ...]:
    """Return the goals of `operation`: its own or its service's, else those of its tier and of the standard."""
    declared = operation.objectives
    latency = declared.latency_p95.total_seconds() if declared.latency_p95 is not None else None
    tier = operation.tier if operation.tier in TIER_RATES else Tier.STANDARD
    return (
        _goal("latency_p95", latency, STANDARD_LATENCY, "standard"),
        _goal("success_ratio", declared.success_ratio, STANDARD_SUCCESS, "standard"),
        _goal("requests_per_second", declared.requests_per_second, TIER_RATES[tier], f"tier {tier.name}"),
    )


def _goal(name: str, declared: float | None, otherwise: float, source: str) -> Goal:
    if declared is None:
        return Goal(name=name, limit=otherwise, source=source)
    return Goal(name=name, limit=declared, source="contract")


def judge(measured: Measured, given: Sequence[Goal]) -> tuple[Judgement, ...]:
    """Hold `measured` against the goals.

    A rate is met within 1 %. Where less was asked for than the goal, the rate is UNTESTED, but MISSED where not even
    what was asked for was answered.
    """
    return tuple(_judged(measured, goal) for goal in given)


def met(judgements: Sequence[Judgement]) -> bool:
    """Whether no goal was missed."""
    return all(each.state is not State.MISSED for each in judgements)


def _judged(measured: Measured, goal: Goal) -> Judgement:
    match goal.name:
        case "latency_p95":
            value = measured.latencies.quantile(0.95)
            state = State.MET if value <= goal.limit else State.MISSED
        case "success_ratio":
            value = measured.success_ratio
            state = State.MET if value >= goal.limit else State.MISSED
        case _:
            value = measured.rate
            state = _rate_state(measured, goal.limit)
    return Judgement(goal=goal, measured=value, state=state)


def _rate_state(measured: Measured, limit: float) -> State:
    asked = measured.plan.rate
    if measured.rate < min(asked, limit) * _EXACT:
        return State.MISSED
    return State.MET if asked >= limit * _EXACT else State.UNTESTED
