"""Connect's unary calls, served over ASGI: a plain POST, or GET where repeating does nothing."""

import re
from base64 import urlsafe_b64decode
from typing import Any
from urllib.parse import unquote_to_bytes

from protobuf import Message

from interlock.call import Call
from interlock.errors import Error, InvalidArgument, TooLarge
from interlock.protocols.compression import NAMES, THRESHOLD, Compression, accepted, compression_of
from interlock.protocols.connect_codec import CODECS, Codec
from interlock.protocols.connect_error import error_response
from interlock.protocols.connect_head import check_version, timeout_of
from interlock.protocols.serving import Endpoint, Limits, Receive, Scope, Send, deadline_within, left

Pairs = list[tuple[bytes, bytes]]
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]*={0,2}\Z")
_STANDARD = bytes.maketrans(b"+/", b"-_")


class ConnectUnary:
    """One request and its one reply, an `Exchange`; `codec` is None for a GET, whose query names it."""

    __slots__ = ("body", "call", "codec", "compression", "endpoint", "limits", "receive", "scope", "send")

    def __init__(
        self,
        endpoint: Endpoint,
        call: Call,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        limits: Limits,
        codec: Codec | None,
    ) -> None:
        self.endpoint = endpoint
        self.call = call
        self.scope = scope
        self.receive = receive
        self.send = send
        self.limits = limits
        self.codec = codec
        self.compression: Compression | None = None
        self.body = b""

    def open(self) -> None:
        """Read version, deadline, compressions and, of a GET, the query."""
        call = self.call
        metadata = call.metadata
        check_version(metadata)
        call.deadline = deadline_within(self.endpoint.timeout, timeout_of(metadata))
        self.compression = accepted(metadata.header(b"accept-encoding"))
        if self.codec is None:
            self._open_get()
            return
        encoding = metadata.header(b"content-encoding") or b"identity"
        compression = None if encoding == b"identity" else compression_of(encoding.lower(), "content-encoding")
        call.incoming = _Body(self.receive, call, self.limits, compression, self.codec)

    def _open_get(self) -> None:
        query = parse_query(self.scope.get("query_string", b""))
        if query.get(b"connect", b"v1") != b"v1":
            raise InvalidArgument("the query parameter connect must be v1")
        codec = CODECS.get(query.get(b"encoding", b""))
        if codec is None:
            raise InvalidArgument("the query parameter encoding must be proto or json")
        if b"message" not in query:
            raise InvalidArgument("the query parameter message holds the request, and is missing")
        self.codec = codec
        encoding = query.get(b"compression") or b"identity"
        compression = None if encoding == b"identity" else compression_of(encoding, "the query parameter compression")
        data = query[b"message"]
        if query.get(b"base64") == b"1":
            data = _from_base64(data)
        self.call.incoming = _Query(data, self.call, self.limits, compression, codec)

    def keep(self, message: Message[Any]) -> None:
        """Take the message of the reply."""
        assert self.codec is not None  # noqa: S101 - `open` has read it
        data = self.codec.encode(message)
        self.call.reply_bytes = len(data)
        if len(data) > self.limits.reply_bytes:
            raise TooLarge(f"the reply of {len(data)} bytes is larger than the limit of {self.limits.reply_bytes}")
        if len(data) < THRESHOLD:
            self.compression = None
        self.body = self.compression.compress(data) if self.compression is not None else data

    async def send_end(self, error: Error | None) -> None:
        """Send the whole reply, or the error."""
        call = self.call
        head: Pairs = [*call.head, *((b"trailer-" + name, value) for name, value in call.tail)]
        if self.scope["method"] == "GET":
            head.append((b"vary", b"accept-encoding"))
        if error is not None:
            head.append((b"accept-encoding", NAMES))
            status, headers, body = error_response(error, call.operation.service, head)
        else:
            assert self.codec is not None  # noqa: S101 - `open` has read it
            status, body = 200, self.body
            headers = [(b"content-type", b"application/" + self.codec.name), *head]
            if self.compression is not None:
                headers.append((b"content-encoding", self.compression.name))
        headers.append((b"content-length", b"%d" % len(body)))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


class _Query:
    """The request of a GET, whole in its query."""

    __slots__ = ("_call", "_codec", "_compression", "_data", "_limits", "_type")

    def __init__(self, data: bytes, call: Call, limits: Limits, compression: Compression | None, codec: Codec) -> None:
        self._data = data
        self._call = call
        self._type = call.operation.request_type
        self._limits = limits
        self._compression = compression
        self._codec = codec

    async def message(self) -> Message[Any]:
        """Return the one request, see `Incoming`."""
        return self.decode(self._data)

    def decode(self, data: bytes) -> Message[Any]:
        """Inflate and decode the request within the limits."""
        limit = self._limits.request_bytes
        if len(data) > limit:
            raise TooLarge(f"the message is larger than the limit of {limit} bytes")
        if self._compression is not None and data:
            data = self._compression.inflate(data, limit)
        self._call.request_bytes = len(data)
        return self._codec.decode(self._type, data, self._limits.json_depth)


class _Body(_Query):
    """The request of a POST, read from ASGI when `decode` asks."""

    __slots__ = ("_receive",)

    def __init__(
        self, receive: Receive, call: Call, limits: Limits, compression: Compression | None, codec: Codec
    ) -> None:
        super().__init__(b"", call, limits, compression, codec)
        self._receive = receive

    async def message(self) -> Message[Any]:
        """Return the one request, see `Incoming`; no more than its limit is read."""
        body, more = await self._next()
        if more:
            limit = self._limits.request_bytes
            whole = bytearray(body)
            while more:
                if len(whole) > limit:
                    raise TooLarge(f"the message is larger than the limit of {limit} bytes")
                body, more = await self._next()
                whole += body
            body = bytes(whole)
        return self.decode(body)

    async def _next(self) -> tuple[bytes, bool]:
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise left(self._call)
        return event.get("body", b""), event.get("more_body", False)


def parse_query(raw: bytes) -> dict[bytes, bytes]:
    """Return the parameters of a query string, percent-decoded to bytes; of one that stands twice, the last."""
    parameters = {}
    for part in raw.split(b"&") if raw else ():
        name, _, value = part.partition(b"=")
        parameters[unquote_to_bytes(name)] = unquote_to_bytes(value.replace(b"+", b" "))
    return parameters


def _from_base64(data: bytes) -> bytes:
    """Decode base64, URL-safe or not, padded or not."""
    if not _BASE64.match(data):
        raise InvalidArgument("the query parameter message is no base64")
    try:
        return urlsafe_b64decode(data.rstrip(b"=").translate(_STANDARD) + b"=" * (-len(data.rstrip(b"=")) % 4))
    except ValueError as broken:
        raise InvalidArgument("the query parameter message is no base64") from broken
