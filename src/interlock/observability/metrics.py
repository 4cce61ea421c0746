"""Prometheus metrics of an app: requests counted and timed under the standard's names, and what else is worth a number.

A call costs two additions: its series are bound at start and kept in plain lists, which a collector turns into
samples when somebody asks. Workers of one service are merged in every scrape (`snapshots.py`).
"""

import asyncio
import contextlib
import logging
import platform
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version as package_version
from time import time
from typing import Any, TypeAlias, TypeVar
from weakref import WeakMethod

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from interlock.call import Outcome
from interlock.contract.model import Operation
from interlock.contract.rest_shape import success_status
from interlock.errors import Error
from interlock.observability.cloudwatch import CloudWatch
from interlock.observability.families import Family, Merge, families, merged, text
from interlock.observability.readings import FRESH, Ask, Readings
from interlock.observability.series import AGES, BYTES, SECONDS, Counts, Read, Reading, Series, Table
from interlock.observability.snapshots import Snapshots

log = logging.getLogger("interlock.metrics")

BOUNDS = SECONDS
UNMATCHED = "unmatched"
"""The endpoint of whatever reached no operation, so that random paths make no series."""
_VERBS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GRPC", "CONNECT"))
_RPC = frozenset(("GRPC", "CONNECT"))
_LABELS = ("method", "endpoint")
_STATES = {"closed": 0.0, "half-open": 1.0, "open": 2.0}

C = TypeVar("C", bound=Collector)
Record: TypeAlias = Callable[[Outcome], None]
States: TypeAlias = Callable[[], Mapping[str, Any]]
"""Tells the state of each breaker of one target, by RPC path; a state's `value` is `closed`, `half-open` or `open`."""
_Bound: TypeAlias = tuple[Series, Series, Series, str]
"""The durations and sizes of one method and endpoint, and the status of its success."""


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
        self.requests = self._add(
            Table(
                ("service_request_duration_seconds", "Time from a request's head to its reply's end."),
                ("service_requests", "Requests served and events consumed, by outcome."),
                _LABELS,
            )
        )
        """What was served, by method and endpoint, and how it ended."""
        self._received = self._sizes("service_request_size_bytes", "Messages of a request, encoded, uncompressed.")
        self._replied = self._sizes("service_reply_size_bytes", "Messages of a reply, encoded, uncompressed.")
        self._external = self._add(
            Table(
                ("service_external_duration_seconds", "Time of calls to other services, with all attempts."),
                ("service_external_requests", "Calls to other services, by outcome."),
                _LABELS,
            )
        )
        self._retries = self._add(Counts("service_retries", "Attempts after the first.", ("endpoint",)))
        self._ages = self._add(
            Table(
                ("service_event_age_seconds", "Time from an event's publication to its end here."),
                labels=("endpoint",),
                bounds=AGES,
            )
        )
        self._dead = self._add(Counts("service_dead_letters", "Events that were given up.", ("endpoint",)))
        self._breakers: list[tuple[str, WeakMethod[States]]] = []
        self.cloudwatch: CloudWatch | None = None
        """Who writes lines for CloudWatch; started and stopped with the metrics."""
        self.readings = Readings(shared=None if shared is None else shared.readings)
        """What is true of the whole service, and asked for at the database or the broker."""
        self.database = self.timer("service_database_duration_seconds", "Time of database statements.")
        self.publish = self.timer("service_publish_duration_seconds", "Time until an event is stored or sent.")
        facts = {
            "service": service,
            "version": version,
            "interlock": package_version("interlock"),
            "python": platform.python_version(),
        }
        self.registry.register(_Build({name: value for name, value in facts.items() if value}))
        ProcessCollector(registry=self.registry)

    # --- recording --------------------------------------------------------------------------------------------------

    def served(self, operation: Operation) -> Record:
        """Measure SERVED calls of an operation: a `Meter`."""
        rpc, connect = (self._bound(method, operation.path, "OK") for method in ("GRPC", "CONNECT"))
        routes = {
            id(each): self._bound(each.verb, each.template.text, str(success_status(operation, each)))
            for each in operation.http
        }
        elsewhere = self._bound("OTHER", UNMATCHED, "200")

        def record(outcome: Outcome) -> None:
            call, error = outcome.call, outcome.error
            if call.protocol == "rest":
                binding = getattr(call.incoming, "binding", None)
                series, received, replied, status = routes.get(id(binding), elsewhere)
                if error is not None:
                    status = str(error.http_status)
            else:
                series, received, replied, status = connect if call.protocol == "connect" else rpc
                if error is not None:
                    status = error.code.name
            series.add(outcome.duration, status, call.trace)
            if call.request_bytes:
                received.add(call.request_bytes)
            if call.reply_bytes:
                replied.add(call.reply_bytes)

        return record

    def _bound(self, method: str, endpoint: str, status: str) -> _Bound:
        tables = (self.requests, self._received, self._replied)
        series, received, replied = (each.series(method, endpoint) for each in tables)
        return series, received, replied, status

    def consumed(self, operation: Operation) -> Record:
        """Measure CONSUMED calls: a `Meter`; the operation's name is the event's type."""
        count, dead = _by_code(self.requests.series("EVENT", operation.name)), self._dead
        ages = self._ages.series(operation.name)
        dead.add(operation.name, by=0)  # an increase is seen only of what was there before

        def record(outcome: Outcome) -> None:
            count(outcome)
            call = outcome.call
            if (published := getattr(call.incoming, "published", None)) is not None:
                ages.add(max(0.0, time() - published.timestamp()), "", call.trace)
            if getattr(call.incoming, "buried", False):
                dead.add(operation.name)

        return record

    def sent(self, operation: Operation) -> Record:
        """Measure SENT calls: a `Meter`."""
        path, retries = operation.path, self._retries
        retries.add(path, by=0)
        grpc, connect = (_by_code(self._external.series(method, path)) for method in ("GRPC", "CONNECT"))

        def record(outcome: Outcome) -> None:
            call = outcome.call
            (connect if call.protocol == "connect" else grpc)(outcome)
            if call.attempts > 1:
                retries.add(path, by=call.attempts - 1)

        return record

    def external(self, verb: str, target: str) -> Callable[..., None]:
        """Return what records seconds and status of calls to a service that has no contract here.

        `target` is a name of your choice, not a URL of a request, so that series stay few.
        """
        return self._external.series(verb if verb in _VERBS else "OTHER", target).add

    def outbound(self, operation: Operation) -> Record:
        """Measure calls over plain HTTP, where an operation is a verb of a target: a `Meter`."""
        add, target, retries = self.external(operation.name, operation.service), operation.service, self._retries
        retries.add(target, by=0)

        def record(outcome: Outcome) -> None:
            call, error = outcome.call, outcome.error
            status = str(getattr(call.request, "status", 0) or ("OK" if error is None else error.code.name))
            add(outcome.duration, status, call.trace)
            if call.attempts > 1:
                retries.add(target, by=call.attempts - 1)

        return record

    def breakers(self, target: str, states: States) -> None:
        """Show the states of a client's breakers, a method, for as long as the client lives."""
        if not self._breakers:
            self.gauge(
                "service_circuit_breaker_state",
                "Circuit to a neighbour: 0 closed, 1 half-open, 2 open.",
                self._circuits,
                labels=("target", "endpoint"),
                merge="max",
            )
        self._breakers = [each for each in self._breakers if each[1]() is not None]
        self._breakers.append((target, WeakMethod(states)))

    def _circuits(self) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for target, reference in self._breakers:
            states = reference()
            for path, state in ({} if states is None else states()).items():
                found[target, path] = max(_STATES.get(state.value, 0.0), found.get((target, path), 0.0))
        return found

    def published(self, _operation: Operation) -> Record:
        """Time PUBLISHED calls: a `Meter`."""
        publish = self.publish

        def record(outcome: Outcome) -> None:
            publish(outcome.duration, "", outcome.call.trace)

        return record

    def refused(self, method: str, error: Error, seconds: float = 0.0) -> None:
        """Count a request that reached no operation; `method` is the HTTP verb, or `GRPC` or `CONNECT`."""
        known = method if method in _VERBS else "OTHER"
        status = error.code.name if known in _RPC else str(error.http_status)
        self.requests.series(known, UNMATCHED).add(seconds, status)

    def timer(self, name: str, documentation: str) -> Callable[..., None]:
        """Return what records seconds into a histogram of that name; ValueError if there is one already."""
        return self._add(Table((name, documentation))).series().add

    def counter(
        self, name: str, documentation: str, read: Callable[[], Reading], *, labels: tuple[str, ...] = ()
    ) -> None:
        """Show a count that `read` gives when asked, kept elsewhere; it must only grow while the process lives."""
        self.registry.register(Read(name, documentation, labels, read, CounterMetricFamily))

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
        self.registry.register(Read(name, documentation, labels, read))

    def reading(
        self, name: str, documentation: str, ask: Ask, *, labels: tuple[str, ...] = (), fresh: float = FRESH
    ) -> None:
        """Show numbers of the whole service that `ask` gives, within a second, when somebody scrapes.

        They are not asked for again for `fresh` seconds, whichever worker is scraped.
        """
        self.readings.add(name, documentation, ask, labels, fresh)

    def _sizes(self, name: str, documentation: str) -> Table:
        return self._add(Table((name, documentation), labels=_LABELS, bounds=BYTES))

    def _add(self, collector: C) -> C:
        self.registry.register(collector)
        return collector

    # --- showing ----------------------------------------------------------------------------------------------------

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Return content type and text of all workers' metrics, in the format that the Accept header asks for."""
        own = self._own()
        if self._shared is not None and self._writing is not None:
            own = merged([own, self._shared.others()])
        return text([*own, *families(self.readings, {})], accept)

    async def refresh(self) -> None:
        """Read what must be asked for elsewhere, so that `exposition` shows it."""
        await self.readings.refresh()

    def _own(self) -> list[Family]:
        return families(self.registry, self._modes)

    # --- sharing ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to leave snapshots, where workers share a directory."""
        if self.cloudwatch is not None:
            await self.cloudwatch.start()
        if self._shared is not None and self._writing is None:
            self._over = asyncio.Event()
            self._shared.open()
            self._shared.write(self._own())
            self._writing = asyncio.create_task(self._write(self._shared))

    async def stop(self) -> None:
        """Leave the last snapshot."""
        if self.cloudwatch is not None:
            await self.cloudwatch.stop()
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


def _by_code(series: Series) -> Record:
    def record(outcome: Outcome) -> None:
        error = outcome.error
        series.add(outcome.duration, "OK" if error is None else error.code.name, outcome.call.trace)

    return record
