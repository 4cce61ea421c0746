"""What every protocol front shares: the one life cycle of a served call, its endpoint, its limits, and how it fails."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, cast

from protobuf import Message
from protobuf.wkt import Empty

from interlock.call import Call, Cancellation, Handler, Outcome, current_call
from interlock.contract.model import Kind, Operation
from interlock.deadline import Deadline, monotonic
from interlock.errors import Cancelled, DeadlineExceeded, Error, Internal, InvalidArgument, Unavailable
from interlock.metadata import MalformedMetadata, Metadata
from interlock.protocols.status import to_status
from interlock.stamps import uuid7

log = logging.getLogger("interlock")

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Record: TypeAlias = Callable[[Outcome], None]


def _nothing(_outcome: Outcome) -> None:
    return


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An operation with its composed chain.

    `refused` is told of a call whose head was refused, so that its chain never began. `timeout` is the contract's, in
    seconds, `inf` for none; `streams` tells whether the reply is a stream.
    """

    operation: Operation
    handle: Handler
    refused: Record = _nothing
    timeout: float = field(init=False)
    streams: bool = field(init=False)

    def __post_init__(self) -> None:
        timeout = self.operation.timeout
        object.__setattr__(self, "timeout", float("inf") if timeout is None else timeout.total_seconds())
        object.__setattr__(self, "streams", self.operation.kind.server_streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a front takes and gives: bytes of a message (decompressed), nesting of JSON, query parameters.

    `heartbeat` is how many seconds a stream of events is silent before a comment keeps its proxies awake, 0 for never.
    """

    request_bytes: int = 4 * 1024 * 1024
    reply_bytes: int = 4 * 1024 * 1024
    json_depth: int = 100
    query_parameters: int = 100
    heartbeat: float = 15.0


class InFlight:
    """The calls that run now, so that a drain can wait for them and cancel what is left.

    `closed` says that no more are taken, to the transport in process; a server closes its connections instead.
    """

    __slots__ = ("_idle", "calls", "closed")

    def __init__(self) -> None:
        self.calls: set[Call] = set()
        self.closed = False
        self._idle: asyncio.Event | None = None

    def add(self, call: Call) -> None:
        """Count a call in."""
        self.calls.add(call)

    def remove(self, call: Call) -> None:
        """Count it out."""
        self.calls.discard(call)
        if self._idle is not None and not self.calls:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no call runs."""
        while self.calls:
            if self._idle is None or self._idle.is_set():
                self._idle = asyncio.Event()
            await self._idle.wait()

    def cancel(self, reason: Cancellation) -> None:
        """Cancel every call that still runs."""
        for call in tuple(self.calls):
            call.cancel(reason)


class Exchange(Protocol):
    """One request and its reply in the form of one protocol, as `serve` drives it.

    `open` reads the head: it sets the call's deadline and `incoming`, and refuses with an Error. Then `keep` takes the
    one message of a reply. `send_end` sends what is left, once, after the call has ended: the kept message and the
    success, or the error; what it raises is logged, not told.
    """

    def open(self) -> None:
        """Read the head; an Error refuses the call."""
        ...

    def keep(self, message: Message[Any]) -> None:
        """Take the one message of a reply and encode it; nothing is sent yet."""
        ...

    async def send_end(self, error: Error | None) -> None:
        """Send the end."""
        ...


class StreamExchange(Exchange, Protocol):
    """An exchange of operations whose reply is a stream too, which `stream` sends in the place of `keep`."""

    async def stream(self, messages: AsyncIterator[Message[Any]]) -> None:
        """Send the messages of a stream as they come."""
        ...


async def serve(endpoint: Endpoint, call: Call, exchange: Exchange, in_flight: InFlight) -> None:
    """Run one served call from its head to its end, the same for every protocol; raises nothing.

    The call is counted in, is `current_call` here and while its stream is iterated, and ends exactly once, before the
    end is sent: what the caller then does finds it counted out.
    """
    error: Error | None = None
    opened = False
    in_flight.calls.add(call)
    try:
        current_call.set(call)
        exchange.open()
        opened = True
        reply = await endpoint.handle(call)
        if endpoint.streams:
            await cast(StreamExchange, exchange).stream(cast(AsyncIterator[Message[Any]], reply))
        else:
            exchange.keep(reply)  # type: ignore[arg-type]  # and the others' a message
        if call.cancellation is not None:
            error = failure(call, asyncio.CancelledError())
    except BaseException as raised:
        error = failure(call, raised)
        if not opened:
            call.on_end(endpoint.refused)
    finally:
        in_flight.remove(call)
        call.end(error)
        if error is not None:
            error.__traceback__ = None  # its frames hold the body, and this one the error: a cycle of megabytes
    if call.cancellation is Cancellation.CLIENT_GONE:
        return
    try:
        await exchange.send_end(error)
    except Exception as gone:
        log.debug("the end of %s can't be sent: %s", call.operation, gone)


def deadline_within(limit: float, seconds: float | None) -> Deadline:
    """Return the deadline of a call whose contract allows `limit` seconds and whose caller asks for `seconds`."""
    return Deadline(monotonic() + (limit if seconds is None or seconds > limit else seconds))


def unmatched(metadata: Metadata, protocol: str, error: Error, record: Record) -> Call:
    """Make and end the call of a request that reaches no operation, and tell `record`; return it for its id."""
    call = Call(_NOWHERE, metadata, protocol=protocol)
    call.on_end(record)
    call.end(error)
    return call


_NOWHERE = Operation(
    service="", name="unmatched", python_name="", kind=Kind.UNARY, request_type=Empty, reply_type=Empty
)
object.__setattr__(_NOWHERE, "path", "unmatched")  # no RPC path, but what logs and metrics call it


@asynccontextmanager
async def closing(messages: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Close a stream at the end of the block, where it can be closed: an iterator of somebody's own may not."""
    try:
        yield
    finally:
        close = getattr(messages, "aclose", None)
        if close is not None:
            await close()


def failure(call: Call, raised: BaseException) -> Error:
    """Turn what ended a call into the error that its caller may see.

    A cancellation becomes the status of its reason. An error received from a called service is not the caller's
    affair: it becomes INTERNAL, while UNAVAILABLE and DEADLINE_EXCEEDED keep their code, marked as final. Any other
    exception becomes INTERNAL with an id that stands in the log beside the traceback; so does an error that can't be
    sent, and a cancellation that nobody asked for, such as that of a task which the handler awaits.
    """
    if call.cancellation is not None:
        return _cancelled(call.cancellation)
    if isinstance(raised, Error):
        return _received(call, raised) if raised.received else _sendable(call, raised)
    if isinstance(raised, MalformedMetadata):
        return InvalidArgument(str(raised))
    return _unexpected(call, raised)


def _sendable(call: Call, error: Error) -> Error:
    try:
        to_status(error, "")
        Metadata(error.metadata)
    except Exception as wrong:
        return _unexpected(call, wrong)
    return error


def _unexpected(call: Call, raised: BaseException) -> Error:
    error_id = uuid7()
    log.error("%s failed unexpectedly (error id %s)", call.operation, error_id, exc_info=raised)
    return Internal(f"internal error; the service's log has it under id {error_id}")


def left(call: Call) -> Cancelled:
    """Note that the caller of `call` is gone, and return what ends the chain."""
    call.leave()
    return Cancelled("the caller gave up")


def _cancelled(reason: Cancellation) -> Error:
    if reason is Cancellation.DEADLINE:
        return DeadlineExceeded("the deadline passed before the answer was there")
    if reason is Cancellation.DRAIN:
        return Unavailable("the service is shutting down; repeat the call")
    return Cancelled("the caller gave up")


def _received(call: Call, error: Error) -> Error:
    log.warning("%s let through an error of a called service: %s", call.operation, error)
    kept = type(error) if isinstance(error, Unavailable | DeadlineExceeded) else Internal
    shown = kept("a service behind this one failed")
    shown.final = kept is not Internal
    return shown
