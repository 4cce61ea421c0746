"""Connect's streams, served over ASGI: messages in envelopes, the end a JSON envelope (connectrpc.com/docs/protocol).

The reply is always HTTP 200. Both directions run at once where the connection lets them: on HTTP/2.
"""

from collections.abc import Iterable
from typing import Any

from protobuf import Message

from interlock.call import Call
from interlock.errors import Error
from interlock.protocols.compression import NAMES, Compression, accepted, compression_of
from interlock.protocols.connect_codec import Codec
from interlock.protocols.connect_error import error_json, error_metadata, to_bytes
from interlock.protocols.connect_head import check_version, timeout_of
from interlock.protocols.framed import FramedExchange, FramedIncoming
from interlock.protocols.serving import Endpoint, Limits, Receive, Scope, Send, deadline_within

_END = b"\x02"


class ConnectStream(FramedExchange):
    """Connect's head and end of a stream."""

    __slots__ = ("codec",)

    def __init__(
        self,
        endpoint: Endpoint,
        call: Call,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        limits: Limits,
        codec: Codec,
    ) -> None:
        super().__init__(endpoint, call, scope, receive, send, limits=limits)
        self.codec = codec

    def open(self) -> None:
        """Read version, deadline and compressions."""
        call = self.call
        metadata = call.metadata
        check_version(metadata)
        call.deadline = deadline_within(self.endpoint.timeout, timeout_of(metadata))
        encoding = metadata.header(b"connect-content-encoding") or b"identity"
        compression = None if encoding == b"identity" else compression_of(encoding, "connect-content-encoding")
        self.compression = accepted(metadata.header(b"connect-accept-encoding"))
        call.incoming = _Incoming(self.receive, call, self.limits, compression, self.codec)

    def encode(self, message: Message[Any]) -> bytes:
        """Return the bytes of a message in the codec of the request."""
        return self.codec.encode(message)

    def head(self) -> dict[str, Any]:
        """Return the event that starts the response."""
        headers = [
            (b"content-type", b"application/connect+" + self.codec.name),
            (b"connect-accept-encoding", NAMES),
            *self.call.head,
        ]
        if self.compression is not None:
            headers.append((b"connect-content-encoding", self.compression.name))
        return {"type": "http.response.start", "status": 200, "headers": headers}

    async def finish(self, error: Error | None) -> None:
        """Send the last message and the envelope that ends the stream."""
        if not self.started:
            await self.send(self.head())
        last = self.last if error is None else b""
        body = last + end_envelope(error, self.call.operation.service, self.call.tail)
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


class _Incoming(FramedIncoming):
    """The envelopes of a request."""

    __slots__ = ("_codec", "_depth")

    def __init__(
        self, receive: Receive, call: Call, limits: Limits, compression: Compression | None, codec: Codec
    ) -> None:
        super().__init__(receive, call, limits.request_bytes, compression)
        self._codec = codec
        self._depth = limits.json_depth

    def decode(self, data: bytes) -> Message[Any]:
        """Decode one message in the codec of the request."""
        return self._codec.decode(self._type, data, self._depth)


def end_envelope(error: Error | None, domain: str, trailers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the envelope that ends a stream: its trailers, and its error if it failed."""
    document: dict[str, Any] = {}
    metadata: dict[str, list[str]] = {}
    pairs = [*trailers, *error_metadata(error)] if error is not None else trailers
    for name, value in pairs:
        metadata.setdefault(name.decode(), []).append(value.decode())
    if error is not None:
        document["error"] = error_json(error, domain)
    if metadata:
        document["metadata"] = metadata
    data = to_bytes(document)
    return _END + len(data).to_bytes(4, "big") + data
