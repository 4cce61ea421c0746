"""What every protocol front shares: the endpoint it serves, the limits it keeps, how an exception becomes an error."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from interlock.call import Call, Cancellation, Handler, uuid7
from interlock.contract.model import Operation
from interlock.errors import Cancelled, DeadlineExceeded, Error, Internal, InvalidArgument, Unavailable
from interlock.metadata import MalformedMetadata, Metadata
from interlock.protocols.status import to_status

log = logging.getLogger("interlock")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An operation with its composed chain.

    `timeout` is the contract's, in seconds, `inf` for none; `streams` tells whether the reply is a stream.
    """

    operation: Operation
    handle: Handler
    timeout: float = field(init=False)
    streams: bool = field(init=False)

    def __post_init__(self) -> None:
        timeout = self.operation.timeout
        object.__setattr__(self, "timeout", float("inf") if timeout is None else timeout.total_seconds())
        object.__setattr__(self, "streams", self.operation.kind.server_streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a front takes and gives: bytes of a message (decompressed), nesting of JSON, query parameters."""

    request_bytes: int = 4 * 1024 * 1024
    reply_bytes: int = 4 * 1024 * 1024
    json_depth: int = 100
    query_parameters: int = 100


class InFlight:
    """The calls that run now, so that a drain can wait for them and cancel what is left."""

    __slots__ = ("_idle", "calls")

    def __init__(self) -> None:
        self.calls: set[Call] = set()
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
