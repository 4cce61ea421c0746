"""Messages in frames, as gRPC, gRPC-Web and Connect's streams have them: both sides of one served call."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import Any

from protobuf import Message

from interlock.call import Call
from interlock.deadline import monotonic
from interlock.errors import Error, Internal, TooLarge, Unimplemented
from interlock.protocols.compression import THRESHOLD, Compression
from interlock.protocols.grpc_wire import HEADER_BYTES, Unframer, check_frame, cut_off, frame, inflated
from interlock.protocols.serving import Endpoint, Limits, Receive, Scope, Send, closing, left


class FramedIncoming:
    """The request's frames, read from ASGI when `decode` asks."""

    __slots__ = ("_call", "_compression", "_limit", "_receive", "_type")

    def __init__(self, receive: Receive, call: Call, limit: int, compression: Compression | None) -> None:
        self._receive = receive
        self._call = call
        self._type = call.operation.request_type
        self._limit = limit
        self._compression = compression

    async def message(self) -> Message[Any]:
        """Return the one request, see `Incoming`."""
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise left(self._call)
        body = event.get("body", b"")
        if event.get("more_body"):
            if len(body) - HEADER_BYTES != int.from_bytes(body[1:HEADER_BYTES], "big"):
                body = await self._rest(b"", event)
            else:
                event = await self._receive()  # mostly the empty end of a body that came in one part
                if event["type"] == "http.disconnect":
                    raise left(self._call)
                if event.get("body") or event.get("more_body"):
                    body = await self._rest(body, event)
        if len(body) < HEADER_BYTES:
            raise cut_off() if body else _count("none")
        flag, length = body[0], int.from_bytes(body[1:5], "big")
        check_frame(flag, length, self._limit, self._compression)
        if len(body) < HEADER_BYTES + length:
            raise cut_off()
        if len(body) > HEADER_BYTES + length:
            raise _count("more")
        data = body[HEADER_BYTES:]
        return self.decode(inflated(data, self._limit, self._compression) if flag else data)

    async def _rest(self, body: bytes, event: Mapping[str, Any]) -> bytes:
        """Return `body`, what `event` holds, and all that follows it."""
        whole = bytearray(body)
        while True:
            whole += event.get("body", b"")
            if not event.get("more_body"):
                return bytes(whole)
            if len(whole) >= HEADER_BYTES:
                check_frame(whole[0], int.from_bytes(whole[1:5], "big"), self._limit, self._compression)
            if len(whole) > HEADER_BYTES + self._limit:
                raise _count("more")
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise left(self._call)

    async def messages(self) -> AsyncIterator[Message[Any]]:
        """Yield the requests as they come, see `Incoming`."""
        unframer = Unframer(self._limit, self._compression)
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise left(self._call)
            self._call.touched = monotonic()
            unframer.feed(event.get("body", b""))
            while (data := unframer.next()) is not None:
                yield self.decode(data)
            if not event.get("more_body"):
                unframer.finish()
                return

    def decode(self, data: bytes) -> Message[Any]:
        """Decode one message; INTERNAL if it is broken."""
        self._call.request_bytes += len(data)
        try:
            return self._type.from_binary(data)
        except Exception as broken:
            raise Internal(f"the request is no valid {self._type.desc().type_name}") from broken


def _count(number: str) -> Unimplemented:
    return Unimplemented(f"the operation takes one request; the body holds {number}")


class FramedExchange(ABC):
    """One request and its reply in frames: a `StreamExchange` but for `open`, `head` and `finish`, a protocol's own.

    The one message of a unary reply waits for the end, so that all goes out at once and a late failure is only that.
    """

    __slots__ = ("call", "compression", "endpoint", "last", "limits", "receive", "scope", "send", "started")

    def __init__(
        self, endpoint: Endpoint, call: Call, scope: Scope, receive: Receive, send: Send, *, limits: Limits
    ) -> None:
        self.endpoint = endpoint
        self.call = call
        self.scope = scope
        self.receive = receive
        self.send = send
        self.limits = limits
        self.compression: Compression | None = None
        self.started = False
        self.last = b""

    @abstractmethod
    def open(self) -> None:
        """Read the head."""

    @abstractmethod
    def head(self) -> dict[str, Any]:
        """Return the event that starts the response."""

    @abstractmethod
    async def finish(self, error: Error | None) -> None:
        """Send what ends the response, the kept message with it."""

    def encode(self, message: Message[Any]) -> bytes:
        """Return the bytes of a message."""
        return message.to_binary()

    def keep(self, message: Message[Any]) -> None:
        """Take the message of a unary reply."""
        self.last = self._framed(message)

    async def stream(self, messages: AsyncIterator[Message[Any]]) -> None:
        """Send the messages of a stream as they come."""
        call = self.call
        async with closing(messages):
            async for message in messages:
                call.touched = monotonic()
                await self._send_body(self._framed(message))

    def _framed(self, message: Message[Any]) -> bytes:
        data = self.encode(message)
        self.call.reply_bytes += len(data)
        if len(data) > self.limits.reply_bytes:
            raise TooLarge(f"the reply of {len(data)} bytes is larger than the limit of {self.limits.reply_bytes}")
        if self.compression is not None and len(data) >= THRESHOLD:
            return frame(self.compression.compress(data), compressed=True)
        return frame(data)

    async def _send_body(self, body: bytes) -> None:
        try:
            if not self.started:
                self.started = True
                await self.send(self.head())
            await self.send({"type": "http.response.body", "body": body, "more_body": True})
        except Exception as gone:
            raise left(self.call) from gone

    async def send_end(self, error: Error | None) -> None:
        """Send the end."""
        if error is None and not self.started:
            self.started = True
            await self.send(self.head())
        await self.finish(error)
