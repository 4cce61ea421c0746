"""Prometheus metrics of an app: requests counted and timed under the standard's names, and what else is worth a number.

A call costs two additions: its series are bound at start and kept in plain lists, which a collector turns into
samples when somebody asks. Workers of one service are merged in every scrape (`snapshots.py`).
"""

import asyncio
import contextlib
import logging
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from interlock.call import Outcome
from interlock.contract.model import Operation
from interlock.contract.rest_shape import success_status
from interlock.errors import Error
from interlock.observability.families import Family, Merge, families, merged, text
from interlock.observability.snapshots import Snapshots

log = logging.getLogger("interlock.metrics")

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets, in seconds; the standard's thresholds (10, 50, 100, 500 ms, 2 s) are among them."""
UNMATCHED = "unmatched"
"""The endpoint of whatever reached no operation, so that random paths make no series."""
_VERBS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GRPC", "CONNECT"))
_RPC = frozenset(("GRPC", "CONNECT"))
_LABELS = ("method", "endpoint")
_EDGES = (*map(str, BOUNDS), "+Inf")

Record: TypeAlias = Callable[[Outcome], None]
Reading: TypeAlias = float | Mapping[tuple[str, ...], float]
"""A gauge's value, or one for each combination of its labels' values."""


class _Series:
    """What is counted under one set of labels; `buckets` are not cumulative here."""

    __slots__ = ("buckets", "counts", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * len(_EDGES)
        self.sum = 0.0
        self.counts: dict[str, int] = {}

    def add(self, seconds: float, status: str = "") -> None:
        """Count one."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds
        self.counts[status] = self.counts.get(status, 0) + 1


class _Table(Collector):
    """Series of one histogram and, where it has a name, the counter beside it."""

    def __init__(self, histogram: tuple[str, str], counter: tuple[str, str] | None, labels: tuple[str, ...]) -> None:
        self._histogram = histogram
        self._counter = counter
        self._labels = labels
        self._series: dict[tuple[str, ...], _Series] = {}

    def series(self, *values: str) -> _Series:
        return self._series.setdefault(values, _Series())

    def collect(self) -> Iterator[Metric]:
        used = [(values, each) for values, each in self._series.items() if each.counts]
        if self._counter is not None:
            counter = CounterMetricFamily(*self._counter, labels=(*self._labels, "status"))
            for values, each in used:
                for status, count in each.counts.items():
                    counter.add_metric((*values, status), count)
            yield counter
        histogram = HistogramMetricFamily(*self._histogram, labels=self._labels)
        for values, each in used:
            total, buckets = 0, []
            for edge, count in zip(_EDGES, each.buckets, strict=True):
                total += count
                buckets.append((edge, float(total)))
            histogram.add_metric(values, buckets, each.sum)
        yield histogram


class _Gauge(Collector):
    """A number that is read when somebody asks."""

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...], read: Callable[[], Reading]) -> None:
        self._name, self._documentation, self._labels, self._read = name, documentation, labels, read

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(self._name, self._documentation, labels=self._labels)
        try:
            reading = self._read()
        except Exception:
            log.exception("the gauge %s can't be read", self._name)
            return
        for values, value in reading.items() if isinstance(reading, Mapping) else [((), reading)]:
            gauge.add_metric(values, value)
        yield gauge


class _Build(Collector):
    def __init__(self, facts: dict[str, str]) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("service_build", "What runs.", self._facts)


class Metrics:
    """The metrics of one app. `registry` is its own: a user's metrics of prometheus_client go there too.

    With `shared`, every worker's exposition holds those of all workers; a snapshot is left every `interval` seconds.
    """

    def __init__(
        self, service: str, *, version: str = "", shared: Snapshots | None = None, interval: float = 1.0
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._shared = shared
        self._interval = interval
        self._writing: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._modes: dict[str, Merge] = {"process_start_time_seconds": "min"}
        self._requests = self._table(
            ("service_request_duration_seconds", "Time from a request's head to its reply's end."),
            ("service_requests", "Requests served and events consumed, by outcome."),
            _LABELS,
        )
        self._external = self._table(
            ("service_external_duration_seconds", "Time of calls to other services, with all attempts."),
            ("service_external_requests", "Calls to other services, by outcome."),
            _LABELS,
        )
        self.database = self.timer("service_database_duration_seconds", "Time of database statements.")
        self.publish = self.timer("service_publish_duration_seconds", "Time until an event is stored or sent.")
        facts = {"service": service, "version": version, "python": platform.python_version()}
        self.registry.register(_Build({name: value for name, value in facts.items() if value}))
        ProcessCollector(registry=self.registry)

    # --- recording --------------------------------------------------------------------------------------------------

    def served(self, operation: Operation) -> Record:
        """Measure SERVED calls of an operation: a `Meter`."""
        rpc, connect = (self._requests.series(method, operation.path) for method in ("GRPC", "CONNECT"))
        routes = {
            id(each): (self._requests.series(each.verb, each.template.text), str(success_status(operation, each)))
            for each in operation.http
        }
        elsewhere = (self._requests.series("OTHER", UNMATCHED), "200")

        def record(outcome: Outcome) -> None:
            call, error = outcome.call, outcome.error
            if call.protocol == "rest":
                binding = getattr(call.incoming, "binding", None)
                series, status = routes.get(id(binding), elsewhere)
                if error is not None:
                    status = str(error.http_status)
            else:
                series = connect if call.protocol == "connect" else rpc
                status = "OK" if error is None else error.code.name
            series.add(outcome.duration, status)

        return record

    def consumed(self, operation: Operation) -> Record:
        """Measure CONSUMED calls: a `Meter`; the operation's name is the event's type."""
        return _by_code(self._requests.series("EVENT", operation.name))

    def sent(self, operation: Operation) -> Record:
        """Measure SENT calls: a `Meter`."""
        return _by_code(self._external.series("GRPC", operation.path))

    def published(self, _operation: Operation) -> Record:
        """Time PUBLISHED calls: a `Meter`."""
        publish = self.publish

        def record(outcome: Outcome) -> None:
            publish(outcome.duration)

        return record

    def refused(self, method: str, error: Error, seconds: float = 0.0) -> None:
        """Count a request that reached no operation; `method` is the HTTP verb, or `GRPC` or `CONNECT`."""
        known = method if method in _VERBS else "OTHER"
        status = error.code.name if known in _RPC else str(error.http_status)
        self._requests.series(known, UNMATCHED).add(seconds, status)

    def timer(self, name: str, documentation: str) -> Callable[[float], None]:
        """Return what records seconds into a histogram of that name; ValueError if there is one already."""
        return self._table((name, documentation), None, ()).series().add

    def gauge(
        self,
        name: str,
        documentation: str,
        read: Callable[[], Reading],
        *,
        labels: tuple[str, ...] = (),
        merge: Merge = "sum",
    ) -> None:
        """Show a number that `read` gives when asked; `merge` is how those of several workers become one."""
        self._modes[name] = merge
        self.registry.register(_Gauge(name, documentation, labels, read))

    def _table(self, *arguments: Any) -> _Table:
        table = _Table(*arguments)
        self.registry.register(table)
        return table

    # --- showing ----------------------------------------------------------------------------------------------------

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Return content type and text of all workers' metrics, in the format that the Accept header asks for."""
        own = self._own()
        if self._shared is not None and self._writing is not None:
            own = merged([own, self._shared.others()])
        return text(own, accept)

    def _own(self) -> list[Family]:
        return families(self.registry, self._modes)

    # --- sharing ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to leave snapshots, where workers share a directory."""
        if self._shared is not None and self._writing is None:
            self._over = asyncio.Event()
            self._shared.open()
            self._shared.write(self._own())
            self._writing = asyncio.create_task(self._write(self._shared))

    async def stop(self) -> None:
        """Leave the last snapshot."""
        writing, self._writing = self._writing, None
        if writing is not None and self._shared is not None:
            self._over.set()
            await writing  # not cancelled: a snapshot that is being written must not replace the last one
            await self._write_once(self._shared)
            self._shared.close()

    async def _write(self, shared: Snapshots) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._interval)
            if self._over.is_set():
                return
            await self._write_once(shared)

    async def _write_once(self, shared: Snapshots) -> None:
        try:
            await asyncio.to_thread(shared.write, self._own())
        except OSError as error:
            log.warning("the metrics of this worker can't be shared: %s", error)


def _by_code(series: _Series) -> Record:
    def record(outcome: Outcome) -> None:
        error = outcome.error
        series.add(outcome.duration, "OK" if error is None else error.code.name)

    return record
