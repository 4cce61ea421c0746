"""Unary calls of a Connect client: POST, or GET where repeating does nothing."""

from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import quote

import httpx2
from protobuf import Message

from interlock.call import Call, Reply
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Operation
from interlock.errors import Error, TooLarge
from interlock.protocols.client_streams import received
from interlock.protocols.compression import NAMES, gzipped
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
from interlock.protocols.connect_reply import compression_of, decompressed, media_type, metadata_of, unary_error
from interlock.protocols.http_pool import Pool

_LONGEST_URL = 8 * 1024


class UnaryCalls:
    """One request and one reply, each a whole HTTP body."""

    def __init__(self, host: ConnectHost, operation: Operation) -> None:
        self._host = host
        self._codec = ClientCodec(host, operation)
        self._url = host.url(operation)
        self._type = f"application/{self._codec.name}"
        self._gets = host.options.use_get and operation.idempotency is Idempotency.SAFE
        self._fixed = [(b"content-type", self._type.encode()), (b"connect-protocol-version", b"1")]

    async def send(self, call: Call) -> Reply:
        """Send a call: the handler of the operation."""
        as_get = self._gets
        response, body = await self._exchange(call)
        if response.status_code == 405 and as_get:
            self._gets = False  # the server does not know that the operation is safe; it did nothing
            response, body = await self._exchange(call)
        return self._read(call, response, body)

    async def _exchange(self, call: Call) -> tuple[httpx2.Response, bytes]:
        host = self._host
        pool = host.pool()
        response = await sent(host, pool, call, self._request(call, pool))
        try:
            body = await host.within(call, self._body(response))
        except httpx2.HTTPError as failed:
            raise failure_of(failed) from failed
        except Error as error:
            raise received(error) from error.__cause__
        finally:
            await close_response(response, pool)
        return response, body

    def _request(self, call: Call, pool: Pool) -> httpx2.Request:
        data = self._codec.encode(call.request)
        fields = [(b"accept-encoding", NAMES), *head_of(call)]
        if self._gets:
            target = f"{self._url.path}?{self._query(data)}"
            if len(target) <= _LONGEST_URL:
                url = self._url.copy_with(raw_path=target.encode("ascii"))
                return httpx2.Request("GET", url, headers=fields, extensions=timeouts(pool))
        fields.extend(self._fixed)
        if self._codec.compresses(data):
            data = gzipped(data)
            fields.append((b"content-encoding", b"gzip"))
        return httpx2.Request("POST", self._url, headers=fields, content=data, extensions=timeouts(pool))

    def _query(self, data: bytes) -> str:
        if self._codec.name == "json":
            return f"connect=v1&encoding=json&message={quote(data, safe='')}"
        return f"connect=v1&encoding=proto&base64=1&message={urlsafe_b64encode(data).rstrip(b'=').decode()}"

    async def _body(self, response: httpx2.Response) -> bytes:
        parts: list[bytes] = []
        size, limit = 0, self._host.max_bytes
        async for part in response.stream:  # type: ignore[union-attr]  # the stream of an asynchronous transport
            size += len(part)
            if size > limit:
                raise TooLarge(f"the reply is larger than the client's limit of {limit} bytes")
            parts.append(part)
        return decompressed(b"".join(parts), compression_of(response.headers.get("content-encoding", "")), limit)

    def _read(self, call: Call, response: httpx2.Response, body: bytes) -> Message[Any]:
        if response.status_code != 200:
            raise noted(unary_error(response.status_code, response.headers, body), call, response)
        try:
            if response.headers.get("content-type") != self._type and media_type(response.headers) != self._type:
                raise wrong_type(response, self._type, "application/")
            reply = self._codec.decode(body)
        except Error as error:
            raise noted(error, call, response) from error.__cause__
        if call.wants_metadata:
            give(call, *metadata_of(response.headers.raw))
        return reply
