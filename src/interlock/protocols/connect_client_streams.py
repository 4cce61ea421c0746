"""Streams of a Connect client, in envelopes.

A stream both ways goes over HTTP/2. Where there is only HTTP/1.1, or no h2 here, the requests go out before a reply is
read (half-duplex).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import httpx2
from protobuf import Message

from interlock.call import Call, Reply
from interlock.contract.model import Kind, Operation
from interlock.errors import UNPROCESSED, DeadlineExceeded, Error
from interlock.metadata import Metadata
from interlock.protocols.client_streams import Requests, only, received
from interlock.protocols.compression import NAMES, gzipped
from interlock.protocols.connect_envelopes import Envelopes
from interlock.protocols.connect_exchange import (
    ClientCodec,
    close_response,
    failure_of,
    give,
    head_of,
    noted,
    sent,
    timeouts,
    wrong_type,
)
from interlock.protocols.connect_host import ConnectHost
from interlock.protocols.connect_reply import (
    compression_of,
    decompressed,
    end_of_stream,
    http_error,
    media_type,
    metadata_of,
    unary_error,
)
from interlock.protocols.grpc_wire import frame
from interlock.protocols.http_pool import Pool


class StreamCalls:
    """A stream of requests, of replies, or both, in envelopes."""

    def __init__(self, host: ConnectHost, operation: Operation) -> None:
        self._host = host
        self._operation = operation
        self._codec = ClientCodec(host, operation)
        self._url = host.url(operation)
        self._type = f"application/connect+{self._codec.name}"
        self._fixed = [
            (b"content-type", self._type.encode()),
            (b"connect-protocol-version", b"1"),
            (b"connect-accept-encoding", NAMES),
        ]

    async def send(self, call: Call) -> Reply:
        """Send a call: the handler of the operation."""
        if self._operation.kind.server_streams:
            return self._replies(call)
        return await only(self._replies(call))

    async def _replies(self, call: Call) -> AsyncGenerator[Message[Any], None]:
        requests = Requests(call.request, self._frame) if self._operation.kind.client_streams else None
        try:
            response, close = await self._begin(call, requests)
        except BaseException as raised:
            raise _cause(requests, raised) from raised.__cause__
        try:
            async for message in self._read(call, response):
                yield message
        except httpx2.HTTPError as failed:
            raise failure_of(failed) from failed
        except Error as error:
            told = received(error) if requests is None or requests.raised is not error else error
            raise told from error.__cause__
        finally:
            await close()

    async def _begin(
        self, call: Call, requests: Requests | None
    ) -> tuple[httpx2.Response, Callable[[], Awaitable[object]]]:
        """Return the reply's head, and what must be called when all was read."""
        host = self._host
        duplex = host.duplex() if self._operation.kind is Kind.BIDI_STREAM else None
        if duplex is not None and requests is not None:
            from interlock.protocols.connect_client_duplex import talk  # noqa: PLC0415 - h2 is an extra
            from interlock.protocols.http2_connection import NotHttp2  # noqa: PLC0415

            try:
                return await talk(host, duplex, call, self._duplex_fields(call), requests.forward())
            except NotHttp2:
                host.is_http1 = True
        pool = host.pool()
        response = await sent(host, pool, call, self._request(call, pool, requests))
        return response, partial(close_response, response, pool)

    def _duplex_fields(self, call: Call) -> list[tuple[bytes, bytes]]:
        url = self._url
        pseudo = [
            (b":method", b"POST"),
            (b":scheme", url.scheme.encode()),
            (b":authority", url.netloc),
            (b":path", url.raw_path),
        ]
        return [*pseudo, *self._stream_fields(call)]

    def _stream_fields(self, call: Call) -> list[tuple[bytes, bytes]]:
        # a stream's encoding is said ahead of its messages, so one that may compress a message always says it
        fields = [*head_of(call), *self._fixed]
        if self._host.options.compress_above is not None:
            fields.append((b"connect-content-encoding", b"gzip"))
        return fields

    def _request(self, call: Call, pool: Pool, requests: Requests | None) -> httpx2.Request:
        if requests is not None:
            fields = self._stream_fields(call)
            content: Any = requests.forward()
        else:
            fields = [*head_of(call), *self._fixed]
            content = self._frame(call.request)
            if content[0]:  # its flag: compressed
                fields.append((b"connect-content-encoding", b"gzip"))
        return httpx2.Request("POST", self._url, headers=fields, content=content, extensions=timeouts(pool))

    def _frame(self, message: Message[Any]) -> bytes:
        data = self._codec.encode(message)
        compressed = self._codec.compresses(data)
        return frame(gzipped(data) if compressed else data, compressed=compressed)

    async def _read(self, call: Call, response: httpx2.Response) -> AsyncIterator[Message[Any]]:
        within, limit = self._host.within, self._host.max_bytes
        parts: AsyncIterator[bytes] = aiter(response.stream)  # type: ignore[arg-type]  # an asynchronous transport's
        if response.status_code != 200:
            body = await within(call, _beginning(parts, limit))
            raise noted(_refusal(response, body, limit), call, response)
        if media_type(response.headers) != self._type:
            raise noted(wrong_type(response, self._type, "application/connect+"), call, response)
        head, _ = metadata_of(response.headers.raw)
        give(call, head, Metadata())
        envelopes = Envelopes(limit, compression_of(response.headers.get("connect-content-encoding", "")))
        while (part := await within(call, anext(parts, None))) is not None:
            envelopes.feed(part)
            while (data := envelopes.next()) is not None:
                yield self._codec.decode(data)
        error, tail = end_of_stream(envelopes.finish())
        give(call, Metadata(), tail)
        if error is not None:
            error.metadata = (*head.items(), *tail.items())
            error.final = tail.get("grpc-retry-pushback-ms") == "-1"
            error.unsent = UNPROCESSED in error.metadata
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


def _cause(requests: Requests | None, raised: BaseException) -> BaseException:
    """Return what the caller should see for what was raised before there was a reply."""
    if requests is None:
        return raised
    if requests.raised is not None:
        return requests.raised
    if isinstance(raised, DeadlineExceeded) and not requests.over:
        return received(
            DeadlineExceeded(
                "the deadline passed while requests were still being sent; over HTTP/1.1 replies are read only "
                "after the last request (full duplex needs HTTP/2, and interlock[http2] here)"
            )
        )
    return raised
