"""REST served over ASGI by `google.api.http` routes: an HTTP request to `Call` and back.

Routing, binding and replies are derived from the contract; the handler is the same as for RPC.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from protobuf import Message
from protobuf.wkt import Empty

from interlock.call import Call, Peer, Reply, current_call
from interlock.contract.model import Kind, Operation
from interlock.deadline import Deadline, monotonic
from interlock.errors import Error, MethodNotAllowed, NotAcceptable, RouteNotFound, TooLarge
from interlock.metadata import Metadata
from interlock.protocols.grpc_server import Receive, Scope, Send
from interlock.protocols.grpc_wire import parse_timeout
from interlock.protocols.json_mistakes import shown
from interlock.protocols.rest_body import discard
from interlock.protocols.rest_error import error_body, error_response
from interlock.protocols.rest_location import locator
from interlock.protocols.rest_reply import Headers, ReplyWriter
from interlock.protocols.rest_request import RequestBinder, RestIncoming
from interlock.protocols.rest_router import Match, Router
from interlock.protocols.serving import Endpoint, InFlight, Limits, failure

JSON, LINES = b"application/json", b"application/x-ndjson"
_PATH = "/:@!$&'()*+,;=-._~%"
_NOWHERE = Operation(
    service="", name="", python_name="", kind=Kind.UNARY, request_type=Empty, reply_type=Empty
)  # what a request without a route is a call of, as far as its id goes


class _Route:
    """One binding of one endpoint, ready to serve."""

    __slots__ = ("binder", "endpoint", "produces", "writer")

    def __init__(self, endpoint: Endpoint, binder: RequestBinder, writer: ReplyWriter) -> None:
        self.endpoint = endpoint
        self.binder = binder
        self.writer = writer
        self.produces = LINES if endpoint.operation.kind.server_streams else JSON


class RestServer:
    """Serves the unary and server-streaming operations that have HTTP bindings; one object for an app."""

    def __init__(self, endpoints: Iterable[Endpoint], in_flight: InFlight, limits: Limits) -> None:
        self._in_flight = in_flight
        self._router: Router[_Route] = Router()
        known = tuple(endpoints)
        operations = [each.operation for each in known]
        for endpoint in known:
            operation = endpoint.operation
            if operation.kind.client_streams:
                continue
            for binding in operation.http:
                binder = RequestBinder(operation, binding, limits)
                locate = locator(operation, binding, operations)
                writer = ReplyWriter(operation, binding, limits.reply_bytes, locate)
                self._router.add(binding.verb, binding.template, _Route(endpoint, binder, writer))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, whatever its path."""
        metadata = Metadata.from_raw(scope["headers"])
        path = _raw_path(scope)
        found = self._router.find(scope["method"], path)
        if found is None:
            await refuse(self._no_route(scope["method"], path), metadata, send)
        else:
            await self._serve(found, metadata, scope, receive, send)

    def _no_route(self, method: str, path: str) -> Error:
        allowed = self._router.methods(path)
        if not allowed:
            return RouteNotFound(f"nothing stands at {shown(path)}")
        error = MethodNotAllowed(f"{shown(method, 20)} is not for {shown(path)}; it has {', '.join(allowed)}")
        error.allow = allowed
        return error

    async def _serve(
        self, found: Match[_Route], metadata: Metadata, scope: Scope, receive: Receive, send: Send
    ) -> None:
        route = found.target
        endpoint = route.endpoint
        call = Call(
            endpoint.operation,
            metadata,
            peer=Peer(scope),
            protocol="rest",
            task=asyncio.current_task(),
        )
        stream: _Lines | None = None
        response: tuple[int, Headers, bytes] | None = None
        in_flight = self._in_flight
        in_flight.add(call)
        error: Error | None = None
        try:
            current_call.set(call)
            call.deadline = _deadline(metadata, endpoint.timeout)
            call.incoming = RestIncoming(route.binder, call, scope, receive, found.segments)
            accept = metadata.header(b"accept")
            if accept is not None and accept != b"*/*":
                check_accept(accept, route.produces)
            reply = await endpoint.handle(call)
            if route.produces is LINES:
                stream = _Lines(call, send, route.writer)
                await stream.send_reply(reply)
            else:
                response = route.writer.response(call, reply)  # type: ignore[arg-type]  # a unary reply is a message
            if call.cancellation is not None:
                error = failure(call, asyncio.CancelledError())
        except BaseException as raised:
            error = failure(call, raised)
            if isinstance(raised, asyncio.CancelledError) and call.cancellation is None:
                call.end(error)
                raise
        finally:
            in_flight.remove(call)
            call.end(error)
        if stream is not None and stream.started:
            await stream.send_end(error)
        elif error is not None:
            if isinstance(error, TooLarge):
                await discard(metadata, receive)
            headers = [*call.head, *call.tail]
            await _send(send, error_response(error, call.request_id, headers))
        elif stream is not None:
            await stream.send_end(None)
        elif response is not None:
            await _send(send, response)


async def refuse(error: Error, metadata: Metadata, send: Send) -> None:
    """Answer with the error envelope where no operation is reached; `metadata` holds the request's headers."""
    request_id = Call(_NOWHERE, metadata, protocol="rest").request_id
    await _send(send, error_response(error, request_id))


async def _send(send: Send, response: tuple[int, Headers, bytes]) -> None:
    status, headers, body = response
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _raw_path(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    return raw.decode("latin-1") if raw is not None else quote(scope["path"], safe=_PATH.replace("%", ""))


def _deadline(metadata: Metadata, limit: float) -> Deadline:
    value = metadata.header(b"grpc-timeout")
    if value is not None:
        limit = min(limit, parse_timeout(value))
    return Deadline(monotonic() + limit)


def check_accept(accept: bytes, produced: bytes) -> None:
    """Refuse an Accept header that excludes what is produced; NotAcceptable."""
    if not accepts(accept, produced):
        raise NotAcceptable(f"the reply is {produced.decode()}, which Accept excludes")


@lru_cache(512)
def accepts(accept: bytes, produced: bytes) -> bool:
    """Tell whether an Accept header lets `produced` through (RFC 9110 §12.5.1): the most specific range decides."""
    kind = produced.partition(b"/")[0]
    ranks = {b"*/*": 1, kind + b"/*": 2, produced: 3}
    best, quality = 0, 0.0
    for part in accept.lower().split(b","):
        name, *parameters = (each.strip() for each in part.split(b";"))
        rank = ranks.get(name, 0)
        if rank > best:
            best, quality = rank, _quality(parameters)
        elif rank and rank == best:
            quality = max(quality, _quality(parameters))
    return quality > 0


def _quality(parameters: list[bytes]) -> float:
    for each in parameters:
        name, _, value = each.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


class _Lines:
    """A server stream as newline-delimited JSON: a line `{"data": …}` each, a last `{"error": …}` on failure."""

    __slots__ = ("_call", "_send", "_writer", "started")

    def __init__(self, call: Call, send: Send, writer: ReplyWriter) -> None:
        self._call = call
        self._send = send
        self._writer = writer
        self.started = False

    async def send_reply(self, reply: Reply) -> None:
        messages: AsyncIterator[Message[Any]] = reply  # type: ignore[assignment]  # a server stream's reply
        async for message in messages:
            line = self._writer.line(message)
            if not self.started:
                await self._start()
            await self._send({"type": "http.response.body", "body": line, "more_body": True})
            self._call.touched = monotonic()

    async def _start(self) -> None:
        self.started = True
        call = self._call
        headers = [
            (b"content-type", LINES),
            (b"x-request-id", call.request_id.encode()),
            *call.head,
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def send_end(self, error: Error | None) -> None:
        if not self.started:
            await self._start()
        last = b"" if error is None else error_body(error, self._call.request_id) + b"\n"
        await self._send({"type": "http.response.body", "body": last, "more_body": False})
