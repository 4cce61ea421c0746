"""The client itself: making a call of a request, and its views."""

import copy
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from protobuf import Message

from interlock.call import Call, Direction, Reply, current_call
from interlock.client.channel import Bound, Channel, Transport, transport_to
from interlock.client.replies import Paged, ReplyStream, Result, finish
from interlock.client.requests import streamed, typed
from interlock.contract.stub import Rpc, ServiceStub
from interlock.deadline import NEVER, Deadline, monotonic
from interlock.defaults import Placed, insert, sent
from interlock.errors import Error
from interlock.metadata import Metadata
from interlock.observability.tracing import RESPONSE
from interlock.resilience.circuit_breaker import BreakerPolicy
from interlock.resilience.concurrency import BulkheadPolicy
from interlock.resilience.neighbour import Neighbour
from interlock.resilience.policies import Policies, said_in_code
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

HANDED_ON = ("idempotency-key",)
"""Metadata that a gateway hands on; identity, deadline, trace and request id travel by themselves."""


class Client:
    """The base of generated clients.

    `target` decides the transport: `host:port` for gRPC, `http://…` or `https://…` for Connect, an `App` for calls
    without sockets, or any `Transport`. `tls` (an `interlock.Tls`) secures the connections; `connections` opens several
    for gRPC to spread load over, `connect` (`ConnectOptions`) says how Connect is spoken. `credentials` are shown with
    every call; left out, the token of the caller that is being served travels on. `policy` names a preset
    (`"patient"`), `retries`, `breaker` and `bulkhead` replace parts of it; what the settings say of a target that came
    from `settings.upstream` is stronger, what the contract says is weaker. `layers` are placed by name (`after`,
    `before`) in the stack of SENT calls. `hands_on` names the metadata of a served call that its calls take along;
    nothing else does. Use as `async with`, or `close()` it. A client belongs to the event loop that first used it.
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
        policy: str = "",
        retries: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        bulkhead: BulkheadPolicy | None = None,
        layers: Iterable[Placed] = (),
        hands_on: Iterable[str] = (),
    ) -> None:
        name = target if isinstance(target, str) else type(target).__name__
        policies = Policies(name, code=said_in_code(policy, retries, breaker, bulkhead))
        policies.check(self.service.name, (rpc.path for rpc in self.service.rpcs.values()))
        if getattr(target, "policies", None):
            for rpc in self.service.rpcs.values():
                policies.of(self.service.operation(rpc))  # what does not go together is told here, not by a call
        stack = sent(wheel=late_wheel(), to=Neighbour(policies), shown=credentials or forwarded())
        transport = transport_to(target, tls, connections, connect)
        self._channel = Channel(self.service, transport, insert(stack, layers), policies)
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
        call, bound = self._begin(rpc, typed(request, rpc.request_type))
        call.wants_metadata = True
        message = await finish(call, bound.handler)
        bound.notice.look(call.reply_headers, stacklevel=3)
        return Result(message, call.reply_headers, call.reply_trailers, call.attempts)

    async def close(self) -> None:
        """Close the connections, also those of every view; calls in flight are cancelled."""
        await self._channel.transport.close()

    async def __aenter__(self) -> "Self":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _begin(self, rpc: Rpc[Any, Any], request: Any) -> tuple[Call, Bound]:
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
        sent_call.wants_metadata = sent_call.handed_on = True
        for name in HANDED_ON:
            for value in call.metadata.get_all(name):
                sent_call.metadata.add(name, value)
        if rpc.kind.server_streams:
            return _passed_on(ReplyStream(sent_call, bound.handler), call)
        try:
            reply = await finish(sent_call, bound.handler)
        except Error as error:
            _hand_on(error)
            raise
        call.reply_headers.raw.extend(pair for pair in sent_call.head if pair[0] != RESPONSE)
        call.reply_trailers.raw.extend(sent_call.tail)
        return reply  # type: ignore[no-any-return]  # the transport decodes into the reply type

    async def _unary(self, rpc: Rpc[Q, R], request: Q) -> R:
        call, bound = self._begin(rpc, request)
        reply = await finish(call, bound.handler)
        if call._reply_headers is not None:
            bound.notice.look(call._reply_headers, stacklevel=4)
        return reply  # type: ignore[no-any-return]  # the transport decodes into the reply type

    async def _upload(self, rpc: Rpc[Q, R], requests: AsyncIterable[Q] | Iterable[Q]) -> R:
        call, bound = self._begin(rpc, streamed(requests, rpc.request_type))
        reply = await finish(call, bound.handler)
        if call._reply_headers is not None:
            bound.notice.look(call._reply_headers, stacklevel=4)
        return reply  # type: ignore[no-any-return]  # the transport decodes into the reply type

    def _stream(self, rpc: Rpc[Q, R], request: Q) -> ReplyStream[R]:
        call, bound = self._begin(rpc, request)
        return ReplyStream(call, bound.handler, bound.notice)

    def _chat(self, rpc: Rpc[Q, R], requests: AsyncIterable[Q] | Iterable[Q]) -> ReplyStream[R]:
        call, bound = self._begin(rpc, streamed(requests, rpc.request_type))
        return ReplyStream(call, bound.handler, bound.notice)

    def _paged(self, rpc: Rpc[Q, R], request: Q, items: str) -> Paged[R, Any]:
        async def fetch(page_token: str) -> R:
            page = copy.copy(request)
            if page_token:
                page.page_token = page_token  # the generator looked
            return await self._unary(rpc, page)

        return Paged(fetch, items)


def _hand_on(error: Error) -> None:
    """Let an error through as the gateway's own, but for the place in the trace, of which the gateway tells its own."""
    error.received = False
    error.metadata = tuple(pair for pair in error.metadata if pair[0] != RESPONSE.decode())


async def _passed_on(stream: ReplyStream[Any], call: Call) -> AsyncIterator[Any]:
    async with stream:
        try:
            async for reply in stream:
                yield reply
        except Error as error:
            _hand_on(error)
            raise
    call.reply_trailers.raw.extend(stream.trailers.raw)
