"""An ended call as a span of the OpenTelemetry SDK, with the attributes of its conventions (rpc, http, messaging).

Spans are made when the call is over, so that a call that runs holds nothing but its ids. Imported only where traces
are exported: the SDK costs 110 ms and 10 MB.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import getrandbits
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from interlock.call import Call, Direction, Outcome, TraceContext
from interlock.contract.rest_shape import success_status
from interlock.errors import Code, Error
from interlock.observability.attributes import extractor
from interlock.observability.export import OtlpExporter
from interlock.observability.statements import summary
from interlock.observability.tracing import Position
from interlock.stamps import uuid7

LINKS = 128
"""Links that one span holds, as the SDK's own limit is."""
LATE = 10
"""Spans a second, at most, of calls that failed without being sampled."""

# what the server is to blame for (OpenTelemetry semantic conventions for gRPC, "span status")
SERVERS_FAULT = frozenset(
    (Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS)
)
_WORTH_A_SPAN = SERVERS_FAULT - {Code.UNIMPLEMENTED}
_KINDS = {
    Direction.SERVED: SpanKind.SERVER,
    Direction.SENT: SpanKind.CLIENT,
    Direction.CONSUMED: SpanKind.CONSUMER,
    Direction.PUBLISHED: SpanKind.PRODUCER,
}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET, _SCOPE = Status(StatusCode.UNSET), InstrumentationScope("interlock")
_SYSTEMS = {"connect": "connectrpc"}


class Spans:
    """Makes spans of ended calls and queues them for the exporting thread, which starts here.

    At most `queue` spans wait; a batch leaves every `delay` seconds, or once it is full.
    """

    def __init__(
        self,
        resource: Mapping[str, str],
        exporter: OtlpExporter,
        *,
        queue: int,
        delay: float,
        slow: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resource = Resource({**_process(), **resource})
        self._exporter = exporter
        self._room, self._queued = queue, 0
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=queue,
            schedule_delay_millis=delay * 1000,
            max_export_batch_size=min(512, queue),
        )
        self._clock = clock
        self._slow = slow or float("inf")
        self._second, self._late = 0, 0
        self.ended = self._ended

    def _ended(self, outcome: Outcome) -> None:
        position = outcome.call.trace
        if not isinstance(position, Position):
            return
        if not position.sampled and not self._may_be_late(outcome):
            return
        if self._has_room():
            self._processor.on_end(self._span(outcome, position))

    def _has_room(self) -> bool:
        """Take a place in the queue, before a span is made that it would drop."""
        if self._queued - self._exporter.taken >= self._room:
            self._exporter.left_out += 1
            return False
        self._queued += 1
        return True

    @property
    def lost(self) -> int:
        """How many spans were lost so far."""
        return self._exporter.lost

    def _may_be_late(self, outcome: Outcome) -> bool:
        """Tell whether a call that was not sampled gets a span for its failure or slowness, if that is worth one."""
        error = outcome.error
        if (error is None or error.code not in _WORTH_A_SPAN) and not self._is_slow(outcome):
            return False
        second = int(self._clock())
        if second != self._second:
            self._second, self._late = second, 0
        self._late += 1
        return self._late <= LATE

    def _is_slow(self, outcome: Outcome) -> bool:
        kind = outcome.call.operation.kind
        return outcome.duration >= self._slow and not (kind.client_streams or kind.server_streams)

    def stated(self, parent: TraceContext, seconds: float, system: str, statement: object) -> None:
        """Queue the span of a database statement below `parent` (semantic conventions, "database client spans")."""
        if not self._has_room():
            return
        verb, target = summary(statement)
        told = f"{verb} {target}".strip() or system
        attributes: dict[str, str] = {"db.system.name": system, "db.query.summary": told}
        if verb:
            attributes["db.operation.name"] = verb
        if target:
            attributes["db.collection.name"] = target
        trace_id, ended = int(parent.trace_id, 16), time.time_ns()
        self._processor.on_end(
            ReadableSpan(
                name=told,
                context=SpanContext(trace_id, getrandbits(64) or 1, False, _SAMPLED),
                parent=SpanContext(trace_id, int(parent.span_id, 16), False, _SAMPLED),
                resource=self._resource,
                attributes=attributes,
                kind=SpanKind.CLIENT,
                status=_UNSET,
                start_time=ended - int(seconds * 1e9),
                end_time=ended,
                instrumentation_scope=_SCOPE,
            )
        )

    def relayed(self, events: Sequence[TraceContext], count: int, seconds: float) -> None:
        """Queue the span of a batch of `count` events that left the outbox, linked to those that are sampled."""
        if not self._has_room():
            return
        ended = time.time_ns()
        links = [
            Link(SpanContext(int(each.trace_id, 16), int(each.span_id, 16), False, _SAMPLED)) for each in events[:LINKS]
        ]
        attributes: dict[str, str | int] = {
            "messaging.system": "interlock",
            "messaging.operation.name": "relay",
            "messaging.operation.type": "send",
            "messaging.batch.message_count": count,
        }
        self._processor.on_end(
            ReadableSpan(
                name="relay",
                context=SpanContext(int(uuid7().replace("-", ""), 16), getrandbits(64) or 1, False, _SAMPLED),
                resource=self._resource,
                attributes=attributes,
                links=links,
                kind=SpanKind.PRODUCER,
                status=_UNSET,
                start_time=ended - int(seconds * 1e9),
                end_time=ended,
                instrumentation_scope=_SCOPE,
            )
        )

    def _span(self, outcome: Outcome, position: Position) -> ReadableSpan:
        call, error = outcome.call, outcome.error
        name, attributes = _described(call, error)
        if position.attempt:
            attributes["interlock.attempt"] = call.attempts
        attributes.update(_facts(call))
        if position.facts:
            attributes.update(position.facts)
        ended = time.time_ns()
        trace_id = int(position.trace_id, 16)
        parent = None
        if position.parent_id:
            remote = call.direction in (Direction.SERVED, Direction.CONSUMED)
            parent = SpanContext(trace_id, int(position.parent_id, 16), remote, _SAMPLED)
        return ReadableSpan(
            name=f"{name} attempt" if position.attempt else name,
            context=SpanContext(trace_id, int(position.span_id, 16), False, _SAMPLED),
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            events=tuple(_events(position, error, ended)),
            kind=_KINDS[call.direction],
            status=_status(call, error),
            start_time=ended - int(outcome.duration * 1e9),
            end_time=ended,
            instrumentation_scope=_SCOPE,
        )

    async def flush(self, limit: float) -> None:
        """Export what waits, for `limit` seconds at most."""
        await _in_daemon(self._processor.force_flush, limit)

    async def close(self, limit: float) -> None:
        """Export what waits and end the thread, within `limit` seconds or not at all."""
        self._exporter.hasten()
        await _in_daemon(self._processor.shutdown, limit)


async def _in_daemon(work: Callable[[], Any], limit: float) -> bool:
    """Run blocking `work`, and tell whether it was done in time; a process that ends does not wait for it."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def run() -> None:
        work()
        try:
            loop.call_soon_threadsafe(done.set)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=run, name="interlock-tracing", daemon=True).start()
    try:
        await asyncio.wait_for(done.wait(), limit)
    except TimeoutError:
        return False
    return True


def _process() -> dict[str, str | int | float | bool]:
    return {
        "service.instance.id": uuid7(),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": sdk_version,
        "telemetry.distro.name": "interlock",
    }


def _described(call: Call, error: Error | None) -> tuple[str, dict[str, str | int | float | bool]]:
    """Return the span's name and attributes, by what the call is."""
    attributes: dict[str, str | int | float | bool] = {"interlock.request_id": call.request_id}
    if call.direction in (Direction.CONSUMED, Direction.PUBLISHED):
        name = _messaging(call, error, attributes)
    elif call.protocol == "rest":
        name = _http(call, error, attributes)
    elif call.protocol == "http":
        name = _external(call, error, attributes)
    else:
        name = _rpc(call, error, attributes)
    if (principal := call.principal) is not None:
        attributes["enduser.id"] = principal.subject
        if principal.actors:
            attributes["interlock.actors"] = " ".join(principal.actors)
    address, _, port = call.peer.address.rpartition(":")
    if address:
        attributes["client.address"] = attributes["network.peer.address"] = address.strip("[]")
        attributes["client.port"] = attributes["network.peer.port"] = int(port)
    return name, attributes


def _rpc(call: Call, error: Error | None, attributes: dict[str, str | int | float | bool]) -> str:
    operation, code = call.operation, Code.OK if error is None else error.code
    method = f"{operation.service}/{operation.name}"
    attributes["rpc.system.name"] = _SYSTEMS.get(call.protocol, "grpc")
    attributes["rpc.method"] = method
    attributes["rpc.response.status_code"] = code.name
    if call.protocol:
        attributes["network.protocol.name"] = call.protocol
    if error is not None:
        attributes["error.type"] = code.name
    return method


def _http(call: Call, error: Error | None, attributes: dict[str, str | int | float | bool]) -> str:
    binding = getattr(call.incoming, "binding", None)
    verb, route = (binding.verb, str(binding.template)) if binding is not None else ("HTTP", call.operation.path)
    attributes["http.request.method"] = verb
    attributes["http.route"] = route
    attributes["interlock.operation"] = call.operation.path
    if call.peer.scheme:
        attributes["url.scheme"] = call.peer.scheme
    if error is not None:
        attributes["http.response.status_code"] = error.http_status
        attributes["error.type"] = str(error.http_status) if error.http_status >= 500 else error.code.name
    elif binding is not None:
        attributes["http.response.status_code"] = success_status(call.operation, binding)
    return f"{verb} {route}"


def _external(call: Call, error: Error | None, attributes: dict[str, str | int | float | bool]) -> str:
    name, own = call.request.span()
    attributes.update(own)
    if error is not None:
        status = own.get("http.response.status_code")
        attributes["error.type"] = error.code.name if status is None else str(status)
    return str(name)


def _messaging(call: Call, error: Error | None, attributes: dict[str, str | int | float | bool]) -> str:
    verb, kind = ("process", "process") if call.direction is Direction.CONSUMED else ("publish", "send")
    destination = call.operation.name
    attributes["messaging.system"] = "interlock" if call.protocol in ("", "event") else call.protocol
    attributes["messaging.operation.name"] = verb
    attributes["messaging.operation.type"] = kind
    attributes["messaging.destination.name"] = destination
    if call.direction is Direction.CONSUMED:
        attributes["messaging.consumer.group.name"] = call.operation.service
    if (message_id := call.metadata.get("ce-id")) is not None:
        attributes["messaging.message.id"] = message_id
    if error is not None:
        attributes["error.type"] = error.code.name
    return f"{verb} {destination}"


def _status(call: Call, error: Error | None) -> Status:
    """Say ERROR for what the recording side is to blame for: a server for its own failures, others for any."""
    if error is None:
        return _UNSET
    if call.direction is Direction.SERVED:
        blamed = error.http_status >= 500 if call.protocol == "rest" else error.code in SERVERS_FAULT
        if not blamed:
            return _UNSET
    return Status(StatusCode.ERROR, f"{error.reason}: {error.message}" if error.message else error.reason)


def _facts(call: Call) -> dict[str, str | int | float | bool]:
    """Return what the contract wants a trace to show of the request, or the event."""
    operation = call.operation
    extract = None if operation.kind.client_streams else extractor(operation.request_type)
    if extract is None or not isinstance(call.request, operation.request_type):
        return {}
    return extract(call.request)


def _events(position: Position, error: Error | None, ended: int) -> Iterator[Event]:
    for name, facts, at in position.notes or ():
        yield Event(name, facts, timestamp=at)
    if error is not None:
        if error.event:
            yield Event(error.event, timestamp=ended)
        yield _exception(error, ended)


def _exception(error: Error, at: int) -> Event:
    """Record what a caller could see of an error; its cause and traceback stand in the log only."""
    return Event(
        "exception",
        {"exception.type": type(error).__name__, "exception.message": error.message, "error.reason": error.reason},
        timestamp=at,
    )
