"""Deadlines: absolute points in monotonic time, so that they shrink by themselves while a call travels."""

import time
from collections.abc import Callable
from datetime import timedelta

Clock = Callable[[], float]
"""Seconds of a monotonic clock; tests hand in their own."""

monotonic: Clock = time.monotonic


class Deadline(float):
    """When a call must be over, in seconds of the monotonic clock; `NEVER` has no end.

    A number of its own kind, because every call makes one.
    """

    __slots__ = ()

    @property
    def at(self) -> float:
        """The point in time, in seconds of the monotonic clock."""
        return self

    @classmethod
    def after(cls, delay: float | timedelta, clock: Clock = monotonic) -> "Deadline":
        """Return the deadline that lies `delay` (seconds, or a timedelta) from now."""
        return cls(clock() + (delay.total_seconds() if isinstance(delay, timedelta) else delay))

    def remaining(self, clock: Clock = monotonic) -> float:
        """Return the seconds left, below zero once passed, `inf` for a deadline that never comes."""
        return self - clock()

    def expired(self, clock: Clock = monotonic) -> bool:
        """Tell whether the point has passed."""
        return self <= clock()


NEVER = Deadline(float("inf"))
