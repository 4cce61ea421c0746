"""The retry budget, held against a list of every call and every retry."""

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from interlock.resilience.budget import RetryBudget
from tests.resilience.ground import ManualClock

SHARE, FLOOR, WINDOW = 0.25, 0.25, 16.0  # a slot is one second, and four retries are free


class Spending(RuleBasedStateMachine):
    """Calls, retries and time in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.budget = RetryBudget(share=SHARE, floor=FLOOR, window=timedelta(seconds=WINDOW), clock=self.clock)
        self.calls: list[float] = []
        self.retries: list[float] = []

    def lately(self, events: list[float], span: float = WINDOW) -> int:
        """Count what is younger than the span."""
        return sum(1 for each in events if self.clock.now - each < span)

    @rule(seconds=st.integers(0, 6))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule(number=st.integers(1, 20))
    def calls_begin(self, number: int) -> None:
        for _ in range(number):
            self.budget.begin()
            self.calls.append(self.clock.now)

    @rule()
    def spend(self) -> None:
        # whole seconds are whole slots, so the budget sees 17 of them: the window, and what is just leaving it
        allowed = max(FLOOR * WINDOW, SHARE * self.lately(self.calls, span=WINDOW + 1))
        expected = self.lately(self.retries, span=WINDOW + 1) + 1 <= allowed
        assert self.budget.spend() is expected
        if expected:
            self.retries.append(self.clock.now)

    @invariant()
    def retries_are_a_share(self) -> None:
        """No window holds more retries than the floor, or the share of what any window could look back on."""
        calls = self.lately(self.calls, span=2 * WINDOW + 2)
        assert self.lately(self.retries) <= max(FLOOR * WINDOW, SHARE * calls)


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("rate", [50, 73, 200])
def test_a_steady_stream_of_failures_costs_a_share(rate: int) -> None:
    """Each call that fails asks for three retries, and over a minute a fifth of the calls gets one."""
    clock = ManualClock()
    budget = RetryBudget(clock=clock)
    granted = 0
    for _ in range(rate * 10):
        clock.now += 1 / rate
        budget.begin()
        granted += sum(budget.spend() for _ in range(3))
    assert 0.15 * rate * 10 <= granted <= 0.2 * rate * 10


def test_a_quiet_client_may_retry() -> None:
    """One call alone may be retried as often as the floor allows in the window, and then no more."""
    budget = RetryBudget(clock=ManualClock())
    budget.begin()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"floor": -1.0}, {"window": timedelta()}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    """A budget below zero, or over no time, is a ValueError."""
    with pytest.raises(ValueError, match="retry budget"):
        RetryBudget(**wrong)  # type: ignore[arg-type]  # one of three types
