"""REST served over ASGI by `google.api.http` routes: an HTTP request to `Call` and back.

Routing, binding and replies are derived from the contract; the handler is the same as for RPC.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import quote

from protobuf import Message

from interlock.call import Call, Cancellation, Outcome, Peer
from interlock.errors import Cancelled, Error, MethodNotAllowed, NotAcceptable, RouteNotFound
from interlock.metadata import Metadata
from interlock.protocols.departure import Departures
from interlock.protocols.grpc_wire import parse_timeout
from interlock.protocols.json_mistakes import shown
from interlock.protocols.rest_body import closing_after, may_follow, read_on
from interlock.protocols.rest_error import error_response
from interlock.protocols.rest_fields import preferred, whole
from interlock.protocols.rest_location import locator
from interlock.protocols.rest_reply import ReplyWriter, Response
from interlock.protocols.rest_request import RequestBinder, RestIncoming
from interlock.protocols.rest_router import Match, Router
from interlock.protocols.rest_stream import EVENTS, LINES, Events, File, Form, Lines, Stream
from interlock.protocols.serving import (
    Endpoint,
    InFlight,
    Limits,
    Receive,
    Scope,
    Send,
    closing,
    deadline_within,
    log,
    serve,
    unmatched,
)

JSON = b"application/json"
_PATH = "/:@!$&'()*+,;=-._~%"

Refused: TypeAlias = Callable[[str, Outcome], None]
"""Told of a request that reached no operation: its HTTP verb, and how it ended."""


def _nobody(_verb: str, _outcome: Outcome) -> None:
    return


class _Route:
    """One binding of one endpoint, ready to serve; `produces` is what Accept may choose from, nothing for files."""

    __slots__ = ("binder", "endpoint", "produces", "writer")

    def __init__(self, endpoint: Endpoint, binder: RequestBinder, writer: ReplyWriter) -> None:
        self.endpoint = endpoint
        self.binder = binder
        self.writer = writer
        self.produces = () if writer.file is not None else (LINES, EVENTS) if endpoint.streams else (JSON,)


class RestServer:
    """Serves the unary and server-streaming operations that have HTTP bindings; one object for an app.

    `refused` is told of requests that reach no operation.
    """

    def __init__(
        self, endpoints: Iterable[Endpoint], in_flight: InFlight, limits: Limits, refused: Refused = _nobody
    ) -> None:
        self._in_flight = in_flight
        self._limits = limits
        self._refused = refused
        self._departures = Departures()
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
        verb, path = scope["method"], _raw_path(scope)
        found = self._router.find(verb, path)
        if found is None and verb == "HEAD":
            found = self._router.find("GET", path)
        if found is None:
            await self._without_route(path, metadata, scope, receive, send)
            return
        route = found.target
        call = Call(route.endpoint.operation, metadata, peer=Peer(scope), protocol="rest", task=asyncio.current_task())
        exchange = _Exchange(call, found, scope, receive, send, limits=self._limits, departures=self._departures)
        await serve(route.endpoint, call, exchange, self._in_flight)
        self._departures.forget(call)
        if call.cancellation is Cancellation.CLIENT_GONE:
            await exchange.close()

    async def _without_route(self, path: str, metadata: Metadata, scope: Scope, receive: Receive, send: Send) -> None:
        verb = scope["method"]
        allowed = self._router.methods(None if verb == "OPTIONS" and path == "*" else path)
        if verb == "OPTIONS" and allowed:
            allow = (b"allow", ", ".join(allowed).encode())
            await _send(send, (204, [allow], b""))
            return
        error: Error = RouteNotFound(f"nothing stands at {shown(path)}")
        if allowed:
            error = MethodNotAllowed(f"{shown(verb, 20)} is not for {shown(path)}; it has {', '.join(allowed)}")
            error.allow = allowed
        await self.refuse(error, metadata, scope, receive, send)

    async def refuse(self, error: Error, metadata: Metadata, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the error envelope where no operation is reached; `metadata` holds the request's headers."""
        verb = scope["method"]
        request_id = unmatched(metadata, "rest", error, lambda outcome: self._refused(verb, outcome)).request_id
        try:
            response = error_response(error, request_id)
            await _send_refusal(response, metadata, scope, receive, send, admitted=True)  # nobody was judged
        except Exception as gone:
            log.debug("a refusal can't be sent: %s", gone)


class _Exchange:
    """One request and its reply, as `serve` drives it."""

    __slots__ = (
        "_call", "_departures", "_found", "_incoming", "_limits", "_media", "_receive", "_response", "_scope", "_send",
        "_stream",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        found: Match[_Route],
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        limits: Limits,
        departures: Departures,
    ) -> None:
        self._call = call
        self._found = found
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limits = limits
        self._departures = departures
        self._media: bytes | None = None
        self._response: Response | None = None
        self._stream: Stream | None = None

    def open(self) -> None:
        """Read the head."""
        call, route = self._call, self._found.target
        call.incoming = self._incoming = RestIncoming(
            route.binder, call, self._scope, self._receive, self._found.segments, departures=self._departures
        )
        metadata = call.metadata
        timeout = metadata.header(b"grpc-timeout")
        seconds = None if timeout is None else parse_timeout(timeout)
        call.deadline = deadline_within(route.endpoint.timeout, seconds)
        if route.produces:
            accept = metadata.header(b"accept")
            if accept is None or accept == b"*/*":
                self._media = route.produces[0]
            else:
                self._media = preferred(whole(metadata, b"accept"), route.produces)
                if self._media is None:
                    produced = " or ".join(each.decode() for each in route.produces)
                    raise NotAcceptable(f"the reply is {produced}, which Accept excludes")

    def keep(self, message: Message[Any]) -> None:
        """Make the response of the one message."""
        self._response = self._found.target.writer.response(self._call, message)

    async def stream(self, messages: AsyncIterator[Message[Any]]) -> None:
        """Send a stream in the form that Accept chose; to HEAD its head alone."""
        self._stream = Stream(self._call, self._form(), self._scope, self._send)
        if self._scope["method"] == "HEAD":
            async with closing(messages):
                return
        await self._stream.messages(messages, self._limits.heartbeat)

    def _form(self) -> Form:
        writer = self._found.target.writer
        if writer.file is not None:
            return File(writer.file)
        return Events(writer) if self._media == EVENTS else Lines(writer)

    async def close(self) -> None:
        """Complete the response of a caller who is gone: some servers log what is left open."""
        with contextlib.suppress(Exception):
            await self.send_end(Cancelled("the caller gave up"))

    async def send_end(self, error: Error | None) -> None:
        """Send the response, or the end of the stream, or the error."""
        stream, call = self._stream, self._call
        if stream is not None and (stream.started or error is None):
            await stream.end(error)
        elif error is not None:
            response = error_response(error, call.request_id, [*call.head, *call.tail])
            gone = call.cancellation is Cancellation.CLIENT_GONE
            metadata = None if gone or self._incoming.read else call.metadata
            await _send_refusal(response, metadata, self._scope, self._receive, self._send, admitted=call.admitted)
        elif self._response is not None:
            status, headers, body = self._response
            if self._scope["method"] == "HEAD":
                body = b""
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body, "more_body": False})


async def _send(send: Send, response: Response) -> None:
    status, headers, body = response
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _send_refusal(
    response: Response,
    metadata: Metadata | None,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    admitted: bool,
) -> None:
    """Send an error; before it ends, read past the body that may still come, by the request's `metadata`, if given."""
    status, headers, body = response
    if scope["method"] == "HEAD":
        body = b""
    if metadata is None or not may_follow(metadata, scope):
        await _send(send, (status, headers, body))
        return
    headers = [*headers, *closing_after(metadata, scope, admitted=admitted)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await read_on(receive, admitted=admitted)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def refuse(error: Error, metadata: Metadata, send: Send) -> None:
    """Answer with the error envelope where there is no REST server, as on the operations port."""
    request_id = unmatched(metadata, "rest", error, lambda _: None).request_id
    await _send(send, error_response(error, request_id))


def _raw_path(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    return raw.decode("latin-1") if raw is not None else quote(scope["path"], safe=_PATH.replace("%", ""))
