"""Counting what happened lately, in slots of time: bounded memory and a bounded error, whatever the traffic."""

SLOTS = 16
"""Slots that a span is cut into; what was counted is forgotten up to one slot (span / 16) late, never early."""

_SIZE = SLOTS + 1


class SlidingCount:
    """How much was added during the last `span` seconds.

    Never less than the true number for any span that ends now, and never more than the true number for a span that is
    one slot longer. `now` is in seconds of one monotonic clock and does not go back.
    """

    __slots__ = ("_counts", "_newest", "_oldest", "_total", "_width")

    def __init__(self, span: float) -> None:
        self._width = span / SLOTS
        self._counts = [0] * _SIZE
        self._newest = 0
        self._oldest = 0  # the first slot that holds something, where any does
        self._total = 0

    def add(self, now: float) -> None:
        """Count one at `now`."""
        slot = int(now / self._width)
        if slot > self._newest:
            self._forget(slot)
        if not self._total:
            self._oldest = self._newest
        self._counts[self._newest % _SIZE] += 1
        self._total += 1

    def at(self, now: float) -> int:
        """Return how many there are at `now`."""
        slot = int(now / self._width)
        if slot > self._newest:
            self._forget(slot)
        return self._total

    def until_fewer(self, now: float) -> float:
        """Return the seconds from `now`, the time last asked or told about, until there are fewer; 0 for none."""
        return (self._oldest + _SIZE) * self._width - now if self._total else 0.0

    def _forget(self, slot: int) -> None:
        if not self._total or slot - self._newest >= _SIZE:
            self._counts = [0] * _SIZE
            self._total = 0
        else:
            for each in range(self._oldest, slot - SLOTS):
                self._total -= self._counts[each % _SIZE]
                self._counts[each % _SIZE] = 0
            while self._total and not self._counts[self._oldest % _SIZE]:
                self._oldest += 1
        self._newest = slot
