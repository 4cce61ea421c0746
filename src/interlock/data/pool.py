"""A pool of connections that stay open, each with its wire beside it: bounded, fair, and counted."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock.data.wires import Wire
from interlock.errors import Unavailable

log = logging.getLogger("interlock.data")


class Pooled:
    """A connection as SQLAlchemy knows it, and the wire below.

    `used` tells that it has worked before, `undone` that somebody, such as a session, rolled back at SQLAlchemy.
    """

    __slots__ = ("connection", "undone", "used", "wire")

    def __init__(self, connection: AsyncConnection, wire: Wire) -> None:
        self.connection = connection
        self.wire = wire
        self.used = False
        self.undone = False
        event.listen(connection.sync_connection, "rollback", self._rolled_back)

    def _rolled_back(self, _connection: Connection) -> None:
        self.undone = True

    @property
    def broken(self) -> bool:
        """Whether it can't be used again."""
        return self.connection.closed or self.connection.invalidated or self.wire.closed


class Pool:
    """At most `size` connections made by `open_one`; the one given back last is taken first.

    Those who wait get one in the order in which they came, after `timeout` seconds Unavailable. With `keep` off,
    connections are closed when they are given back, for a pool below to keep. Belongs to one event loop.
    """

    def __init__(self, open_one: Callable[[], Awaitable[Pooled]], size: int, timeout: float, *, keep: bool) -> None:
        self.size = size
        self.opened = 0
        self._open_one = open_one
        self._timeout = timeout
        self._keep = keep
        self._idle: list[Pooled] = []
        self._waiting: deque[asyncio.Future[Pooled | None]] = deque()
        self._closed = False

    @property
    def in_use(self) -> int:
        """How many connections are taken."""
        return self.opened - len(self._idle)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    async def take(self) -> Pooled:
        """Return a connection for the caller alone; Unavailable if none is free in time, or none can be opened."""
        while self._idle:
            pooled = self._idle.pop()
            if not pooled.broken:
                return pooled
            await self._discard(pooled)
        if self.opened >= self.size:
            found = await self._wait()
            if found is not None:
                return found
        else:
            self.opened += 1
        try:
            return await self._open_one()
        except BaseException:
            self.opened -= 1
            self._hand_on(None)
            raise

    async def give(self, pooled: Pooled) -> None:
        """Take a connection back; one that broke is closed, and another may be opened in its place."""
        if pooled.broken or self._closed or not self._keep:
            await self._discard(pooled)
            self._hand_on(None)
            return
        pooled.used, pooled.undone = True, False
        if not self._hand_on(pooled):
            self._idle.append(pooled)

    async def forget_idle(self) -> None:
        """Close what lies idle: the server is gone, or was."""
        idle, self._idle = self._idle, []
        for each in idle:
            await self._discard(each)

    async def close(self) -> None:
        """Close what is idle now, and the rest when it comes back."""
        self._closed = True
        await self.forget_idle()

    async def _wait(self) -> Pooled | None:
        """Return a connection handed on, or None with the right to open one."""
        mine: asyncio.Future[Pooled | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            async with asyncio.timeout(self._timeout):
                return await mine
        except BaseException as given_up:
            if mine in self._waiting:
                self._waiting.remove(mine)
            elif mine.done() and not mine.cancelled():  # it came too late
                await self._pass_on(mine.result())
            if isinstance(given_up, TimeoutError):
                raise Unavailable("the database is busy") from None
            raise

    async def _pass_on(self, pooled: Pooled | None) -> None:
        if pooled is not None:
            await self.give(pooled)
        else:
            self.opened -= 1
            self._hand_on(None)

    def _hand_on(self, pooled: Pooled | None) -> bool:
        """Give a connection, or the right to open one, to who waits first; False if nobody does."""
        while self._waiting:
            if pooled is None and self.opened >= self.size:
                return False
            mine = self._waiting.popleft()
            if not mine.done():
                self.opened += pooled is None
                mine.set_result(pooled)
                return True
        return False

    async def _discard(self, pooled: Pooled) -> None:
        self.opened -= 1
        try:
            await pooled.connection.close()
        except (SQLAlchemyError, OSError):
            log.warning("a connection broke while it was closed", exc_info=True)
