"""Call → Reply: one shape for one operation, in any direction and over any protocol.

A protocol front or a client stub makes a `Call`, sends it through the operation's chain of middleware to a `Handler`,
and ends it exactly once. What must be released or measured registers `call.on_end`, because `await proceed(call)`
returns when a stream opens, not when it is over.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

from protobuf import Message

from interlock.contract.model import Operation
from interlock.deadline import NEVER, Deadline
from interlock.errors import Code, Error
from interlock.metadata import Metadata
from interlock.stamps import uuid7

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("interlock")


class Direction(Enum):
    """Which way a call goes, seen from this process."""

    SERVED = "served"
    SENT = "sent"
    CONSUMED = "consumed"
    PUBLISHED = "published"


class Cancellation(Enum):
    """Why a call was cancelled; only the front turns it into a status."""

    CLIENT_GONE = "client gone"
    DEADLINE = "deadline"
    DRAIN = "drain"
    PARENT = "parent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks, once authenticated; `credential` is how, as the next hop could be shown it.

    `actors` are the services that act for the subject, the latest first, where they show tokens of their own; the roles
    are the latest one's then.
    """

    subject: str
    issuer: str = ""
    roles: frozenset[str] = frozenset()
    actors: tuple[str, ...] = ()
    credential: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where a call stands in a trace (W3C Trace Context): lower-case hex ids of 32 and 16 digits, and the flag."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The header that hands it on."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


class Peer:
    """The other end of the connection, read from the ASGI scope when asked; in process there is none."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Mapping[str, Any] | None = None) -> None:
        self._scope = scope or {}

    @property
    def address(self) -> str:
        """`host:port` of the other end, empty where the server does not know it."""
        client = self._scope.get("client")
        if not client:
            return ""
        host = f"[{client[0]}]" if ":" in client[0] else client[0]
        return f"{host}:{client[1]}"

    @property
    def scheme(self) -> str:
        """`http` or `https`; empty in process."""
        return str(self._scope.get("scheme", ""))

    @property
    def certificates(self) -> tuple[str, ...]:
        """The verified certificate chain (PEM, leaf first) under mutual TLS, else empty (ASGI tls extension)."""
        tls = self._scope.get("extensions", {}).get("tls") or {}
        return tuple(tls.get("client_cert_chain") or ())


NOWHERE = Peer()


class Incoming(Protocol):
    """The undecoded request, as the front holds it; the layer `decode` reads it."""

    async def message(self) -> Message[Any]:
        """Return the one request; an `Error` if there is none, more than one, or it is too large or malformed."""
        ...


class IncomingStream(Incoming, Protocol):
    """The undecoded requests of an operation whose caller may stream them."""

    def messages(self) -> AsyncIterator[Message[Any]]:
        """Return the stream of requests; iterating it raises what `message` raises."""
        ...


@dataclass(slots=True)
class Outcome:
    """How a call ended: `error` is None for OK, `duration` is in seconds."""

    call: "Call"
    error: Error | None
    duration: float

    @property
    def code(self) -> Code:
        """The status code that the caller got."""
        return Code.OK if self.error is None else self.error.code


@dataclass(slots=True, eq=False)
class Call:
    """One operation on its way; see the module's docstring for who makes and ends it.

    `request` is set by the layer `decode`; before it only the head (operation, metadata, deadline, peer) is known.
    `reply_headers` are sent with the first message, `reply_trailers` with the end; on a SENT call that `wants_metadata`
    the transport fills them; one that is `handed_on` is a gateway's. `touched` is when a message of a stream last
    passed, in monotonic seconds. The front adds up the `request_bytes` and `reply_bytes` of the messages that passed,
    encoded and not compressed.
    """

    operation: Operation
    metadata: Metadata = field(default_factory=Metadata)
    deadline: Deadline = NEVER
    direction: Direction = Direction.SERVED
    request: Any = field(default=None, repr=False)
    principal: Principal | None = None
    trace: TraceContext | None = None
    peer: Peer = NOWHERE
    protocol: str = ""
    incoming: Incoming | None = None
    task: "asyncio.Task[Any] | None" = None
    _cancellation: Cancellation | None = None
    started: float = field(default_factory=time.perf_counter)
    touched: float = 0.0
    attempts: int = 1
    wants_metadata: bool = False
    handed_on: bool = False
    request_bytes: int = 0
    reply_bytes: int = 0
    _reply_headers: Metadata | None = None
    _reply_trailers: Metadata | None = None
    _request_id: str = ""
    _roles: Any = None
    _done: list[Callable[[Outcome], None]] | None = field(default_factory=list)

    @property
    def admitted(self) -> bool:
        """Whether its caller was let in by a permission, or the operation is open to anybody."""
        return self._roles is not None or self.operation.unauthenticated

    @property
    def reply_headers(self) -> Metadata:
        """What is sent with the first message."""
        if self._reply_headers is None:
            self._reply_headers = Metadata()
        return self._reply_headers

    @property
    def reply_trailers(self) -> Metadata:
        """What is sent with the end."""
        if self._reply_trailers is None:
            self._reply_trailers = Metadata()
        return self._reply_trailers

    @property
    def head(self) -> Sequence[tuple[bytes, bytes]]:
        """`reply_headers` in the form of the wire; for the fronts."""
        return self._reply_headers.raw if self._reply_headers is not None else ()

    @property
    def tail(self) -> Sequence[tuple[bytes, bytes]]:
        """`reply_trailers` in the form of the wire; for the fronts."""
        return self._reply_trailers.raw if self._reply_trailers is not None else ()

    @property
    def cancellation(self) -> Cancellation | None:
        """Why the call was cancelled, None while it was not.

        A server that cancels the call's task itself does so because the client is gone.
        """
        if self._cancellation is None and self.task is not None and self.task.cancelling():
            return Cancellation.CLIENT_GONE
        return self._cancellation

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more: it ended, was cancelled, or its deadline passed.

        For work in a thread, which nothing stops from outside: it should look now and then, and give up.
        """
        return self._done is None or self.cancellation is not None or self.deadline.expired()

    @property
    def request_id(self) -> str:
        """The id of the request: the caller's `x-request-id` where sound (up to 128 characters), else a UUIDv7."""
        if not self._request_id:
            given = self.metadata.header(b"x-request-id")
            self._request_id = given.decode() if given and _REQUEST_ID.match(given) else uuid7()
        return self._request_id

    def on_end(self, done: Callable[[Outcome], None]) -> None:
        """Have `done` called when the call ends: last in, first out, once; what it raises is logged, not passed on.

        On a call that has ended already, RuntimeError.
        """
        if self._done is None:
            raise RuntimeError(f"{self.operation} has ended; on_end comes too late")
        self._done.append(done)

    def end(self, error: Error | None = None) -> None:
        """End the call; for whoever started its chain, and only the first time counts."""
        callbacks = self._done
        if callbacks is None:
            return
        self._done = None
        outcome = Outcome(self, error, time.perf_counter() - self.started)
        callbacks.reverse()
        for done in callbacks:
            try:
                done(outcome)
            except (Exception, asyncio.CancelledError):  # the latter is what the result of a cancelled future raises
                log.exception("on_end of %s failed", self.operation)
        self._cancellation = self.cancellation
        # Let go of what holds the call in turn: collecting a cycle for each call costs a tenth of it.
        self.task = None
        self.incoming = None

    def cancel(self, reason: Cancellation) -> None:
        """Cancel the task that runs the call; the first reason stands."""
        if self._cancellation is None and self._done is not None:
            self._cancellation = reason
            if self.task is not None:
                self.task.cancel()

    def leave(self) -> None:
        """Note that the client is gone, for a front that sees it at the connection."""
        if self._cancellation is None:
            self._cancellation = Cancellation.CLIENT_GONE

    def fork(self) -> "Call":
        """Return the call of one attempt: same request and deadline; own metadata, reply metadata and on_end."""
        return Call(
            operation=self.operation,
            metadata=self.metadata.copy(),
            deadline=self.deadline,
            direction=self.direction,
            request=self.request,
            principal=self.principal,
            trace=self.trace,
            peer=self.peer,
            protocol=self.protocol,
            wants_metadata=self.wants_metadata,
            handed_on=self.handed_on,
            _request_id=self._request_id,
        )


Reply: TypeAlias = Message[Any] | AsyncIterator[Message[Any]]
Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]
Middleware: TypeAlias = Callable[[Call, Handler], Awaitable[Reply]]
Layer: TypeAlias = Callable[[Operation], Middleware | None]
"""Asked once per operation, when the chain is composed; None leaves the layer out of that operation's chain."""

current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call being served in this task (also while its stream is iterated); clients inherit from it."""


def compose(layers: Iterable[Layer], operation: Operation, handler: Handler) -> Handler:
    """Build the chain of `operation`, outermost layer first; done once, at start."""
    for layer in reversed(tuple(layers)):
        middleware = layer(operation)
        if middleware is not None:
            handler = _link(middleware, handler)
    return handler


def _link(middleware: Middleware, proceed: Handler) -> Handler:
    def handle(call: Call) -> Awaitable[Reply]:
        return middleware(call, proceed)

    return handle


_detached: set[asyncio.Task[Any]] = set()  # the loop holds tasks weakly; see asyncio.create_task


def detached(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start work that outlives the call: own task, fresh context, no deadline; its failure is logged."""
    task = asyncio.get_running_loop().create_task(coroutine, context=Context())
    _detached.add(task)
    task.add_done_callback(_detached_done)
    return task


def _detached_done(task: asyncio.Task[Any]) -> None:
    _detached.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("detached work failed: %s", task.get_coro(), exc_info=error)


async def in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking `work` in a thread; it sees the call's context, and a cancelled call stops waiting for it.

    The thread runs on until `work` returns: what takes long should look at `call.over` (`current_call.get()`) now and
    then. Work that has not begun when its call is cancelled never does. The threads are those of the event loop's
    default executor, some 5 to 32 a process by its number of cores.
    """
    return await asyncio.to_thread(work, *args, **kwargs)


_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=:@\-]{1,128}\Z")
