"""The three protocols as a client writes and reads them, by hand, so that nothing of ours judges itself."""

import gzip
import json
from base64 import b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import brotli
import zstandard

from interlock import Code
from interlock.contract.gen.google.rpc.error_details_pb import ErrorInfo
from interlock.contract.gen.google.rpc.status_pb import Status
from tests.conformance.gen.conformance.v1.conformance_pb import CallRequest, CallResponse
from tests.conformance.wire import Exchange

COMPRESS = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}
INFLATE = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompress(data, max_output_size=1 << 22),
}
CODES = {"canceled" if each is Code.CANCELLED else each.name.lower(): each for each in Code}
BY_HTTP = {
    400: Code.INTERNAL, 401: Code.UNAUTHENTICATED, 403: Code.PERMISSION_DENIED, 404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE, 502: Code.UNAVAILABLE, 503: Code.UNAVAILABLE, 504: Code.UNAVAILABLE,
}  # fmt: skip

Headers = dict[str, list[str]]
TYPE_OF = {"grpc": "application/grpc", "grpc-web": "application/grpc-web", "grpc-web-text": "application/grpc-web-text"}


@dataclass
class Came:
    """What a client learns of one call."""

    http_status: int
    headers: Headers
    trailers: Headers = field(default_factory=dict)
    messages: list[CallResponse] = field(default_factory=list)
    code: Code = Code.OK
    message: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Dialect:
    """One protocol with its codec, on one version of HTTP."""

    protocol: str
    http: str
    codec: str = "proto"

    def __str__(self) -> str:
        return "-".join(
            each for each in (self.protocol, self.codec if self.protocol == "connect" else "", self.http) if each
        )

    def headers(self, *, streams: bool, compression: str, timeout: int | None) -> list[tuple[str, str]]:
        """Return the head of a request; `timeout` is in milliseconds."""
        fields = []
        if self.protocol == "connect":
            fields.append(("content-type", f"application/{'connect+' if streams else ''}{self.codec}"))
            fields.append(("connect-protocol-version", "1"))
            prefix = "connect-" if streams else ""
            fields.append((f"{prefix}accept-encoding", compression))
            if compression != "identity":
                fields.append((f"{prefix}content-encoding", compression))
            if timeout is not None:
                fields.append(("connect-timeout-ms", str(timeout)))
            return fields
        fields.append(("content-type", f"{TYPE_OF[self.protocol]}+proto"))
        fields.append(("te", "trailers") if self.protocol == "grpc" else ("x-grpc-web", "1"))
        fields.append(("grpc-accept-encoding", compression))
        if compression != "identity":
            fields.append(("grpc-encoding", compression))
        if timeout is not None:
            fields.append(("grpc-timeout", f"{timeout}m"))
        return fields

    def request(self, message: CallRequest, *, streams: bool, compression: str) -> bytes:
        """Return one request as it stands in the body."""
        data = message.to_json().encode() if self.codec == "json" else message.to_binary()
        compressed = COMPRESS[compression](data) if compression in COMPRESS else data
        if self.protocol == "connect" and not streams:
            return compressed
        return frame(compressed, compression in COMPRESS)

    def message(self, data: bytes) -> CallResponse:
        """Decode one reply."""
        return CallResponse.from_json(data) if self.codec == "json" else CallResponse.from_binary(data)


def frame(data: bytes, flags: int) -> bytes:
    """Put five bytes before a message."""
    return bytes((int(flags),)) + len(data).to_bytes(4, "big") + data


def grouped(pairs: Iterable[tuple[str, str]]) -> Headers:
    """Return every name with its values; values on one line, as HTTP lets them stand, are taken apart."""
    found: Headers = {}
    for name, value in pairs:
        found.setdefault(name.lower(), []).extend(value.split(", "))
    return found


async def framed(exchange: Exchange, buffer: bytearray) -> tuple[int, bytes] | None:
    """Return flags and bytes of the next message, None at the end of the body."""
    while len(buffer) < 5 or len(buffer) < 5 + int.from_bytes(buffer[1:5], "big"):
        piece = await exchange.read()
        if piece is None:
            assert not buffer, "the body ends inside a message"
            return None
        buffer += piece
    end = 5 + int.from_bytes(buffer[1:5], "big")
    flags, data = buffer[0], bytes(buffer[5:end])
    del buffer[:end]
    return flags, data


class Reader:
    """Reads the reply of one call, message by message, and then how it ended."""

    def __init__(self, dialect: Dialect, exchange: Exchange, *, streams: bool) -> None:
        self.dialect = dialect
        self.exchange = exchange
        self.streams = streams
        self.messages: list[CallResponse] = []
        self._end: bytes | None = None
        self._buffer = bytearray()

    async def next(self) -> CallResponse | None:
        """Return the next message of a framed reply, None at the end."""
        found = await framed(self.exchange, self._buffer)
        if found is None:
            return None
        flags, data = found
        if flags & 1:
            data = INFLATE[self._encoding()](data)
        if flags & ~1:
            assert flags & ~1 == (2 if self.dialect.protocol == "connect" else 0x80)
            self._end = data
            assert await framed(self.exchange, self._buffer) is None, "nothing follows the end"
            return None
        self.messages.append(self.dialect.message(data))
        return self.messages[-1]

    def _encoding(self) -> str:
        headers = dict(self.exchange.headers)
        names = ("grpc-encoding", "connect-content-encoding") if self.framed else ("content-encoding",)
        return next((headers[name] for name in names if name in headers), "identity")

    @property
    def framed(self) -> bool:
        """Whether the reply has frames."""
        return self.dialect.protocol != "connect" or self.streams

    async def came(self) -> Came:
        """Read to the end and tell what came."""
        if not self.framed:
            return await self._unary()
        exchange = self.exchange
        piece = await exchange.read() if not exchange.status else b""
        came = Came(exchange.status, grouped(exchange.headers), messages=self.messages)
        if not came.headers.get("content-type", [""])[0].startswith(self._type()):
            await exchange.body()
            came.code = BY_HTTP.get(came.http_status, Code.UNKNOWN)
            return came
        self._buffer += piece or b""
        while await self.next() is not None:
            pass
        if self.dialect.protocol == "connect":
            self._connect_end(came)
            return came
        if self._end is not None:
            lines = self._end.decode().split("\r\n")
            assert lines.pop() == ""
            pairs: Sequence[tuple[str, str]] = [tuple(line.split(": ", 1)) for line in lines]  # type: ignore[misc]
        else:
            pairs = exchange.trailers or exchange.headers
        _grpc_end(came, pairs)
        return came

    def _type(self) -> str:
        if self.dialect.protocol == "connect":
            return f"application/{'connect+' if self.streams else ''}{self.dialect.codec}"
        return TYPE_OF[self.dialect.protocol]

    def _connect_end(self, came: Came) -> None:
        assert self._end is not None, "a stream ends with its end"
        document = json.loads(self._end)
        came.trailers = {name.lower(): values for name, values in document.get("metadata", {}).items()}
        if "error" in document:
            _connect_error(came, document["error"])

    async def _unary(self) -> Came:
        body = await self.exchange.body()
        encoding = self._encoding()
        if encoding != "identity":
            body = INFLATE[encoding](body)
        headers = grouped(self.exchange.headers)
        came = Came(
            self.exchange.status, {name: each for name, each in headers.items() if not name.startswith("trailer-")}
        )
        came.trailers = {name[8:]: each for name, each in headers.items() if name.startswith("trailer-")}
        if came.http_status == 200:
            assert headers["content-type"] == [self._type()]
            came.messages = [self.dialect.message(body)]
            return came
        document = json.loads(body) if headers.get("content-type") == ["application/json"] else {}
        if "code" in document:
            _connect_error(came, document)
        else:
            came.code = BY_HTTP.get(came.http_status, Code.UNKNOWN)
        return came


def _connect_error(came: Came, error: dict[str, Any]) -> None:
    came.code, came.message = CODES[error["code"]], error.get("message", "")
    for detail in error.get("details", ()):
        assert "=" not in detail["value"]
        value = b64decode(detail["value"] + "=" * (-len(detail["value"]) % 4))
        if detail["type"] == "google.rpc.ErrorInfo":
            came.reason = ErrorInfo.from_binary(value).reason
            assert detail["debug"]["reason"] == came.reason


def _grpc_end(came: Came, pairs: Iterable[tuple[str, str]]) -> None:
    came.trailers = grouped(pairs)
    (status,) = came.trailers["grpc-status"]
    came.code = Code(int(status))
    came.message = unquote(", ".join(came.trailers.get("grpc-message", [])))
    details = came.trailers.get("grpc-status-details-bin")
    if details:
        whole = Status.from_binary(b64decode(details[0] + "=" * (-len(details[0]) % 4)))
        assert (whole.code, whole.message) == (int(came.code), came.message)
        came.reason = next(info.reason for each in whole.details if (info := each.unpack(ErrorInfo)) is not None)
