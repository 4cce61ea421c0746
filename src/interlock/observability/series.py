"""Numbers kept in plain lists while calls run, and turned into samples when somebody asks: histograms and counters."""

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from interlock.call import TraceContext

log = logging.getLogger("interlock.metrics")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper bounds of buckets of durations; the standard's thresholds (10, 50, 100, 500 ms, 2 s) are among them."""
AGES = (0.01, 0.1, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 86400.0)
"""Upper bounds of buckets of ages, in seconds."""
BYTES = (256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0)
"""Upper bounds of buckets of sizes."""

Reading: TypeAlias = float | Mapping[tuple[str, ...], float]
"""A gauge's value, or one for each combination of its labels' values."""


class Series:
    """What is counted under one set of labels; `buckets` are not cumulative here.

    A value of a sampled trace is kept as its bucket's exemplar, the latest of each.
    """

    __slots__ = ("bounds", "buckets", "counts", "exemplars", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.counts: dict[str, int] = {}
        self.exemplars: dict[int, tuple[str, float, float]] = {}

    def add(self, value: float, status: str = "", trace: TraceContext | None = None) -> None:
        """Count one."""
        at = bisect_left(self.bounds, value)
        self.buckets[at] += 1
        self.sum += value
        self.counts[status] = self.counts.get(status, 0) + 1
        if trace is not None and trace.sampled:
            self.exemplars[at] = (trace.trace_id, value, time.time())


class Table(Collector):
    """Series of one histogram and, where it has a name, the counter by status beside it."""

    def __init__(
        self,
        histogram: tuple[str, str],
        counter: tuple[str, str] | None = None,
        labels: tuple[str, ...] = (),
        bounds: tuple[float, ...] = SECONDS,
    ) -> None:
        self._histogram = histogram
        self._counter = counter
        self._labels = labels
        self._bounds = bounds
        self._edges = (*map(str, bounds), "+Inf")
        self._series: dict[tuple[str, ...], Series] = {}

    def series(self, *values: str) -> Series:
        """Return the series of these labels' values, made where it is new."""
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = Series(self._bounds)
        return found

    def counted(self) -> dict[tuple[str, ...], Series]:
        """Return the series that hold something."""
        return {values: each for values, each in self._series.items() if each.counts}

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        used = self.counted()
        if self._counter is not None:
            counter = CounterMetricFamily(*self._counter, labels=(*self._labels, "status"))
            for values, each in used.items():
                for status, count in each.counts.items():
                    counter.add_metric((*values, status), count)
            yield counter
        histogram = HistogramMetricFamily(*self._histogram, labels=self._labels)
        for values, each in used.items():
            histogram.add_metric(values, self._buckets(each), each.sum)
        yield histogram

    def _buckets(self, series: Series) -> Sequence[tuple[str, float] | tuple[str, float, Exemplar]]:
        total = 0
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for at, (edge, count) in enumerate(zip(self._edges, series.buckets, strict=True)):
            total += count
            kept = series.exemplars.get(at)
            if kept is None:
                buckets.append((edge, float(total)))
            else:
                buckets.append((edge, float(total), Exemplar({"trace_id": kept[0]}, kept[1], kept[2])))
        return buckets


class Counts(Collector):
    """A counter, with a number for each combination of its labels' values."""

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...] = ()) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._counts: dict[tuple[str, ...], float] = {}

    def add(self, *values: str, by: float = 1.0) -> None:
        """Count `by` more."""
        self._counts[values] = self._counts.get(values, 0.0) + by

    def collect(self) -> Iterator[Metric]:
        """Yield the family."""
        counter = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, count in self._counts.items():
            counter.add_metric(values, count)
        yield counter


class Read(Collector):
    """A gauge or a counter that is read when somebody asks."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: tuple[str, ...],
        read: Callable[[], Reading],
        kind: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily,
    ) -> None:
        self._name, self._documentation, self._labels, self._read = name, documentation, labels, read
        self._kind = kind

    def collect(self) -> Iterator[Metric]:
        """Yield the family; nothing where it can't be read."""
        family = self._kind(self._name, self._documentation, labels=self._labels)
        try:
            reading = self._read()
        except Exception:
            log.exception("the gauge %s can't be read", self._name)
            return
        for values, value in reading.items() if isinstance(reading, Mapping) else [((), reading)]:
            family.add_metric(values, value)
        yield family
