"""Several processes for one plan."""

import os
import time

import pytest

from interlock.bench import Measured, Plan, Refused, in_processes, together
from interlock.bench.latencies import Latencies
from interlock.bench.processes import Start


def ready(start: Start) -> tuple[int, float, float, bool]:
    asked = time.monotonic()
    tells = start()
    return os.getpid(), asked, time.monotonic(), tells


def failing(start: Start) -> None:
    start()
    raise Refused("after all were ready")


def never_ready(start: Start) -> None:
    raise Refused("before")


def test_processes_start_together() -> None:
    """Each is one of its own, and none begins before all are ready; one of them tells how far it is."""
    found = in_processes(2, ready)
    assert len({os.getpid(), *(process for process, *_ in found)}) == 3
    assert max(asked for _, asked, *_ in found) <= min(began for *_, began, _ in found)
    assert sorted(tells for *_, tells in found) == [False, True]


def test_what_one_raises_is_raised() -> None:
    """Before the start too, where the others wait for it: they are let go, and the cause is what is told."""
    with pytest.raises(Refused, match="before"):
        in_processes(2, never_ready)
    with pytest.raises(Refused, match="after all were ready"):
        in_processes(2, failing)


def measured(plan: Plan, latency: float, errors: dict[str, int], span: float) -> Measured:
    latencies = Latencies()
    for _ in range(plan.total):
        latencies.add(latency)
    lags = Latencies()
    lags.add(latency / 10)
    succeeded = plan.total - sum(errors.values())
    return Measured(plan=plan, succeeded=succeeded, errors=errors, latencies=latencies, lags=lags, held=1, span=span)


def test_shares_add_up_to_the_plan() -> None:
    """Counts are summed, latencies put together, the longest span counts."""
    plan = Plan(rate=100, seconds=1, in_flight=5)
    part = plan.share(2)
    assert (part.rate, part.in_flight, part.total) == (50, 3, 50)
    both = together(plan, [measured(part, 0.01, {"A": 1}, 0.98), measured(part, 0.05, {"A": 1, "B": 2}, 0.99)])
    assert (both.succeeded, both.errors, both.held, both.span) == (96, {"A": 2, "B": 2}, 2, 0.99)
    assert both.success_ratio == 0.96
    assert both.rate == pytest.approx(95 / 0.99)
    assert both.latencies.count == 100
    assert both.latencies.quantile(0.5) == pytest.approx(0.01, rel=0.01)
    assert both.latencies.quantile(0.51) == both.latencies.largest == 0.05
    assert both.lags.count == 2
