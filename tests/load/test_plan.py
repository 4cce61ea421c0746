"""When arrivals are due, and what can't be asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.bench import Plan, Refused


@pytest.mark.parametrize(
    "elapsed,due",
    [(0.0, 1), (0.0999, 1), (0.1, 2), (0.3, 4), (0.95, 10), (99.0, 10)],
)
def test_arrivals_are_due_one_after_the_other(elapsed: float, due: int) -> None:
    """The first at once, then one every 1/rate seconds, never more than the plan has."""
    assert Plan(rate=10, seconds=1).due(elapsed) == due


@given(st.floats(0.1, 100_000), st.integers(0, 10_000))
def test_an_arrival_is_due_when_its_time_has_come(rate: float, index: int) -> None:
    """No rounding lets the clock wait for an arrival that is not counted as due then."""
    plan = Plan(rate=rate, seconds=3600)
    if index < plan.total:
        assert plan.due(plan.at(index)) >= index + 1


@pytest.mark.parametrize("rate,seconds,total", [(10, 1, 10), (0.5, 1, 1), (1000, 0.25, 250), (0.1, 0.1, 1)])
def test_a_plan_has_rate_times_seconds_arrivals(rate: float, seconds: float, total: int) -> None:
    """At least one, and the last is due before the end."""
    plan = Plan(rate=rate, seconds=seconds)
    assert plan.total == total
    assert plan.at(total - 1) < seconds


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate": float("nan")},
        {"rate": 100_001},
        {"seconds": 0},
        {"seconds": 3601},
        {"in_flight": 0},
        {"in_flight": 10_001},
        {"patience": -1},
    ],
    ids=str,
)
def test_what_is_without_bounds_is_refused(wrong: dict[str, float]) -> None:
    """Rate, length and calls in flight have limits."""
    with pytest.raises(Refused):
        Plan(**{"rate": 1, "seconds": 1, **wrong})  # type: ignore[arg-type]  # one of the numbers is a count
