"""One request and its response on the wire: the innermost handler of outbound HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import httpx2

from interlock.call import Call, Handler, Reply
from interlock.contract.model import Operation
from interlock.deadline import NEVER, monotonic
from interlock.errors import DeadlineExceeded, Error, TooLarge
from interlock.metadata import Metadata
from interlock.outbound.outcome import refusal
from interlock.protocols.client_streams import received
from interlock.protocols.connect_exchange import close_response, failure_of, timeouts
from interlock.protocols.http_pool import Pool

T = TypeVar("T")
_TOLD = (b"ratelimit", b"ratelimit-policy")


class Exchange:
    """A request on its way, as the calls of all its attempts share it.

    `refused` is the error that a response stands for, `response` is that response.
    """

    __slots__ = ("refused", "request", "response", "status", "target")

    def __init__(self, request: httpx2.Request, target: str) -> None:
        self.request = request
        self.target = target
        self.status = 0
        self.refused: Error | None = None
        self.response: httpx2.Response | None = None

    def span(self) -> tuple[str, dict[str, str | int]]:
        """Return name and attributes of its span (semantic conventions, "HTTP client"); paths and queries stay out."""
        request = self.request
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "server.address": request.url.host,
            "server.port": request.url.port or (443 if request.url.scheme == "https" else 80),
            "url.scheme": request.url.scheme,
            "interlock.target": self.target,
        }
        if self.status:
            attributes["http.response.status_code"] = self.status
        return f"{request.method} {self.target}", attributes


class Wire:
    """Sends requests over the pool of one host; `most` bounds what a response may hold, decompressed."""

    def __init__(self, pool: Pool, most: int) -> None:
        self._pool = pool
        self._most = most

    def handler(self, operation: Operation) -> Handler:
        """Return the handler of an operation: a streamed reply is the response's head, then its raw body."""
        return self._stream if operation.kind.server_streams else self._whole

    async def _whole(self, call: Call) -> Reply:
        response = await self._head(call)
        return await self._read(call, response)  # type: ignore[return-value]  # a response, where others have messages

    async def _stream(self, call: Call) -> Reply:
        return self._parts(call)

    async def _parts(self, call: Call) -> AsyncIterator[Any]:
        response = await self._head(call)
        if response.status_code >= 400:
            yield await self._read(call, response)
            return
        try:
            yield response
            parts = aiter(response.stream)  # type: ignore[arg-type]  # the stream of an asynchronous transport
            while (part := await within(call, _next(parts))) is not None:
                yield part
        except httpx2.HTTPError as failed:
            raise failure_of(failed) from failed
        finally:
            await close_response(response, self._pool)

    async def _head(self, call: Call) -> httpx2.Response:
        exchange: Exchange = call.request
        exchange.status, exchange.refused, exchange.response = 0, None, None
        given = exchange.request
        own = {name for name, _ in call.metadata.raw}
        request = httpx2.Request(
            given.method,
            given.url,
            headers=[*(pair for pair in given.headers.raw if pair[0].lower() not in own), *call.metadata.raw],
            stream=given.stream,
            extensions={**given.extensions, **timeouts(self._pool)},
        )
        try:
            response = await within(call, self._pool.send(request))
        except httpx2.LocalProtocolError:
            raise  # a header that can't be sent: our own mistake, which must not open the circuit
        except httpx2.HTTPError as failed:
            raise failure_of(failed) from failed
        exchange.status = response.status_code
        told = [(name.lower(), value) for name, value in response.headers.raw if name.lower() in _TOLD]
        if told:
            call.reply_headers.extend(Metadata.from_raw(told))
        return response

    async def _read(self, call: Call, response: httpx2.Response) -> httpx2.Response:
        """Return the response with its body; raise what it says to the policies."""
        exchange: Exchange = call.request
        try:
            body = await within(call, self._body(response))
        except httpx2.HTTPError as failed:
            raise failure_of(failed) from failed
        finally:
            await close_response(response, self._pool)
        whole = httpx2.Response(response.status_code, content=body, request=exchange.request)
        whole.headers, whole.extensions = response.headers, response.extensions
        refused = refusal(whole)
        if refused is not None:
            exchange.refused, exchange.response = refused, whole
            raise refused
        return whole

    async def _body(self, response: httpx2.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._most:
                raise received(TooLarge(f"the response is larger than the client's limit of {self._most} bytes"))
            parts.append(part)
        return b"".join(parts)


async def _next(parts: AsyncIterator[bytes]) -> bytes | None:
    return await anext(parts, None)


async def within(call: Call, work: Awaitable[T]) -> T:
    """Wait for a step of a call until its deadline; DeadlineExceeded then."""
    at = call.deadline.at
    if at == NEVER.at:
        return await work
    left = at - monotonic()
    try:
        async with asyncio.timeout(max(0.0, left)) as limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise received(DeadlineExceeded("the deadline passed before the response was there")) from None
