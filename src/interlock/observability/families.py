"""Metric families as plain values: taken from a registry, merged over workers, kept as JSON, shown as text."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

Merge: TypeAlias = Literal["sum", "max", "min"]
"""How the values of several workers become one."""

Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and labels."""

Shown: TypeAlias = tuple[str, float, float]
"""An exemplar: trace id, value, epoch seconds."""

GROWING = frozenset(("counter", "histogram", "summary"))
"""Types whose values only grow, so that those of a worker that is gone still count."""

_COMBINE: dict[Merge, Callable[[float, float], float]] = {"sum": lambda a, b: a + b, "max": max, "min": min}


@dataclass(slots=True, kw_only=True)
class Family:
    """One metric with all its samples."""

    name: str
    documentation: str
    type: str
    merge: Merge
    samples: dict[Key, float] = field(default_factory=dict)
    exemplars: dict[Key, Shown] = field(default_factory=dict)

    def add(self, other: "Family") -> None:
        """Take in the samples of the same family of another worker."""
        mine, combine = self.samples, _COMBINE[self.merge]
        for key, value in other.samples.items():
            if key not in mine:
                mine[key] = value
            elif key[0].endswith("_created"):  # when it began, of a user's own metric
                mine[key] = min(mine[key], value)
            else:
                mine[key] = combine(mine[key], value)
        for key, shown in other.exemplars.items():
            if key not in self.exemplars or self.exemplars[key][2] < shown[2]:
                self.exemplars[key] = shown


def families(registry: CollectorRegistry | Collector, modes: dict[str, Merge]) -> list[Family]:
    """Return what `registry` holds now; `modes` names how gauges merge that are not added up."""
    found = []
    for metric in registry.collect():
        mode: Merge = modes.get(metric.name, "sum" if metric.type in GROWING or metric.type == "gauge" else "max")
        samples = {(each.name, tuple(sorted(each.labels.items()))): each.value for each in metric.samples}
        family = Family(
            name=metric.name, documentation=metric.documentation, type=metric.type, merge=mode, samples=samples
        )
        for each in metric.samples:
            if each.exemplar is not None and (trace_id := each.exemplar.labels.get("trace_id")):
                key = each.name, tuple(sorted(each.labels.items()))
                family.exemplars[key] = trace_id, each.exemplar.value, float(each.exemplar.timestamp or 0)
        found.append(family)
    return found


def merged(parts: Iterable[Iterable[Family]]) -> list[Family]:
    """Add up families of one name; those of the first part are changed in place."""
    result: dict[str, Family] = {}
    for part in parts:
        for family in part:
            known = result.setdefault(family.name, family)
            if known is not family and known.type == family.type:
                known.add(family)
    return list(result.values())


def encode(part: Iterable[Family]) -> list[Any]:
    """Return families as what JSON can hold."""
    return [
        [
            each.name,
            each.documentation,
            each.type,
            each.merge,
            [[*key, value] for key, value in each.samples.items()],
            [[*key, *shown] for key, shown in each.exemplars.items()],
        ]
        for each in part
    ]


def decode(document: Iterable[Any]) -> list[Family]:
    """Return the families of `encode`; ValueError, TypeError or KeyError if it is something else."""
    return [
        Family(
            name=str(name),
            documentation=str(documentation),
            type=str(kind),
            merge=mode if mode in _COMBINE else _COMBINE[mode],  # type: ignore[arg-type]  # the latter raises
            samples={
                (str(sample), tuple((str(label), str(text)) for label, text in labels)): float(value)
                for sample, labels, value in samples
            },
            exemplars={
                (str(sample), tuple((str(label), str(text)) for label, text in labels)): (
                    str(trace),
                    float(value),
                    float(at),
                )
                for sample, labels, trace, value, at in exemplars
            },
        )
        for name, documentation, kind, mode, samples, exemplars in document
    ]


def to_json(document: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(document, separators=(",", ":")).encode()


class _Shown(Collector):
    """Families as a collector, for the library that writes the text."""

    def __init__(self, shown: Iterable[Family]) -> None:
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        for family in self._shown:
            metric = Metric(family.name, family.documentation, family.type)
            for (name, labels), value in family.samples.items():
                shown = family.exemplars.get((name, labels))
                exemplar = None if shown is None else Exemplar({"trace_id": shown[0]}, *shown[1:])
                metric.add_sample(name, dict(labels), value, exemplar=exemplar)
            yield metric


def text(shown: Iterable[Family], accept: str) -> tuple[str, bytes]:
    """Return content type and text: OpenMetrics 1.0 where `accept` names it, else Prometheus' own format 0.0.4."""
    if "application/openmetrics-text" in accept:
        body: bytes = openmetrics.generate_latest(_Shown(shown))  # type: ignore[no-untyped-call]
        return openmetrics.CONTENT_TYPE_LATEST, body
    return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(_Shown(shown))
