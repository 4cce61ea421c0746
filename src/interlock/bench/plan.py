"""What load is sent, and when: arrivals by the clock, whatever the server does (an open loop)."""

from dataclasses import dataclass, replace

MOST_SECONDS = 3600.0
MOST_RATE = 100_000.0
MOST_IN_FLIGHT = 10_000


class Refused(Exception):
    """The load can't be sent as asked; the text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`rate` arrivals a second for `seconds`, evenly spaced, at most `in_flight` of them unanswered at a time.

    Arrivals that find no free place wait for one, and their waiting counts as latency; those without an answer
    `patience` seconds after the last arrival are given up. Refused outside of (0, MOST_RATE], (0, MOST_SECONDS],
    [1, MOST_IN_FLIGHT], and for a negative patience.
    """

    rate: float
    seconds: float
    in_flight: int = 1000
    patience: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= MOST_RATE:
            raise Refused(f"a rate of {self.rate:g} requests/s: it must be above 0 and at most {MOST_RATE:,.0f}")
        if not 0 < self.seconds <= MOST_SECONDS:
            raise Refused(f"{self.seconds:g} seconds: it must be above 0 and at most {MOST_SECONDS:,.0f}")
        if not 1 <= self.in_flight <= MOST_IN_FLIGHT:
            raise Refused(f"{self.in_flight} calls in flight: it must be 1 to {MOST_IN_FLIGHT:,}")
        if not 0 <= self.patience <= MOST_SECONDS:
            raise Refused(f"a patience of {self.patience:g} s: it must be 0 to {MOST_SECONDS:,.0f}")

    @property
    def total(self) -> int:
        """How many arrivals there are; at least one."""
        return max(1, round(self.rate * self.seconds))

    @property
    def end(self) -> float:
        """When what has no answer is given up, in seconds from the start."""
        return self.seconds + self.patience

    def share(self, parts: int) -> "Plan":
        """Return the plan of one of `parts` processes that carry this one out together."""
        return replace(self, rate=self.rate / parts, in_flight=-(-self.in_flight // parts))

    def at(self, index: int) -> float:
        """Return when arrival `index` (from 0) is due, in seconds from the start."""
        return index / self.rate

    def due(self, elapsed: float) -> int:
        """Return how many arrivals are due `elapsed` seconds after the start."""
        found = int(elapsed * self.rate) + 1
        if self.at(found) <= elapsed:  # the product was rounded down across a whole number
            found += 1
        return min(self.total, found)
