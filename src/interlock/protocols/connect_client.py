"""Connect called over HTTP (connectrpc.com/docs/protocol): unary as POST or GET, streams in envelopes.

A failed call raises the typed error with its details. The whole of the requests goes out before a reply is read: a
stream both ways is half-duplex here, for the HTTP engine sends before it receives; full duplex is gRPC's.
"""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx2
from protobuf import Message

from interlock.call import Call, Handler, Reply
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Kind, Operation
from interlock.deadline import NEVER, monotonic
from interlock.errors import Cancelled, DeadlineExceeded, Error, Internal, TooLarge, Unavailable, Unimplemented, Unknown
from interlock.metadata import Metadata
from interlock.protocols.client_tls import Tls
from interlock.protocols.compression import NAMES, gzipped
from interlock.protocols.connect_envelopes import Envelopes
from interlock.protocols.connect_reply import (
    MAX_JSON_DEPTH,
    compression_of,
    decompressed,
    end_of_stream,
    http_error,
    media_type,
    metadata_of,
    unary_error,
)
from interlock.protocols.grpc_wire import frame
from interlock.protocols.http_pool import Host, Pool, Pools, shared_pools
from interlock.protocols.json_codec import depth_exceeds, registry_of
from interlock.protocols.serving import closing

T = TypeVar("T")

_LONGEST_URL = 8 * 1024
_LONGEST_TIMEOUT = 9_999_999_999  # ten digits of milliseconds
_OURS = (b"connect-", b"content-encoding", b"accept-encoding")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How a client speaks Connect.

    `codec`: how messages are encoded. `use_get`: SAFE unary operations go as GET, which caches between may answer,
    where the URL stays under 8 KiB. `compress_above`: messages of more bytes are sent as gzip; None: none is.
    """

    codec: Literal["proto", "json"] = "proto"
    use_get: bool = False
    compress_above: int | None = 32 * 1024


class ConnectTransport:
    """Transport to `url` (`http://host:port`, `https://host/prefix`), over connections that are shared by its host.

    `max_bytes` bounds a message both ways, decompressed. Belongs to the event loop of its first call.
    """

    protocol = "connect"

    def __init__(
        self,
        url: str,
        *,
        tls: Tls | None = None,
        options: ConnectOptions | None = None,
        max_bytes: int = 4 * 1024 * 1024,
        pools: Pools | None = None,
    ) -> None:
        try:
            self._base = httpx2.URL(url.rstrip("/"))
        except (httpx2.InvalidURL, TypeError) as wrong:
            raise ValueError(f"{url!r} is no URL: {wrong}") from wrong
        base = self._base
        if base.scheme not in ("http", "https") or not base.host or base.query or base.fragment or base.userinfo:
            raise ValueError(f"{url!r} is no target; write http://host:port or https://host, a path may follow")
        if tls is not None and base.scheme == "http":
            raise ValueError(f"{url!r} has no TLS; write https://, or leave `tls` out")
        self.options = options or ConnectOptions()
        self.max_bytes = max_bytes
        self._host = Host(base.scheme, base.host, base.port, tls or (Tls() if base.scheme == "https" else None))
        self._pools = pools
        self._pool: Pool | None = None
        self._waiting: set[asyncio.Task[Any]] = set()
        self._closed = 0

    def pool(self) -> Pool:
        """Return the connections, joined by the first call."""
        if self._pool is None:
            self._pool = (self._pools or shared_pools()).join(self._host)
        return self._pool

    def url(self, operation: Operation) -> httpx2.URL:
        """Return where calls of `operation` go."""
        return self._base.copy_with(path=self._base.path.rstrip("/") + operation.path)

    async def close(self) -> None:
        """Close the connections, unless other clients of the host use them; calls in flight are cancelled."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        self._closed += 1
        for task in self._waiting:
            task.cancel()
        await pool._pools.leave(pool)

    def handler(self, operation: Operation) -> Handler:
        """Return the handler that sends calls of `operation`."""
        if operation.kind is Kind.UNARY:
            return _Unary(self, operation).send
        return _Streams(self, operation).send

    async def within(self, call: Call, work: Awaitable[T]) -> T:
        """Wait for a step of a call until its deadline; DeadlineExceeded then, Cancelled when this is closed."""
        task, closed = asyncio.current_task(), self._closed
        assert task is not None  # noqa: S101 - a coroutine of asyncio runs in a task
        at = call.deadline.at
        self._waiting.add(task)
        try:
            if at == NEVER.at:
                return await work
            async with asyncio.timeout(max(0.0, at - monotonic())) as limit:
                return await work
        except TimeoutError:
            if at == NEVER.at or not limit.expired():
                raise
            raise received(DeadlineExceeded("the deadline passed before the answer was there")) from None
        except asyncio.CancelledError:
            if self._closed == closed or task.uncancel():
                raise
            raise received(Cancelled("the client was closed")) from None
        finally:
            self._waiting.discard(task)


def received(error: Error) -> Error:
    """Mark an error as a neighbour's, so that it is not taken for the mistake of our own caller."""
    error.received = True
    return error


class _Codec:
    """The bytes of an operation's messages, bounded both ways."""

    def __init__(self, transport: ConnectTransport, operation: Operation) -> None:
        self.name = transport.options.codec
        self._json = self.name == "json"
        self._limit = transport.max_bytes
        self._above = transport.options.compress_above
        self._reply_type = operation.reply_type
        self._registries = (registry_of(operation.request_type), registry_of(operation.reply_type))

    def encode(self, message: Message[Any]) -> bytes:
        data = message.to_json(registry=self._registries[0]).encode() if self._json else message.to_binary()
        if len(data) > self._limit:
            raise received(
                TooLarge(f"the request of {len(data)} bytes is larger than the client's limit of {self._limit}")
            )
        return data

    def compresses(self, data: bytes) -> bool:
        return self._above is not None and len(data) > self._above

    def decode(self, data: bytes) -> Message[Any]:
        try:
            if not self._json:
                return self._reply_type.from_binary(data)
            if depth_exceeds(data, MAX_JSON_DEPTH):
                raise ValueError("nested too deeply")  # noqa: TRY301 - one way out for all that can't be read
            return self._reply_type.from_json(data, ignore_unknown_fields=True, registry=self._registries[1])
        except Exception as broken:
            raise Internal(f"the reply is no valid {self._reply_type.desc().type_name}") from broken


def _head(call: Call) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a call: its metadata, and what is left of its time (Connect-Timeout-Ms)."""
    fields = [pair for pair in call.metadata.raw if not pair[0].startswith(_OURS)]
    at = call.deadline.at
    if at != NEVER.at:
        left = at - monotonic()
        if left <= 0:
            late = received(DeadlineExceeded("the deadline passed before the call was sent"))
            late.unsent = True
            raise late
        fields.append((b"connect-timeout-ms", b"%d" % min(max(1, int(left * 1000 + 0.999)), _LONGEST_TIMEOUT)))
    return fields


async def _sent(transport: ConnectTransport, pool: Pool, call: Call, request: httpx2.Request) -> httpx2.Response:
    """Send a request and return the head of its response; what the engine raises becomes an error of ours."""
    try:
        return await transport.within(call, pool.send(request))
    except httpx2.HTTPError as failed:
        raise _failed(failed) from failed


def _failed(failed: httpx2.HTTPError) -> Error:
    unsent = isinstance(failed, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    if unsent:
        error: Error = Unavailable(f"no connection could be made: {str(failed) or type(failed).__name__}")
    elif isinstance(failed, httpx2.LocalProtocolError | httpx2.UnsupportedProtocol):
        error = Internal(f"the request can't be sent over HTTP: {failed}")
    else:
        error = Unavailable(f"the connection broke before the reply was whole: {str(failed) or type(failed).__name__}")
    error.unsent = unsent
    return received(error)


def _timeouts(pool: Pool) -> dict[str, Any]:
    connect = pool._pools.limits.connect.total_seconds()
    return {"timeout": {"connect": connect, "pool": connect, "read": None, "write": None}}


async def _closed(response: httpx2.Response, pool: Pool) -> None:
    try:
        with suppress(httpx2.HTTPError, OSError):
            await response.stream.aclose()  # type: ignore[union-attr]  # the stream of an asynchronous transport
    finally:
        pool.done()


def _noted(error: Error, call: Call, response: httpx2.Response, trailers: Metadata | None = None) -> Error:
    """Complete an error with the reply's metadata, and give that to a call that wants it."""
    headers = response.headers
    head, tail = metadata_of(headers.raw)
    if trailers is not None:
        tail.extend(trailers)
    error.metadata = (*error.metadata, *head.items(), *tail.items())
    pushback = headers.get("grpc-retry-pushback-ms", headers.get("trailer-grpc-retry-pushback-ms"))
    error.final = pushback == "-1"
    _give(call, head, tail)
    return received(error)


def _give(call: Call, head: Metadata, tail: Metadata) -> None:
    if call.wants_metadata:
        call.reply_headers.extend(head)
        call.reply_trailers.extend(tail)


def _wrong_type(response: httpx2.Response, expected: str, family: str) -> Error:
    """Return the error for a reply of another content type: INTERNAL where it is Connect's, in another codec."""
    given = media_type(response.headers)
    told = f"the reply is {given or 'of no content type'}, not {expected}"
    return Internal(told) if given in (family + "proto", family + "json") else Unknown(told)


class _Unary:
    """One request and one reply, each a whole HTTP body."""

    def __init__(self, transport: ConnectTransport, operation: Operation) -> None:
        self._transport = transport
        self._codec = _Codec(transport, operation)
        self._url = transport.url(operation)
        self._type = f"application/{self._codec.name}"
        self._gets = transport.options.use_get and operation.idempotency is Idempotency.SAFE
        self._fixed = [(b"content-type", self._type.encode()), (b"connect-protocol-version", b"1")]

    async def send(self, call: Call) -> Reply:
        as_get = self._gets
        response, body = await self._exchange(call)
        if response.status_code == 405 and as_get:
            self._gets = False  # the server does not know that the operation is safe; it did nothing
            response, body = await self._exchange(call)
        return self._read(call, response, body)

    async def _exchange(self, call: Call) -> tuple[httpx2.Response, bytes]:
        transport = self._transport
        pool = transport.pool()
        response = await _sent(transport, pool, call, self._request(call, pool))
        try:
            body = await transport.within(call, self._body(response))
        except httpx2.HTTPError as failed:
            raise _failed(failed) from failed
        except Error as error:
            raise received(error) from error.__cause__
        finally:
            await _closed(response, pool)
        return response, body

    def _request(self, call: Call, pool: Pool) -> httpx2.Request:
        data = self._codec.encode(call.request)
        fields = [(b"accept-encoding", NAMES), *_head(call)]
        if self._gets:
            target = f"{self._url.path}?{self._query(data)}"
            if len(target) <= _LONGEST_URL:
                url = self._url.copy_with(raw_path=target.encode("ascii"))
                return httpx2.Request("GET", url, headers=fields, extensions=_timeouts(pool))
        fields.extend(self._fixed)
        if self._codec.compresses(data):
            data = gzipped(data)
            fields.append((b"content-encoding", b"gzip"))
        return httpx2.Request("POST", self._url, headers=fields, content=data, extensions=_timeouts(pool))

    def _query(self, data: bytes) -> str:
        if self._codec.name == "json":
            return f"connect=v1&encoding=json&message={quote(data, safe='')}"
        return f"connect=v1&encoding=proto&base64=1&message={urlsafe_b64encode(data).rstrip(b'=').decode()}"

    async def _body(self, response: httpx2.Response) -> bytes:
        parts: list[bytes] = []
        size, limit = 0, self._transport.max_bytes
        async for part in response.stream:  # type: ignore[union-attr]  # the stream of an asynchronous transport
            size += len(part)
            if size > limit:
                raise TooLarge(f"the reply is larger than the client's limit of {limit} bytes")
            parts.append(part)
        return decompressed(b"".join(parts), compression_of(response.headers.get("content-encoding", "")), limit)

    def _read(self, call: Call, response: httpx2.Response, body: bytes) -> Message[Any]:
        if response.status_code != 200:
            raise _noted(unary_error(response.status_code, response.headers, body), call, response)
        try:
            if response.headers.get("content-type") != self._type and media_type(response.headers) != self._type:
                raise _wrong_type(response, self._type, "application/")
            reply = self._codec.decode(body)
        except Error as error:
            raise _noted(error, call, response) from error.__cause__
        if call.wants_metadata:
            _give(call, *metadata_of(response.headers.raw))
        return reply


class _Streams:
    """A stream of requests, of replies, or both, in envelopes."""

    def __init__(self, transport: ConnectTransport, operation: Operation) -> None:
        self._transport = transport
        self._operation = operation
        self._codec = _Codec(transport, operation)
        self._url = transport.url(operation)
        self._type = f"application/connect+{self._codec.name}"
        self._fixed = [
            (b"content-type", self._type.encode()),
            (b"connect-protocol-version", b"1"),
            (b"connect-accept-encoding", NAMES),
        ]

    async def send(self, call: Call) -> Reply:
        if self._operation.kind.server_streams:
            return self._replies(call)
        reply: Message[Any] | None = None
        replies = self._replies(call)
        async with closing(replies):
            async for message in replies:
                if reply is not None:
                    raise received(Unimplemented("the reply holds more than one message"))
                reply = message
        if reply is None:
            raise received(Unimplemented("the reply holds no message"))
        return reply

    async def _replies(self, call: Call) -> AsyncGenerator[Message[Any], None]:
        transport = self._transport
        pool = transport.pool()
        requests = _Requests(call.request, self._frame) if self._operation.kind.client_streams else None
        try:
            response = await _sent(transport, pool, call, self._request(call, pool, requests))
        except BaseException as raised:
            raise (requests.cause(raised) if requests is not None else raised) from raised.__cause__
        try:
            async for message in self._read(call, response):
                yield message
        except httpx2.HTTPError as failed:
            raise _failed(failed) from failed
        except Error as error:
            raise received(error) from error.__cause__
        finally:
            await _closed(response, pool)

    def _request(self, call: Call, pool: Pool, requests: "_Requests | None") -> httpx2.Request:
        # a stream's encoding is said ahead of its messages, so one that may compress a message always says it
        fields = [*_head(call), *self._fixed]
        if requests is not None:
            if self._transport.options.compress_above is not None:
                fields.append((b"connect-content-encoding", b"gzip"))
            content: Any = requests.forward()
        else:
            data = self._codec.encode(call.request)
            compressed = self._codec.compresses(data)
            if compressed:
                fields.append((b"connect-content-encoding", b"gzip"))
            content = frame(gzipped(data) if compressed else data, compressed=compressed)
        return httpx2.Request("POST", self._url, headers=fields, content=content, extensions=_timeouts(pool))

    def _frame(self, message: Message[Any]) -> bytes:
        data = self._codec.encode(message)
        compressed = self._codec.compresses(data)
        return frame(gzipped(data) if compressed else data, compressed=compressed)

    async def _read(self, call: Call, response: httpx2.Response) -> AsyncIterator[Message[Any]]:
        within, limit = self._transport.within, self._transport.max_bytes
        parts: AsyncIterator[bytes] = aiter(response.stream)  # type: ignore[arg-type]  # an asynchronous transport's
        if response.status_code != 200:
            body = await within(call, _beginning(parts, limit))
            raise _noted(_refusal(response, body, limit), call, response)
        if media_type(response.headers) != self._type:
            raise _noted(_wrong_type(response, self._type, "application/connect+"), call, response)
        head, _ = metadata_of(response.headers.raw)
        _give(call, head, Metadata())
        envelopes = Envelopes(limit, compression_of(response.headers.get("connect-content-encoding", "")))
        while (part := await within(call, anext(parts, None))) is not None:
            envelopes.feed(part)
            while (data := envelopes.next()) is not None:
                yield self._codec.decode(data)
        error, tail = end_of_stream(envelopes.finish())
        _give(call, Metadata(), tail)
        if error is not None:
            error.metadata = (*head.items(), *tail.items())
            error.final = tail.get("grpc-retry-pushback-ms") == "-1"
            raise received(error)


def _refusal(response: httpx2.Response, body: bytes, limit: int) -> Error:
    """Return the error of a stream that was refused; some servers say why in the form of unary errors."""
    with suppress(Error):
        plain = decompressed(body, compression_of(response.headers.get("content-encoding", "")), limit)
        return unary_error(response.status_code, response.headers, plain)
    return http_error(response.status_code, response.headers)


async def _beginning(parts: AsyncIterator[bytes], limit: int) -> bytes:
    body = b""
    async for part in parts:
        body += part
        if len(body) > limit:
            return b""
    return body


class _Requests:
    """The caller's stream of requests as a body; remembers what it raised, for that is what the caller should see."""

    def __init__(self, requests: AsyncIterator[Message[Any]], frame: Callable[[Message[Any]], bytes]) -> None:
        self._requests = requests
        self._frame = frame
        self._raised: Exception | None = None
        self._over = False

    async def forward(self) -> AsyncIterator[bytes]:
        try:
            async with closing(self._requests):
                async for request in self._requests:
                    yield self._frame(request)
            self._over = True
        except Exception as broken:
            self._raised = broken
            raise

    def cause(self, raised: BaseException) -> BaseException:
        if self._raised is not None:
            return self._raised
        if isinstance(raised, DeadlineExceeded) and not self._over:
            return received(
                DeadlineExceeded(
                    "the deadline passed while requests were still being sent; over Connect replies are read only "
                    "after the last request (for full duplex use gRPC: host:port)"
                )
            )
        return raised
