"""Latencies in a histogram of constant memory; two of them can be put together."""

from collections.abc import Mapping
from math import ceil, log

_SMALLEST = 1e-6
_STEP = 1.005
_LOG_STEP = log(_STEP)


class Latencies:
    """Seconds, kept to 0.5 %; a quantile is never told lower than it was."""

    __slots__ = ("_counts", "count", "largest")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.largest = 0.0

    def add(self, seconds: float) -> None:
        """Add one latency; below a microsecond it counts as one."""
        bucket = ceil(log(seconds / _SMALLEST) / _LOG_STEP) if seconds > _SMALLEST else 0
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.count += 1
        self.largest = max(self.largest, seconds)

    def quantile(self, share: float) -> float:
        """Return the latency that a `share` (above 0, at most 1) of all did not exceed: nearest rank; 0 for none."""
        rank = ceil(share * self.count)
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                return min(_SMALLEST * _STEP**bucket, self.largest)
        return self.largest

    def merge(self, other: "Latencies") -> None:
        """Add all of `other`."""
        for bucket, count in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.count += other.count
        self.largest = max(self.largest, other.largest)

    def summary(self) -> Mapping[str, float]:
        """Return P50, P90, P95, P99 and the maximum, in seconds."""
        quantiles = {f"p{percent}": self.quantile(percent / 100) for percent in (50, 90, 95, 99)}
        return {**quantiles, "max": self.largest}
