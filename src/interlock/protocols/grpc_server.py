"""gRPC served over ASGI: bytes to `Call` and back (grpc/doc/PROTOCOL-HTTP2.md). Needs a server with HTTP trailers."""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable
from typing import Any

from interlock.call import Call, Peer
from interlock.errors import Error, Internal
from interlock.metadata import Metadata
from interlock.protocols.compression import KNOWN, NAMES, Compression, compression_of
from interlock.protocols.framed import FramedExchange, FramedIncoming
from interlock.protocols.grpc_wire import encode_message, parse_timeout
from interlock.protocols.serving import Endpoint, InFlight, Limits, Receive, Scope, Send, deadline_within, serve
from interlock.protocols.status import to_status

CONTENT_TYPES = frozenset((b"application/grpc", b"application/grpc+proto"))
_OK_HEADERS = ((b"content-type", b"application/grpc+proto"), (b"grpc-accept-encoding", NAMES))
_OK_TRAILERS = ((b"grpc-status", b"0"),)
_START = {"type": "http.response.start", "status": 200, "headers": _OK_HEADERS, "trailers": True}
_END = {"type": "http.response.trailers", "headers": _OK_TRAILERS, "more_trailers": False}


class GrpcServer:
    """Serves the four kinds of RPC in the form of `exchange`, gRPC's or gRPC-Web's; one object for an app."""

    def __init__(self, in_flight: InFlight, limits: Limits, exchange: "type[GrpcExchange]") -> None:
        self._in_flight = in_flight
        self._limits = limits
        self._exchange = exchange
        self._protocol = exchange.protocol

    def __call__(
        self, endpoint: Endpoint, metadata: Metadata, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        """Serve one request to `endpoint`; `metadata` holds the request's headers."""
        task = asyncio.current_task()
        call = Call(endpoint.operation, metadata, peer=Peer(scope), protocol=self._protocol, task=task)
        exchange = self._exchange(endpoint, call, scope, receive, send, limits=self._limits)
        return serve(endpoint, call, exchange, self._in_flight)


class GrpcExchange(FramedExchange):
    """gRPC's head and end: headers with the first message, trailers at the end."""

    __slots__ = ()
    protocol = "grpc"

    def open(self) -> None:
        """Read deadline and compression."""
        if "http.response.trailers" not in (self.scope.get("extensions") or ()):
            raise Internal("no trailers can be sent: the request lacks `te: trailers`, or a proxy dropped it")
        self.read_head()

    def read_head(self) -> None:
        """Read what gRPC and gRPC-Web have in common."""
        call = self.call
        header = call.metadata.header
        timeout = header(b"grpc-timeout")
        call.deadline = deadline_within(self.endpoint.timeout, None if timeout is None else parse_timeout(timeout))
        compression = None
        encoding = header(b"grpc-encoding")
        if encoding is not None and encoding != b"identity":
            compression = compression_of(encoding, "grpc-encoding")
            self.compression = _mirrored(compression, header(b"grpc-accept-encoding"))
        call.incoming = FramedIncoming(self.receive, call, self.limits.request_bytes, compression)

    def head(self) -> dict[str, Any]:
        """Return the event that starts the response."""
        if not self.call.head and self.compression is None:
            return _START
        headers: list[tuple[bytes, bytes]] = [*_OK_HEADERS, *self.call.head]
        if self.compression is not None:
            headers.append((b"grpc-encoding", self.compression.name))
        return {"type": "http.response.start", "status": 200, "headers": headers, "trailers": True}

    async def finish(self, error: Error | None) -> None:
        """Send the last message and the trailers, or these alone (Trailers-Only)."""
        send = self.send
        if self.started:
            last = self.last if error is None else b""
            await send({"type": "http.response.body", "body": last, "more_body": False})
            await send(_END if error is None and not self.call.tail else self._end(error))
        else:
            await _trailers_only([*_OK_HEADERS, *self.call.head, *self.trailers(error)], send)

    def _end(self, error: Error | None) -> dict[str, Any]:
        return {"type": "http.response.trailers", "headers": self.trailers(error), "more_trailers": False}

    def trailers(self, error: Error | None) -> list[tuple[bytes, bytes]]:
        """Return the status and what the call adds to it."""
        if error is None:
            return [*_OK_TRAILERS, *self.call.tail]
        return [*error_trailers(error, self.call.operation.service), *self.call.tail]


def _mirrored(compression: Compression, accepted: bytes | None) -> Compression | None:
    """Return the compression of the reply to a compressed request: the same, else one that is accepted, else none."""
    names = [each.strip() for each in accepted.split(b",")] if accepted is not None else [compression.name]
    if compression.name in names:
        return compression
    return next((KNOWN[name] for name in names if name in KNOWN), None)


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
    await _trailers_only([*_OK_HEADERS, *error_trailers(error, "interlock")], send)


async def _trailers_only(headers: list[tuple[bytes, bytes]], send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
