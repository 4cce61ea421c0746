"""Calls of the conformance service in any dialect, as a case of the suite asks for them."""

import asyncio
import ssl
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interlock import Code
from interlock.server import Address
from tests.conformance.dialects import Came, Dialect, Reader
from tests.conformance.gen.conformance.v1.conformance_pb import Answer, CallRequest, Failure, Header
from tests.conformance.wire import exchange

SERVICE = "/conformance.v1.ConformanceService/"
METHODS = {
    "unary": "Unary",
    "client-stream": "ClientStream",
    "server-stream": "ServerStream",
    "bidi-stream/half-duplex": "BidiStream",
    "bidi-stream/full-duplex": "BidiStream",
}
KINDS = tuple(METHODS)
CONNECT = [Dialect("connect", http, codec) for codec in ("proto", "json") for http in ("http1", "http2")]
GRPC = [Dialect("grpc", "http2")]
GRPC_WEB = [Dialect("grpc-web", http) for http in ("http1", "http2")]
DIALECTS = [*CONNECT, *GRPC, *GRPC_WEB]
SENT = [("x-conformance-test", "Value1"), ("x-conformance-test", "Value2")]
REPLY = b"test response"


def carries(dialect: Dialect, kind: str) -> bool:
    """Tell whether the suite has a kind for a dialect: both ways at once need HTTP/2."""
    return not (kind.endswith("full-duplex") and dialect.http == "http1")


def answer(
    *data: bytes, failure: Failure | None = None, headers: Sequence[str] = (), trailers: Sequence[str] = (), **more: Any
) -> Answer:
    """Return an answer with those values of `x-custom-header` and `x-custom-trailer`."""
    return Answer(
        data=list(data),
        failure=failure,
        headers=[Header(name="x-custom-header", values=list(headers))] if headers else [],
        trailers=[Header(name="x-custom-trailer", values=list(trailers))] if trailers else [],
        **more,
    )


def failing(code: Code, message: str = "") -> Failure:
    """Return a failure."""
    return Failure(code=int(code), message=message)


def requests_of(kind: str, given: Answer | None, *, count: int = 2) -> list[CallRequest]:
    """Return the requests of a case: one, or `count` where the kind takes a stream; the first says what to answer."""
    first = CallRequest(answer=given, full_duplex=kind.endswith("full-duplex"))
    more = [CallRequest(data=b"test request") for _ in range(count - 1)]
    return [first, *more] if kind.startswith(("client", "bidi")) else [first]


@dataclass(frozen=True)
class Caller:
    """Calls a served app; `tls` is what it shows."""

    address: Address
    tls: ssl.SSLContext | None = None

    async def call(
        self,
        dialect: Dialect,
        kind: str,
        requests: Sequence[CallRequest],
        *,
        method: str = "",
        compression: str = "identity",
        headers: Sequence[tuple[str, str]] = (),
        timeout: int | None = None,
    ) -> Came:
        """Call with `requests`; a full-duplex call reads a reply behind each of them."""
        streams = kind != "unary"
        head = dialect.headers(streams=streams, compression=compression, timeout=timeout)
        async with asyncio.timeout(20), exchange(self.address.host, self.address.port, dialect.http, self.tls) as made:
            await made.open("POST", SERVICE + (method or METHODS[kind]), [*head, *headers])
            reader = Reader(dialect, made, streams=streams)
            for request in requests:
                await made.send(dialect.request(request, streams=streams, compression=compression))
                if kind.endswith("full-duplex") and await reader.next() is None:
                    break
            await made.end()
            return await reader.came()

    async def get(self, dialect: Dialect, request: CallRequest, headers: Sequence[tuple[str, str]] = ()) -> Came:
        """Ask with GET."""
        data = dialect.request(request, streams=False, compression="identity")
        message = urlsafe_b64encode(data).rstrip(b"=").decode()
        query = f"?connect=v1&encoding={dialect.codec}&base64=1&message={message}"
        async with asyncio.timeout(20), exchange(self.address.host, self.address.port, dialect.http, self.tls) as made:
            await made.open("GET", f"{SERVICE}IdempotentUnary{query}", headers)
            return await Reader(dialect, made, streams=False).came()

    async def raw(
        self,
        dialect: Dialect,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        method: str = "POST",
        streams: bool = False,
    ) -> Came:
        """Send exactly that."""  # fmt: skip
        async with asyncio.timeout(20), exchange(self.address.host, self.address.port, dialect.http, self.tls) as made:
            await made.open(method, path, headers)
            if method == "POST":
                if body:
                    await made.send(body)
                await made.end()
            return await Reader(dialect, made, streams=streams).came()
