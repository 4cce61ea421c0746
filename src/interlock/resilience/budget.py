"""The retry budget: however many calls fail, retries stay a share of the traffic and bury no neighbour."""

from datetime import timedelta

from interlock.deadline import Clock, monotonic
from interlock.resilience.sliding import SlidingCount


class RetryBudget:
    """What one process may spend on retries towards one target; belongs to one event loop.

    During any `window` there are at most `share` of the calls begun in it as retries, or `floor` a second where that
    is more, so that quiet clients may retry too. Calls are counted when they begin, not when they end: a neighbour
    that hangs must not stop the count.
    """

    __slots__ = ("_calls", "_clock", "_floor", "_retries", "_share")

    def __init__(
        self,
        *,
        share: float = 0.2,
        floor: float = 1.0,
        window: timedelta = timedelta(seconds=10),
        clock: Clock = monotonic,
    ) -> None:
        if share < 0 or floor < 0:
            raise ValueError("share and floor of a retry budget must not be below zero")
        span = window.total_seconds()
        if span <= 0:
            raise ValueError("the window of a retry budget must be above zero")
        self._share = share
        self._floor = floor * span
        self._clock = clock
        self._calls = SlidingCount(span)
        self._retries = SlidingCount(span)

    def begin(self) -> None:
        """Count a call that begins; its retries are not counted here."""
        self._calls.add(self._clock())

    def spend(self) -> bool:
        """Take one retry out of the budget; False if none is left, and then nothing is taken."""
        now = self._clock()
        if self._retries.at(now) + 1 > max(self._floor, self._share * self._calls.at(now)):
            return False
        self._retries.add(now)
        return True
