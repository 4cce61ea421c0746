"""Figures: what was measured in every round, its median and spread, and the goal it is held against."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound: at most `limit`, or at least."""

    limit: float
    at_most: bool = False

    def met(self, value: float) -> bool:
        """Tell whether `value` keeps the bound."""
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity of one subject: a value a round."""

    subject: str
    quantity: str
    unit: str
    values: Sequence[float]
    goal: Goal | None = None

    @property
    def median(self) -> float:
        """The value quoted."""
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.goal is None else self.goal.met(self.median)


@dataclass(slots=True)
class Section:
    """A table: figures of several subjects, how they were got, and the subjects that could not be measured."""

    name: str
    title: str
    how: str
    figures: list[Figure] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, subject: str, quantity: str, unit: str, values: Sequence[float], goal: Goal | None = None) -> None:
        """Add a figure."""
        self.figures.append(Figure(subject, quantity, unit, values, goal))


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: rounds, and the share of the full number of requests."""

    rounds: int
    share: float = 1.0

    def of(self, full: int) -> int:
        """Return how many of `full` requests are made."""
        return max(1, int(full * self.share))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Divide round by round, so that what disturbed a whole round cancels out."""
    return [each / other for each, other in zip(numerators, denominators, strict=True)]
