"""Streams both ways over HTTP/2 (RFC 9113), which the HTTP engine can't do: requests and replies at the same time.

`http://` is HTTP/2 with prior knowledge, `https://` by ALPN. Connections are shared by the streams of one client and
closed when idle. What a stream holds that nobody read yet is bounded by its window.
"""

import asyncio
from typing import Any

from interlock.protocols.http2_connection import Connection, Fields, NotHttp2, Stream, broken
from interlock.protocols.http_pool import Host, PoolLimits


class Duplex:
    """The connections of one client to one host, opened when a stream needs one."""

    def __init__(self, host: Host, limits: PoolLimits) -> None:
        self._host = host
        self._limits = limits
        self._connections: list[Connection] = []
        self._lock = asyncio.Lock()

    async def open(self, fields: Fields) -> Stream:
        """Open a stream; NotHttp2 where the server has none, Unavailable if no connection could be made."""
        async with self._lock:
            self._connections = [each for each in self._connections if not each.task.done()]
            free = next((each for each in self._connections if each.has_room), None)
            if free is None:
                free = await self._connect()
                self._connections.append(free)
            return free.open(fields)

    async def _connect(self) -> Connection:
        host = self._host
        context = host.tls.context() if host.tls is not None else None
        if context is not None:
            context.set_alpn_protocols(["h2", "http/1.1"])
        port = host.port or (443 if context is not None else 80)
        try:
            async with asyncio.timeout(self._limits.connect.total_seconds()):
                reader, writer = await asyncio.open_connection(host.name, port, ssl=context)
                return await self._greet(reader, writer)
        except OSError as failed:  # a TimeoutError and an SSLError too
            told = str(failed) or type(failed).__name__
            raise broken(f"no connection could be made: {told}", unsent=True) from failed

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        tls: Any = writer.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            writer.close()
            raise NotHttp2
        connection = Connection(reader, writer, self._limits.idle_time.total_seconds())
        try:
            await connection.greeted
        except BaseException:
            connection.task.cancel()
            writer.close()
            raise
        return connection

    async def close(self) -> None:
        """Close all connections; streams that are open break off."""
        tasks = [each.task for each in self._connections]
        self._connections = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
