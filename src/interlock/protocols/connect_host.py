"""The host that a Connect client calls: how it is spoken to, its connections, and how calls of it are bounded."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import httpx2

from interlock.call import Call
from interlock.contract.model import Operation
from interlock.deadline import NEVER, monotonic
from interlock.errors import Cancelled, DeadlineExceeded
from interlock.protocols.client_streams import received
from interlock.protocols.client_tls import Tls
from interlock.protocols.http_pool import Pool, Pools, host_of, load_engine, shared_pools

if TYPE_CHECKING:
    from interlock.protocols.http2_duplex import Duplex

T = TypeVar("T")

_HAS_HTTP2 = find_spec("h2") is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How a client speaks Connect.

    `codec`: how messages are encoded. `use_get`: SAFE unary operations go as GET, which caches between may answer,
    where the URL stays under 8 KiB. `compress_above`: messages of more bytes are sent as gzip; None: none is.
    """

    codec: Literal["proto", "json"] = "proto"
    use_get: bool = False
    compress_above: int | None = 32 * 1024


class ConnectHost:
    """The host at `url` (`http://host:port`, `https://host/prefix`), its connections shared by all who call it.

    `max_bytes` bounds a message both ways, decompressed. Belongs to the event loop of its first call.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: Tls | None = None,
        options: ConnectOptions | None = None,
        max_bytes: int = 4 * 1024 * 1024,
        pools: Pools | None = None,
    ) -> None:
        self._base, self._host = host_of(url.rstrip("/"), tls)
        load_engine()
        self.options = options or ConnectOptions()
        self.max_bytes = max_bytes
        self._pools = pools
        self._pool: Pool | None = None
        self._duplex: Duplex | None = None
        self.is_http1 = not _HAS_HTTP2
        self._waiting: set[asyncio.Task[Any]] = set()
        self._closed = 0

    def pool(self) -> Pool:
        """Return the connections, joined by the first call."""
        if self._pool is None:
            self._pool = (self._pools or shared_pools()).join(self._host)
        return self._pool

    def duplex(self) -> "Duplex | None":
        """Return the HTTP/2 connections of streams both ways; None where the server, or we, have only HTTP/1.1."""
        if self.is_http1:
            return None
        if self._duplex is None:
            from interlock.protocols.http2_duplex import Duplex  # noqa: PLC0415 - h2 is an extra

            self._duplex = Duplex(self._host, (self._pools or shared_pools()).limits)
        return self._duplex

    def url(self, operation: Operation) -> httpx2.URL:
        """Return where calls of `operation` go."""
        return self._base.copy_with(path=self._base.path.rstrip("/") + operation.path)

    async def close(self) -> None:
        """Close the connections, unless other clients of the host use them; calls in flight are cancelled."""
        pool, self._pool = self._pool, None
        duplex, self._duplex = self._duplex, None
        if pool is None and duplex is None:
            return
        self._closed += 1
        for task in self._waiting:
            task.cancel()
        if duplex is not None:
            await duplex.close()
        if pool is not None:
            await pool._pools.leave(pool)

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
