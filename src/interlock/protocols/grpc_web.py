"""gRPC-Web served over ASGI, for callers that see no trailers: browsers (grpc/doc/PROTOCOL-WEB.md).

As gRPC, but the trailers are the last frame of the body; the text form is base64. Works over HTTP/1.1 and without ASGI
trailers.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, MutableMapping
from typing import Any

from interlock.errors import Error, Internal
from interlock.metadata import Metadata
from interlock.protocols.compression import NAMES
from interlock.protocols.grpc_server import GrpcExchange, error_trailers
from interlock.protocols.serving import Receive, Send

BINARY, TEXT = b"application/grpc-web+proto", b"application/grpc-web-text+proto"
CONTENT_TYPES = frozenset((BINARY, TEXT, b"application/grpc-web", b"application/grpc-web-text"))
_TRAILERS = b"\x80"
_BASE64 = re.compile(rb"[^=]+={0,2}|=+")


class GrpcWebExchange(GrpcExchange):
    """gRPC-Web's head and end, in binary or in text as the request asks for it."""

    __slots__ = ("content_type",)
    protocol = "grpc-web"

    def open(self) -> None:
        """Read deadline, compression and which form is wanted."""
        self.content_type = BINARY
        metadata = self.call.metadata
        if reply_in_text(metadata):
            self.content_type = TEXT
            self.send = _encoding(self.send)
        if b"-text" in (metadata.header(b"content-type") or b""):
            self.receive = _Decoding(self.receive)
        self.read_head()

    def head(self) -> dict[str, Any]:
        """Return the event that starts the response."""
        headers = [(b"grpc-accept-encoding", NAMES), *self.call.head]
        if self.compression is not None:
            headers.append((b"grpc-encoding", self.compression.name))
        return _start(self.content_type, headers)

    async def finish(self, error: Error | None) -> None:
        """Send the last message with the trailers behind it, or these in the head (Trailers-Only)."""
        trailers = self.trailers(error)
        if self.started:
            last = self.last if error is None else b""
            await self.send({"type": "http.response.body", "body": last + trailers_frame(trailers), "more_body": False})
        else:
            await _trailers_only(self.content_type, [*self.call.head, *trailers], self.send)


def reply_in_text(metadata: Metadata) -> bool:
    """Tell whether the reply is to be base64: as `accept` says, else as the request is."""
    accept = metadata.header(b"accept") or b""
    wanted = accept if b"grpc-web" in accept else metadata.header(b"content-type") or b""
    return b"grpc-web-text" in wanted


def trailers_frame(trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return trailers as the frame that ends a body: a header block in the form of HTTP/1.1."""
    block = b"".join(b"%b: %b\r\n" % pair for pair in trailers)
    return _TRAILERS + len(block).to_bytes(4, "big") + block


async def refuse(error: Error, metadata: Metadata, send: Send) -> None:
    """Answer Trailers-Only with `error`, where no operation is reached."""
    content_type = TEXT if reply_in_text(metadata) else BINARY
    await _trailers_only(content_type, error_trailers(error, "interlock"), send)


async def _trailers_only(content_type: bytes, headers: list[tuple[bytes, bytes]], send: Send) -> None:
    await send(_start(content_type, headers))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _start(content_type: bytes, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Return the event that starts a response; a script of another origin may read all its headers (Fetch §3.2.4)."""
    exposed = b", ".join(dict.fromkeys(name for name, _ in headers))
    own = [(b"content-type", content_type), (b"access-control-expose-headers", exposed)]
    return {"type": "http.response.start", "status": 200, "headers": [*own, *headers]}


def _encoding(send: Send) -> Send:
    async def send_text(event: MutableMapping[str, Any]) -> None:
        if event.get("body"):
            event = {**event, "body": b64encode(event["body"])}
        await send(event)

    return send_text


class _Decoding:
    """A `receive` that takes base64 off: of the whole body, or of parts that are each padded."""

    __slots__ = ("_receive", "_rest")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._rest = b""

    async def __call__(self) -> MutableMapping[str, Any]:
        event = await self._receive()
        if event["type"] != "http.request":
            return event
        text = self._rest + event.get("body", b"")
        end = len(text) & ~3
        self._rest = text[end:]
        if self._rest and not event.get("more_body"):
            raise _no_base64()
        try:
            body = b"".join(b64decode(part, validate=True) for part in _BASE64.findall(text[:end]))
        except ValueError as broken:
            raise _no_base64() from broken
        return {**event, "body": body}


def _no_base64() -> Internal:
    return Internal("the body is no base64, as application/grpc-web-text needs it")
