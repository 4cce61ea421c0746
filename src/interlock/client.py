"""Typed clients: the surface that generated code stands on, the same over the network and in process.

A client's methods take the request's fields and nothing else; options make a cheap view (`using`), the full reply has
one door (`call`).
"""

import asyncio
import copy
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from protobuf import Message

from interlock.call import Call, Direction, Handler, Layer, Reply, compose, current_call
from interlock.contract.model import Operation
from interlock.contract.stub import Rpc, ServiceStub
from interlock.deadline import NEVER, Deadline, monotonic
from interlock.defaults import Placed, insert, sent
from interlock.errors import Cancelled, Error
from interlock.metadata import Metadata
from interlock.observability.tracing import RESPONSE
from interlock.protocols.deprecation_notice import Notice
from interlock.protocols.serving import closing
from interlock.resilience.budget import RetryBudget
from interlock.resilience.circuit_breaker import BreakerPolicy, Breakers
from interlock.resilience.concurrency import Bulkhead, BulkheadPolicy
from interlock.resilience.retry import RetryPolicy
from interlock.resilience.sent_deadline import late_wheel
from interlock.security.credentials import Credentials, forwarded
from interlock.security.edge import may_travel

if TYPE_CHECKING:
    from typing import Self

    from interlock.app import App
    from interlock.protocols.client_tls import Tls
    from interlock.protocols.connect_client import ConnectOptions

Q = TypeVar("Q", bound=Message[Any])
R = TypeVar("R", bound=Message[Any])
I = TypeVar("I", bound=Message[Any])  # noqa: E741 - the item of a page


class Transport(Protocol):
    """Where calls go: a handler per operation, and something to close."""

    def handler(self, operation: Operation) -> Handler:
        """Return the handler that sends calls of `operation`."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Result(Generic[R]):
    """The full reply of one call."""

    message: R
    headers: Metadata
    trailers: Metadata
    attempts: int


@dataclass(frozen=True, slots=True)
class _Bound:
    """An operation as it is called: its composed chain, its timeout in seconds, who looks whether it is deprecated."""

    operation: Operation
    handler: Handler
    timeout: float
    notice: Notice


class _Channel:
    """What the views of one client share: the transport and the chain of each operation, composed once."""

    def __init__(self, stub: ServiceStub, transport: Transport, layers: Iterable[Layer]) -> None:
        self._stub = stub
        self.transport = transport
        self.protocol: str = getattr(transport, "protocol", "")  # a transport of a user's own may not say
        self._layers = tuple(layers)
        self._bound: dict[str, _Bound] = {}

    def bind(self, rpc: Rpc[Any, Any]) -> _Bound:
        found = self._bound.get(rpc.path)
        if found is None:
            operation = self._stub.operation(rpc)
            handler = compose(self._layers, operation, self.transport.handler(operation))
            timeout = float("inf") if operation.timeout is None else operation.timeout.total_seconds()
            found = self._bound[rpc.path] = _Bound(operation, handler, timeout, Notice(operation.path))
        return found


class Client:
    """The base of generated clients.

    `target` decides the transport: `host:port` for gRPC, `http://…` or `https://…` for Connect, an `App` for calls
    without sockets, or any `Transport`. `tls` (an `interlock.Tls`) secures the connections; `connections` opens several
    for gRPC to spread load over, `connect` (`ConnectOptions`) says how Connect is spoken. `credentials` are shown with
    every call; left out, the token of the caller that is being served travels on. `retries`, `breaker` and `bulkhead`
    replace the default policies. `layers` are placed by name (`after`, `before`) in the stack of SENT calls. `hands_on`
    names the metadata of a served call that its calls take along; nothing else does. Use as `async with`, or `close()`
    it. A client belongs to the event loop that first used it.
    """

    service: ClassVar[ServiceStub]

    def __init__(
        self,
        target: "str | App | Transport",
        *,
        credentials: Credentials | None = None,
        tls: "Tls | None" = None,
        connections: int = 1,
        connect: "ConnectOptions | None" = None,
        retries: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        bulkhead: BulkheadPolicy | None = None,
        layers: Iterable[Placed] = (),
        hands_on: Iterable[str] = (),
    ) -> None:
        name = target if isinstance(target, str) else type(target).__name__
        stack = sent(
            wheel=late_wheel(),
            retries=retries or RetryPolicy(),
            budget=RetryBudget(),
            breakers=Breakers(breaker or BreakerPolicy(), target=name),
            bulkhead=Bulkhead(bulkhead or BulkheadPolicy(), name),
            shown=credentials or forwarded(),
        )
        self._channel = _Channel(self.service, _transport(target, tls, connections, connect), insert(stack, layers))
        self._timeout: float | None = None
        self._metadata: tuple[tuple[str, str | bytes], ...] = ()
        self._hands_on = may_travel(hands_on)

    def using(
        self,
        *,
        timeout: float | timedelta | None = None,
        metadata: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] | None = None,
    ) -> "Self":
        """Return a view with options of its own, over the same connections.

        `timeout` (seconds, or a timedelta) replaces the contract's; `metadata` is sent beside what the view it was
        made from sends. ValueError for a timeout that is not above zero, or metadata that can't travel.
        """
        view = copy.copy(self)
        if timeout is not None:
            view._timeout = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
            if not view._timeout > 0:
                raise ValueError("timeout must be above zero")
        if metadata is not None:
            pairs = tuple(metadata.items() if isinstance(metadata, Mapping) else metadata)
            Metadata(pairs)  # what can't travel is refused here, where it was written
            view._metadata = (*self._metadata, *pairs)
        return view

    async def call(self, rpc: Rpc[Q, R], request: Q) -> Result[R]:
        """Call a unary operation (`GET_ORDER`) and return message, headers, trailers and the number of attempts."""
        call, bound = self._begin(rpc, _typed(request, rpc.request_type))
        call.wants_metadata = True
        message = await _finish(call, bound.handler)
        bound.notice.look(call.reply_headers, stacklevel=3)
        return Result(message, call.reply_headers, call.reply_trailers, call.attempts)

    async def close(self) -> None:
        """Close the connections, also those of every view; calls in flight are cancelled."""
        await self._channel.transport.close()

    async def __aenter__(self) -> "Self":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _begin(self, rpc: Rpc[Any, Any], request: Any) -> tuple[Call, _Bound]:
        bound = self._channel.bind(rpc)
        timeout = bound.timeout if self._timeout is None else self._timeout
        call = Call(
            bound.operation,
            Metadata(self._metadata),
            Deadline(monotonic() + timeout) if timeout != float("inf") else NEVER,
            Direction.SENT,
            request,
            protocol=self._channel.protocol,
        )
        parent = current_call.get()
        if parent is not None:
            call.deadline = min(call.deadline, parent.deadline)
            call._request_id = parent.request_id
            if "x-request-id" not in call.metadata:
                call.metadata.add("x-request-id", parent.request_id)
            if self._hands_on:
                call.metadata.extend(Metadata.from_raw([p for p in parent.metadata.raw if p[0] in self._hands_on]))
        if bound.notice.due():
            call.wants_metadata = True
        return call, bound

    async def forward(self, rpc: Rpc[Any, Any], call: Call) -> Reply:
        """Hand a served call on as it is, for a gateway: its errors come back as they are, its reply metadata too."""
        sent_call, bound = self._begin(rpc, call.request)
        sent_call.wants_metadata = True
        for name in HANDED_ON:
            for value in call.metadata.get_all(name):
                sent_call.metadata.add(name, value)
        if rpc.kind.server_streams:
            return _passed_on(ReplyStream(sent_call, bound.handler), call)
        try:
            reply = await _finish(sent_call, bound.handler)
        except Error as error:
            error.received = False
            raise
        call.reply_headers.raw.extend(pair for pair in sent_call.head if pair[0] != RESPONSE)
        call.reply_trailers.raw.extend(sent_call.tail)
        return reply  # type: ignore[no-any-return]  # the transport decodes into the reply type

    async def _unary(self, rpc: Rpc[Q, R], request: Q) -> R:
        call, bound = self._begin(rpc, request)
        reply = await _finish(call, bound.handler)
        if call._reply_headers is not None:
            bound.notice.look(call._reply_headers, stacklevel=4)
        return reply  # type: ignore[no-any-return]  # the transport decodes into the reply type

    async def _upload(self, rpc: Rpc[Q, R], requests: AsyncIterable[Q] | Iterable[Q]) -> R:
        call, bound = self._begin(rpc, _stream(requests, rpc.request_type))
        reply = await _finish(call, bound.handler)
        if call._reply_headers is not None:
            bound.notice.look(call._reply_headers, stacklevel=4)
        return reply  # type: ignore[no-any-return]  # the transport decodes into the reply type

    def _stream(self, rpc: Rpc[Q, R], request: Q) -> "ReplyStream[R]":
        call, bound = self._begin(rpc, request)
        return ReplyStream(call, bound.handler, bound.notice)

    def _chat(self, rpc: Rpc[Q, R], requests: AsyncIterable[Q] | Iterable[Q]) -> "ReplyStream[R]":
        call, bound = self._begin(rpc, _stream(requests, rpc.request_type))
        return ReplyStream(call, bound.handler, bound.notice)

    def _paged(self, rpc: Rpc[Q, R], request: Q, items: str) -> "Paged[R, Any]":
        async def fetch(page_token: str) -> R:
            page = copy.copy(request)
            if page_token:
                page.page_token = page_token  # the generator looked
            return await self._unary(rpc, page)

        return Paged(fetch, items)


HANDED_ON = ("idempotency-key",)
"""Metadata that a gateway hands on; identity, deadline, trace and request id travel by themselves."""


async def _passed_on(stream: "ReplyStream[Any]", call: Call) -> AsyncIterator[Any]:
    async with stream:
        try:
            async for reply in stream:
                yield reply
        except Error as error:
            error.received = False
            raise
    call.reply_trailers.raw.extend(stream.trailers.raw)


def pick(request: Q | None, fields: Q) -> Q:
    """Return the request given whole, or the one built from fields; TypeError if both were given."""
    if request is None:
        return fields
    _typed(request, type(fields))
    if fields != type(fields)():
        raise TypeError("give either a whole request or its fields, not both")
    return request


def _typed(request: Any, expected: type[Q]) -> Q:
    if not isinstance(request, expected):  # encoded as what it is not, it would arrive as something else
        raise TypeError(f"expected a {expected.__name__}, not {type(request).__name__}")
    return request


class ReplyStream(Generic[R]):
    """The replies of a stream: iterate it, inside `async with` if you may leave early; the block closes the stream.

    `headers` and `trailers` hold the reply's metadata once the stream has ended.
    """

    def __init__(self, call: Call, handler: Handler, notice: Notice | None = None) -> None:
        call.wants_metadata = True
        self._call = call
        self._handler = handler
        self._notice = notice
        self._replies: AsyncIterator[Any] | None = None
        self._over = False

    @property
    def headers(self) -> Metadata:
        """The metadata sent with the first message."""
        return self._call.reply_headers

    @property
    def trailers(self) -> Metadata:
        """The metadata sent with the end."""
        return self._call.reply_trailers

    def __aiter__(self) -> "ReplyStream[R]":
        return self

    async def __anext__(self) -> R:
        call = self._call
        if self._over:
            raise StopAsyncIteration
        try:
            if self._replies is None:
                self._replies = await self._handler(call)  # type: ignore[assignment]  # a stream's reply is an iterator
            reply = await anext(self._replies)  # type: ignore[arg-type]
        except StopAsyncIteration:
            self._over = True
            call.end()
            if self._notice is not None:
                self._notice.look(call.reply_headers, stacklevel=3)
            raise
        except BaseException as raised:
            self._over = True
            call.end(_as_error(raised))
            raise
        return reply  # type: ignore[no-any-return]  # the transport decodes into the reply type

    async def close(self) -> None:
        """Close the stream; the server is told, if it still sends."""
        self._over = True
        close = getattr(self._replies, "aclose", None)
        try:
            if close is not None:
                await close()
        finally:
            self._call.end(Cancelled("the caller closed the stream"))

    async def __aenter__(self) -> "ReplyStream[R]":
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()


class Paged(Generic[R, I]):
    """A list: `await` it for the first page, iterate it for all items, `pages()` for all pages."""

    def __init__(self, fetch: Callable[[str], Awaitable[R]], items: str) -> None:
        self._fetch = fetch
        self._items = items

    def __await__(self) -> Generator[Any, None, R]:
        return self._fetch("").__await__()

    async def pages(self) -> AsyncIterator[R]:
        """Yield page after page, fetching each when it is asked for."""
        token = ""
        while True:
            page: Any = await self._fetch(token)
            yield page
            token = page.next_page_token
            if not token:
                return

    async def __aiter__(self) -> AsyncIterator[I]:
        async for page in self.pages():
            for item in getattr(page, self._items):
                yield item


async def _finish(call: Call, handler: Handler) -> Any:
    try:
        reply = await handler(call)
    except BaseException as raised:
        call.end(_as_error(raised))
        raise
    call.end()
    return reply


def _as_error(raised: BaseException) -> Error:
    if isinstance(raised, Error):
        return raised
    if isinstance(raised, asyncio.CancelledError | GeneratorExit):
        return Cancelled("the caller gave up")
    return Error(f"{type(raised).__name__} before the call was sent")


async def _stream(requests: AsyncIterable[Q] | Iterable[Q], expected: type[Q]) -> AsyncIterator[Q]:
    if isinstance(requests, AsyncIterable):
        iterator = aiter(requests)
        async with closing(iterator):
            async for request in iterator:
                yield _typed(request, expected)
    else:
        for request in requests:
            yield _typed(request, expected)


def _transport(
    target: "str | App | Transport", tls: "Tls | None", connections: int, connect: "ConnectOptions | None"
) -> Transport:
    if isinstance(target, str):
        if target.startswith(("http://", "https://")):
            from interlock.protocols.connect_client import ConnectTransport  # noqa: PLC0415 - httpx2 only where used

            return ConnectTransport(target, tls=tls, options=connect)
        from interlock.protocols.grpc_client import GrpcTransport  # noqa: PLC0415 - grpcio only where it is used

        if "://" in target:
            raise ValueError(f"{target!r} is no target; write host:port for gRPC, http:// or https:// for Connect")

        return GrpcTransport(target, tls=tls, connections=connections)
    in_process = getattr(target, "in_process", None)
    return in_process() if in_process is not None else target  # type: ignore[return-value]
