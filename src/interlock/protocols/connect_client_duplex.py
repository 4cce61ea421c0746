"""Full duplex of a Connect client: a task sends the requests while the replies are read, over HTTP/2."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import httpx2

from interlock.call import Call
from interlock.protocols.connect_host import ConnectHost
from interlock.protocols.http2_connection import Fields, Stream
from interlock.protocols.http2_duplex import Duplex
from interlock.protocols.serving import closing


class _Body(httpx2.AsyncByteStream):
    """What the reply of a stream holds, as the HTTP engine would give it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.parts()


async def talk(
    host: ConnectHost, duplex: Duplex, call: Call, fields: Fields, requests: AsyncGenerator[bytes, None]
) -> tuple[httpx2.Response, Callable[[], Awaitable[object]]]:
    """Begin to send the requests; return the reply's head once it is there, and what must be called at the end.

    NotHttp2 where the server has only HTTP/1.1: then no request was taken.
    """
    stream = await host.within(call, duplex.open(fields))
    sending = asyncio.create_task(_send(stream, requests))

    async def close() -> None:
        stream.close()
        sending.cancel()
        await asyncio.wait((sending,))

    try:
        status, headers = await host.within(call, stream.head())
    except BaseException:
        await close()
        raise
    return httpx2.Response(status, headers=list(headers), stream=_Body(stream)), close


async def _send(stream: Stream, requests: AsyncGenerator[bytes, None]) -> None:
    try:
        async with closing(requests):
            async for data in requests:
                if not await stream.send(data):
                    break
        stream.end()
    except Exception as broken:  # whatever the caller's own code raised, its reader is told
        stream.stop(broken)
