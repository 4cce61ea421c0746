"""gRPC served over ASGI: bytes to `Call` and back (grpc/doc/PROTOCOL-HTTP2.md). Needs a server with HTTP trailers."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from protobuf import Message

from interlock.call import Call, Cancellation, Peer, current_call
from interlock.deadline import Deadline, monotonic
from interlock.errors import Error, Internal, TooLarge, Unimplemented
from interlock.metadata import Metadata
from interlock.protocols.grpc_wire import (
    HEADER_BYTES,
    Unframer,
    check_frame,
    cut_off,
    encode_message,
    frame,
    gzipped,
    inflated,
    parse_timeout,
)
from interlock.protocols.serving import Endpoint, InFlight, Limits, closing, failure, left, log
from interlock.protocols.status import to_status

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CONTENT_TYPES = frozenset((b"application/grpc", b"application/grpc+proto"))
_OK_HEADERS = ((b"content-type", b"application/grpc+proto"), (b"grpc-accept-encoding", b"gzip"))
_OK_TRAILERS = ((b"grpc-status", b"0"),)


class GrpcServer:
    """Serves the four kinds of RPC; one object for all operations of an app."""

    def __init__(self, in_flight: InFlight, limits: Limits) -> None:
        self._in_flight = in_flight
        self._limits = limits

    async def __call__(
        self, endpoint: Endpoint, metadata: Metadata, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve one request to `endpoint`; `metadata` holds the request's headers."""
        operation = endpoint.operation
        call = Call(
            operation,
            metadata,
            peer=Peer(scope),
            protocol="grpc",
            task=asyncio.current_task(),
        )
        exchange = _Exchange(call, send, self._limits.reply_bytes)
        in_flight = self._in_flight
        in_flight.add(call)
        error: Error | None = None
        try:
            current_call.set(call)
            _check_trailers(scope)
            call.deadline = _deadline(metadata, endpoint.timeout)
            encoding = metadata.header(b"grpc-encoding")
            compressed = encoding is not None and encoding != b"identity" and _knows(encoding)
            exchange.compress = compressed and _takes_gzip(metadata)
            call.incoming = GrpcIncoming(receive, call, self._limits.request_bytes, compressed)
            reply = await endpoint.handle(call)
            if endpoint.streams:
                await exchange.stream(reply)  # type: ignore[arg-type]  # a server stream's reply is an iterator
            else:
                exchange.keep(reply)  # type: ignore[arg-type]  # and the others' a message
            if call.cancellation is not None:
                error = failure(call, asyncio.CancelledError())
        except BaseException as raised:
            error = failure(call, raised)
        finally:
            in_flight.remove(call)
            call.end(error)
        await exchange.send_end(error)


def _check_trailers(scope: Scope) -> None:
    if "http.response.trailers" not in (scope.get("extensions") or ()):
        raise Internal("no trailers can be sent: the request lacks `te: trailers`, or a proxy dropped it")


def _deadline(metadata: Metadata, limit: float) -> Deadline:
    value = metadata.header(b"grpc-timeout")
    if value is not None:
        limit = min(limit, parse_timeout(value))
    return Deadline(monotonic() + limit)


def _knows(encoding: bytes) -> bool:
    if encoding == b"gzip":
        return True
    raise Unimplemented("grpc-encoding must be identity or gzip")


def _takes_gzip(metadata: Metadata) -> bool:
    accepted = metadata.header(b"grpc-accept-encoding")
    return accepted is None or b"gzip" in (each.strip() for each in accepted.split(b","))


class GrpcIncoming:
    """The request's frames, read from ASGI when `decode` asks."""

    __slots__ = ("_call", "_compressed", "_limit", "_receive", "_type")

    def __init__(self, receive: Receive, call: Call, limit: int, compressed: bool) -> None:
        self._receive = receive
        self._call = call
        self._type = call.operation.request_type
        self._limit = limit
        self._compressed = compressed

    async def message(self) -> Message[Any]:
        """Return the one request, see `Incoming`."""
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise left(self._call)
        body = event.get("body", b"")
        if event.get("more_body"):
            body = await self._rest(body)
        if not body:
            raise _count("none")
        if len(body) < HEADER_BYTES:
            raise cut_off()
        flag, length = body[0], int.from_bytes(body[1:5], "big")
        check_frame(flag, length, self._limit, compressed=self._compressed)
        if len(body) < HEADER_BYTES + length:
            raise cut_off()
        if len(body) > HEADER_BYTES + length:
            raise _count("more")
        data = body[HEADER_BYTES:]
        return self._decode(inflated(data, self._limit) if flag else data)

    async def _rest(self, body: bytes) -> bytes:
        whole = bytearray(body)
        while True:
            if len(whole) >= HEADER_BYTES:
                check_frame(whole[0], int.from_bytes(whole[1:5], "big"), self._limit, compressed=self._compressed)
            if len(whole) > HEADER_BYTES + self._limit:
                raise _count("more")
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise left(self._call)
            whole += event.get("body", b"")
            if not event.get("more_body"):
                return bytes(whole)

    async def messages(self) -> AsyncIterator[Message[Any]]:
        """Yield the requests as they come, see `Incoming`."""
        unframer = Unframer(self._limit, compressed=self._compressed)
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise left(self._call)
            self._call.touched = monotonic()
            unframer.feed(event.get("body", b""))
            while (data := unframer.next()) is not None:
                yield self._decode(data)
            if not event.get("more_body"):
                unframer.finish()
                return

    def _decode(self, data: bytes) -> Message[Any]:
        try:
            return self._type.from_binary(data)
        except Exception as broken:
            raise Internal(f"the request is no valid {self._type.desc().type_name}") from broken


def _count(number: str) -> Unimplemented:
    return Unimplemented(f"the operation takes one request; the body holds {number}")


class _Exchange:
    """The reply's side of one request: headers with the first message, trailers at the end.

    The one message of a unary reply waits for the end, so that all goes out at once and a late failure is only that.
    """

    __slots__ = ("_call", "_last", "_limit", "_send", "_started", "compress")

    def __init__(self, call: Call, send: Send, limit: int) -> None:
        self._call = call
        self._send = send
        self._limit = limit
        self._started = False
        self._last = b""
        self.compress = False

    def keep(self, message: Message[Any]) -> None:
        """Take the message of a unary reply."""
        self._last = self._framed(message)

    async def stream(self, messages: AsyncIterator[Message[Any]]) -> None:
        """Send the messages of a stream as they come."""
        call = self._call
        async with closing(messages):
            async for message in messages:
                call.touched = monotonic()
                await self._send_body(self._framed(message))

    def _framed(self, message: Message[Any]) -> bytes:
        data = message.to_binary()
        if len(data) > self._limit:
            raise TooLarge(f"the reply of {len(data)} bytes is larger than the limit of {self._limit}")
        return frame(gzipped(data), compressed=True) if self.compress else frame(data)

    async def _send_body(self, body: bytes) -> None:
        try:
            if not self._started:
                self._started = True
                await self._send(self._start())
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        except Exception as gone:
            raise left(self._call) from gone

    def _start(self) -> dict[str, Any]:
        headers: list[tuple[bytes, bytes]] = [*_OK_HEADERS, *self._call.head]
        if self.compress:
            headers.append((b"grpc-encoding", b"gzip"))
        return {"type": "http.response.start", "status": 200, "headers": headers, "trailers": True}

    async def send_end(self, error: Error | None) -> None:
        if self._call.cancellation is Cancellation.CLIENT_GONE:
            return
        try:
            await self._send_end(error)
        except Exception as gone:
            log.debug("the end of %s can't be sent: %s", self._call.operation, gone)

    async def _send_end(self, error: Error | None) -> None:
        if error is None and not self._started:
            self._started = True
            await self._send(self._start())
        trailers = self._trailers(error)
        if self._started:
            last = self._last if error is None else b""
            await self._send({"type": "http.response.body", "body": last, "more_body": False})
            await self._send({"type": "http.response.trailers", "headers": trailers, "more_trailers": False})
        else:  # Trailers-Only
            headers = [*_OK_HEADERS, *self._call.head, *trailers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _trailers(self, error: Error | None) -> list[tuple[bytes, bytes]]:
        if error is None:
            return [*_OK_TRAILERS, *self._call.tail]
        return [*error_trailers(error, self._call.operation.service), *self._call.tail]


def error_trailers(error: Error, domain: str) -> list[tuple[bytes, bytes]]:
    """Return the trailers that carry `error`: status, message, details, pushback, its own metadata."""
    status = to_status(error, domain)
    trailers = [
        (b"grpc-status", str(int(error.code)).encode()),
        (b"grpc-message", encode_message(status.message)),
        (b"grpc-status-details-bin", b64encode(status.to_binary()).rstrip(b"=")),
    ]
    if error.final:
        trailers.append((b"grpc-retry-pushback-ms", b"-1"))
    elif error.retry_after is not None:
        milliseconds = max(0, int(error.retry_after.total_seconds() * 1000))
        trailers.append((b"grpc-retry-pushback-ms", str(milliseconds).encode()))
    trailers.extend(Metadata(error.metadata).raw)
    return trailers


async def refuse(error: Error, send: Send) -> None:
    """Answer Trailers-Only with `error`, where no operation is reached."""
    headers = [*_OK_HEADERS, *error_trailers(error, "interlock")]
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
