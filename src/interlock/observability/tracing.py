"""One trace through calls and events: W3C Trace Context kept in every direction, sampled calls recorded as spans.

Whether a call is sampled is decided here, from the bits of its trace id and before the OpenTelemetry SDK is touched:
a call that is not sampled costs two ids. A sampled call becomes one span when it has ended (`spans.py`), which goes
through a bounded queue to a collector over OTLP/HTTP (`export.py`); no call ever waits for that.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import getrandbits
from typing import TYPE_CHECKING, TypeAlias

from interlock.call import Call, Direction, Handler, Layer, Middleware, Reply, TraceContext, current_call
from interlock.contract.model import Operation
from interlock.metadata import Metadata
from interlock.observability.attributes import Extract, extractor, server

if TYPE_CHECKING:
    from interlock.observability.bulkheads import Places
    from interlock.observability.measure import Meter
    from interlock.observability.metrics import States
    from interlock.observability.spans import Spans

HEADER = "traceparent"
_NAME = HEADER.encode()
RESPONSE = b"traceresponse"
"""Tells the caller the trace (W3C Trace Context level 2 §4): with every REST answer, else with what is sampled."""
_version_0 = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z").match
_later = re.compile(
    rb"(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x20-\x7e]*)?\Z"
).match
_ODD = frozenset("13579bdf")  # the lowest bit of the flags: sampled
_RANDOM = (1 << 56) - 1  # the bits of a trace id that are random in every implementation (W3C level 2 §3.3.1)


def parse(header: bytes) -> TraceContext | None:
    """Return what a `traceparent` header says (W3C Trace Context §3.2), None unless it is wholly sound.

    Version 00 is taken to the letter; of later versions, as the standard asks, the part that all of them share.
    """
    if not (_version_0(header) or _later(header)):
        return None
    text = header.decode()
    return TraceContext(text[3:35], text[36:52], text[54] in _ODD)


Note: TypeAlias = tuple[str, Mapping[str, str | int], int]
"""An event of a span: its name, attributes, and when (epoch nanoseconds)."""
NOTES = 32
"""Events that one span holds."""


class Position(TraceContext):
    """Where a call stands, with what its own span needs: the parent's span id (empty for a root), who traces it."""

    __slots__ = ("attempt", "facts", "notes", "parent_id", "tracing")

    # a frozen dataclass sets its fields five times slower, which is half of what a call that is not sampled costs
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init__(self, trace_id: str, span_id: str, sampled: bool, parent_id: str, tracing: "Tracing | None") -> None:
        self.trace_id = trace_id  # type: ignore[misc]  # see above
        self.span_id = span_id  # type: ignore[misc]
        self.sampled = sampled  # type: ignore[misc]
        self.parent_id = parent_id
        self.tracing = tracing
        self.attempt = False
        self.facts: dict[str, str | int | float | bool] | None = None
        self.notes: list[Note] | None = None

    def note(self, name: str, **facts: str | int) -> None:
        """Note an event of the call, for its span; the first few count."""
        if self.notes is None:
            self.notes = []
        if len(self.notes) < NOTES:
            self.notes.append((name, facts, time.time_ns()))


class Tracing:
    """The traces of one app: decides what is sampled, and has it exported between `start` and `stop`.

    `endpoint` is the collector's base URL (`http://localhost:4318`) or that of its traces (`…/v1/traces`); without one
    ids travel on and nothing is recorded. `ratio` is the share of new traces that is sampled, from 0 to 1; a trace
    that came from a caller keeps the caller's decision, unless `heeds_callers` is off (at an edge whom anybody may
    call, so that nobody can have every call recorded). `headers` go with each export and may hold credentials. At most
    `queue` spans wait for the collector, more are dropped. `sent` measures the calls that are made while one of ours
    is served. A call of `slow` seconds or more (0: never) is recorded though it was not sampled, as those are that
    failed by the service's fault; a few each second. `external` measures those to services without a
    contract. `breakers` and `bulkheads` show those of the clients (see `metrics_of_caller`). Belongs to one event loop.
    """

    def __init__(
        self,
        service_name: str,
        *,
        endpoint: str | None = None,
        ratio: float = 1.0,
        heeds_callers: bool = True,
        service_version: str = "",
        environment: str = "",
        headers: Mapping[str, str] | None = None,
        queue: int = 2048,
        delay: float = 1.0,
        sent: "Meter | None" = None,
        external: "Meter | None" = None,
        breakers: "Callable[[str, States], None] | None" = None,
        bulkheads: "Callable[[str, Places], None] | None" = None,
        slow: float = 0.0,
    ) -> None:
        if not 0.0 <= ratio <= 1.0:
            raise ValueError(f"ratio must lie between 0 and 1, not {ratio}")
        self.service_name = service_name
        self.endpoint = endpoint or None
        self.ratio = ratio
        self.sent = sent
        self.external = external
        self.breakers = breakers
        self.bulkheads = bulkheads
        self._slow = slow
        self._least = round((1.0 - ratio) * (1 << 56))  # consistent with other samplers by trace id: the high end is in
        self._heeds_callers = heeds_callers
        self._resource = {
            "service.name": service_name,
            "service.version": service_version,
            "deployment.environment.name": environment,
        }
        self._headers = dict(headers or {})
        self._queue = queue
        self._delay = delay
        self._spans: Spans | None = None

    async def start(self) -> None:
        """Load the SDK and start the exporting thread; nothing without an endpoint. ValueError for a wrong endpoint."""
        if self.endpoint is None or self._spans is not None:
            return
        from interlock.observability.export import OtlpExporter  # noqa: PLC0415 - 110 ms and 10 MB, wanted here only
        from interlock.observability.spans import Spans  # noqa: PLC0415

        exporter = OtlpExporter(self.endpoint, headers=self._headers)
        resource = {name: value for name, value in self._resource.items() if value}
        self._spans = Spans(resource, exporter, queue=self._queue, delay=self._delay, slow=self._slow)

    async def flush(self, limit: float = 5.0) -> None:
        """Export what waits, for `limit` seconds at most."""
        if self._spans is not None:
            await self._spans.flush(limit)

    async def stop(self, limit: float = 2.0) -> None:
        """Export what waits and end the thread; after `limit` seconds what is left is lost."""
        spans, self._spans = self._spans, None
        if spans is not None:
            await spans.close(limit)

    def arrived(self, call: Call) -> None:
        """Take up the trace that came with a call, or begin one."""
        metadata = call.metadata
        header = metadata.header(_NAME)
        if (
            header is not None
            and (_version_0(header) or _later(header))
            and len([1 for name, _ in metadata.raw if name == _NAME]) == 1  # two of them mean nothing
        ):
            text = header.decode()
            trace_id = text[3:35]
            sampled = text[54] in _ODD if self._heeds_callers else int(trace_id[18:], 16) >= self._least
            span_id = getrandbits(64).to_bytes(8, "big").hex()
            call.trace = Position(trace_id, span_id, sampled, text[36:52], self)
        else:
            call.trace = self._root()
        if (call.trace.sampled or call.protocol == "rest") and call.direction is Direction.SERVED:
            call.reply_headers.raw.append((RESPONSE, call.trace.traceparent.encode()))
        if self._spans is not None:
            call.on_end(self._spans.ended)

    def departs(self, call: Call, parent: TraceContext | None) -> None:
        """Begin a child of `parent`, or a trace where there is none, and hand it on with the call's metadata."""
        position = self._root() if parent is None else child(parent, self)
        call.trace = position
        hand_on(position, call.metadata)
        if position.sampled and self._spans is not None:
            call.on_end(self._spans.ended)

    def tries(self, call: Call, parent: TraceContext, facts: dict[str, str | int | float | bool] | None = None) -> None:
        """Begin a child of a sampled call for one of its attempts, whose span tells these facts too."""
        if self._spans is not None:
            if call.attempts > 1 and isinstance(parent, Position):
                parent.note("retry", **{"interlock.attempt": call.attempts})
            position = call.trace = child(parent, self)
            position.attempt = True
            position.facts = facts
            hand_on(position, call.metadata)
            call.on_end(self._spans.ended)

    def stated(self, parent: TraceContext, seconds: float, system: str, statement: object) -> None:
        """Record a database statement of a sampled call, which took `seconds` until now."""
        if self._spans is not None:
            self._spans.stated(parent, seconds, system, statement)

    @property
    def lost(self) -> int:
        """How many spans were lost since the start, because the collector was away or too slow."""
        return 0 if self._spans is None else self._spans.lost

    def relayed(self, traceparents: Sequence[str], seconds: float) -> None:
        """Record that events left the outbox together, which took `seconds` until now, where any of them is sampled."""
        if self._spans is not None:
            found = [position for each in traceparents if each.endswith("1") and (position := parse(each.encode()))]
            if found:
                self._spans.relayed(found, len(traceparents), seconds)

    def _root(self) -> Position:
        bits = getrandbits(192)
        ids = bits.to_bytes(24, "big").hex()
        return Position(ids[:32], ids[32:], (bits >> 64 & _RANDOM) >= self._least, "", self)


def child(parent: TraceContext, tracing: Tracing | None) -> Position:
    """Return a fresh position below `parent`."""
    span_id = getrandbits(64).to_bytes(8, "big").hex()
    return Position(parent.trace_id, span_id, parent.sampled, parent.span_id, tracing)


def hand_on(trace: TraceContext, metadata: Metadata) -> None:
    """Put `trace` into the metadata of a call that leaves, in place of what stood there."""
    if metadata.header(_NAME) is not None:
        metadata.remove(HEADER)
    metadata.extend(Metadata.from_raw([(_NAME, trace.traceparent.encode())]))


def tracer_of(trace: TraceContext | None) -> Tracing | None:
    """Return who traces a call that stands at `trace`, None where it is not known."""
    return trace.tracing if isinstance(trace, Position) else None


def trace(tracing: Tracing | None = None) -> Layer:
    """Give every call its place in a trace, and record those that are sampled; for all directions.

    Calls that arrive follow their metadata, calls that leave the call that is being served. Without `tracing`, calls
    that leave are recorded where that one is, so that a client need not know whose it is.
    """

    def layer(operation: Operation) -> Middleware:
        extract = None if operation.kind.server_streams else extractor(operation.reply_type)

        def follow(call: Call, proceed: Handler) -> Awaitable[Reply]:
            direction = call.direction
            if direction is Direction.SERVED or direction is Direction.CONSUMED:
                if tracing is not None:
                    tracing.arrived(call)
            else:
                _leave(call, tracing)
            if extract is None or call.trace is None or not call.trace.sampled:
                return proceed(call)
            return _told(call, proceed, extract)

        return follow

    return layer


async def _told(call: Call, proceed: Handler, extract: Extract) -> Reply:
    """Note what the contract wants a trace to show of the reply."""
    reply = await proceed(call)
    if isinstance(call.trace, Position):
        call.trace.facts = extract(reply)  # type: ignore[arg-type]  # a message, as its kind says
    return reply


def attempt(tracing: Tracing | None = None, target: str = "") -> Layer:
    """Record each attempt of a sampled SENT call as a span of its own, so that retries show; behind `retry`.

    `target` is where it goes, `host:port` or a URL.
    """
    place = server(target)

    def layer(_operation: Operation) -> Middleware:
        def follow(call: Call, proceed: Handler) -> Awaitable[Reply]:
            position = call.trace
            if position is not None and position.sampled:
                owner = tracing or tracer_of(position)
                if owner is not None:
                    owner.tries(call, position, place)
            return proceed(call)

        return follow

    return layer


def _leave(call: Call, tracing: Tracing | None) -> None:
    caller = current_call.get()
    parent = caller.trace if caller is not None else None
    if parent is None:
        header = call.metadata.header(_NAME)
        parent = None if header is None else parse(header)
    owner = tracing or tracer_of(parent)
    if owner is not None:
        owner.departs(call, parent)
    elif parent is not None:
        call.trace = child(parent, None)
        hand_on(call.trace, call.metadata)
