"""HTTP connections of clients: a pool for each host, shared by the clients of one event loop.

At most 100 idle connections, 10 of them to one host, none idle for more than 90 s; 30 s to connect. A host that is a
name stands for all its addresses (`http_balance.py`).
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any, TypeAlias

import httpx2

from interlock.protocols.client_tls import Tls
from interlock.protocols.http_balance import Balance, Resolve, look_up
from interlock.url import shown

_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For `http://`, where the engine would read all the system's authorities and use none."""


Trace: TypeAlias = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Told of an engine's step: its name and what belongs to it (httpcore, extension `trace`)."""


@cache
def load_engine() -> None:
    """Import what the engine would import in the first call, which has a deadline."""
    httpx2.AsyncHTTPTransport(verify=_NO_AUTHORITIES, trust_env=False)  # opens nothing
    for lazy in ("anyio", "anyio._backends._asyncio"):
        if find_spec(lazy.partition(".")[0]) is not None:
            import_module(lazy)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """Bounds on connections: how many wait idle (in all, for one host) and how long; how long connecting may take."""

    idle: int = 100
    idle_per_host: int = 10
    idle_time: timedelta = timedelta(seconds=90)
    connect: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        if not 0 < self.idle_per_host <= self.idle or min(self.idle_time, self.connect) <= timedelta():
            raise ValueError("pools need 0 < idle_per_host <= idle, and times above zero")


@dataclass(frozen=True, slots=True)
class Host:
    """Whom a pool connects to, and how: pools of the same host are one."""

    scheme: str
    name: str
    port: int | None
    tls: Tls | None


def host_of(url: str, tls: Tls | None) -> tuple[httpx2.URL, Host]:
    """Return a target's URL, and whom its pool connects to; ValueError, with no password in it, where it is none."""
    try:
        base = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as wrong:
        raise ValueError(f"{shown(str(url))!r} is no URL: {wrong}") from wrong
    if base.scheme not in ("http", "https") or not base.host or base.query or base.fragment or base.userinfo:
        raise ValueError(
            f"{shown(str(url))!r} is no target; write https://host or http://host:port, a path may follow; "
            "credentials are given apart"
        )
    if tls is not None and base.scheme == "http":
        raise ValueError(f"{shown(str(url))!r} has no TLS; write https://, or leave `tls` out")
    return base, Host(base.scheme, base.host, base.port, tls or (Tls() if base.scheme == "https" else None))


class Pool:
    """The connections to one host; opened by the first request, closed when its last client is."""

    def __init__(self, pools: "Pools", host: Host) -> None:
        self._pools = pools
        self.host = host
        self.clients = 0
        self.busy = 0
        self.used = time.monotonic()
        self._transport: httpx2.AsyncBaseTransport | None = None
        self._keeps = True
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether there may be connections."""
        return self._transport is not None

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the head of its response; `done` must be called when that was closed.

        What httpx2 raises comes through, and counts as done.
        """
        transport = self._transport or await self._open()
        self.busy += 1
        if self._pools.trace is not None:
            request.extensions["trace"] = self._pools.trace
        try:
            return await transport.handle_async_request(request)
        except BaseException as failed:
            self.done()
            if isinstance(failed, OSError):  # an alert of TLS, which the engine lets through
                raise httpx2.ReadError(str(failed)) from failed
            raise

    def done(self) -> None:
        """Note that an exchange is over."""
        self.busy -= 1
        self.used = time.monotonic()

    async def close(self) -> None:
        """Close all connections; the next request opens anew."""
        transport, self._transport = self._transport, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if transport is not None:
            await transport.aclose()

    async def _open(self) -> httpx2.AsyncBaseTransport:
        self._keeps = await self._pools.make_room()
        if self._transport is None:  # another request may have been quicker
            host, idle = self.host, self._pools.limits.idle_per_host
            connect = partial(self._connect, host.tls.context() if host.tls is not None else _NO_AUTHORITIES)
            if _is_address(host.name):
                self._transport = connect(idle)
            else:
                port = host.port or (443 if host.scheme == "https" else 80)
                self._transport = Balance(host.name, port, idle=idle, connect=connect, resolve=self._pools.resolve)
            self._look_again()
        return self._transport

    def _connect(self, verify: ssl.SSLContext, idle: int) -> httpx2.AsyncHTTPTransport:
        return httpx2.AsyncHTTPTransport(
            verify=verify,
            trust_env=False,
            limits=httpx2.Limits(
                max_connections=None,
                max_keepalive_connections=idle if self._keeps else 0,
                keepalive_expiry=self._pools.limits.idle_time.total_seconds(),
            ),
        )

    def _look_again(self) -> None:
        wait = self._pools.limits.idle_time.total_seconds()
        self._timer = asyncio.get_running_loop().call_later(wait, self._look)

    def _look(self) -> None:
        """Close what has been idle too long; the engine itself only looks when there is another request."""
        self._timer = None
        idle = time.monotonic() - self.used >= self._pools.limits.idle_time.total_seconds()
        if not self.busy and (idle or not self._keeps):
            self._pools.later(self.close)
        else:
            self._look_again()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class Pools:
    """The pools of one event loop."""

    def __init__(
        self, limits: PoolLimits | None = None, *, trace: Trace | None = None, resolve: Resolve = look_up
    ) -> None:
        """Take bounds, what looks names up, and who is told of each step of every request.

        Steps are named as `connection.connect_tcp.complete` is.
        """
        self.limits = limits or PoolLimits()
        self.trace = trace
        self.resolve = resolve
        self._pools: dict[Host, Pool] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def join(self, host: Host) -> Pool:
        """Return the pool of `host` for one client more; it must `leave` it."""
        pool = self._pools.get(host)
        if pool is None:
            pool = self._pools[host] = Pool(self, host)
        pool.clients += 1
        return pool

    async def leave(self, pool: Pool) -> None:
        """Count a client out; with the last one the connections are closed."""
        pool.clients -= 1
        if not pool.clients:
            self._pools.pop(pool.host, None)
            await pool.close()

    async def make_room(self) -> bool:
        """Close the pool that was used least recently, if this one is too many; False where all are in use.

        Then the new pool must keep no idle connection, so that there are never more than `idle`.
        """
        there = [pool for pool in self._pools.values() if pool.is_open]
        if (len(there) + 1) * self.limits.idle_per_host <= self.limits.idle:
            return True
        unused = [pool for pool in there if not pool.busy]
        if not unused:
            return False
        await min(unused, key=lambda pool: pool.used).close()
        return True

    def later(self, close: Callable[[], Any]) -> None:
        """Close in a task of its own."""
        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


_pools: dict[asyncio.AbstractEventLoop, Pools] = {}


def shared_pools() -> Pools:
    """Return the pools of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _pools.get(loop)
    if found is None:
        for gone in [each for each in _pools if each.is_closed()]:
            del _pools[gone]
        found = _pools[loop] = Pools()
    return found
