"""A scrape read back: the samples that a service shows, for who looks at it from outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Scrape:
    """Labels and values of the samples, by their name."""

    samples: Mapping[str, Sequence[tuple[Mapping[str, str], float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> "Scrape":
        """Read Prometheus' own format; ValueError for something else."""
        found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return cls(found)

    def rows(self, name: str) -> Sequence[tuple[Mapping[str, str], float]]:
        """Return labels and values of a name, none where it is not shown."""
        return self.samples.get(name, ())

    def since(self, earlier: "Scrape") -> "Scrape":
        """Return by how much the samples grew since an earlier scrape; without those that did not."""
        grown: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for name, rows in self.samples.items():
            before = {tuple(sorted(labels.items())): value for labels, value in earlier.rows(name)}
            for labels, value in rows:
                by = value - before.get(tuple(sorted(labels.items())), 0.0)
                if by > 0:
                    grown.setdefault(name, []).append((labels, by))
        return Scrape(grown)

    def total(self, name: str) -> float:
        """Return the sum of the values of a name."""
        return sum(value for _, value in self.rows(name))

    def most(self, name: str) -> float:
        """Return the largest value of a name, 0 where it is not shown."""
        return max((value for _, value in self.rows(name)), default=0.0)
