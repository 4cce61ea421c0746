"""PostgreSQL's LISTEN: hears of other processes' commits on a connection of its own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger("interlock.data")

_AGAIN = 1.0
"""Seconds until a lost connection is made again."""


class Listener:
    """Calls `heard` for each notification of `channel`, and after each connect, for what was missed in between."""

    def __init__(self, dsn: str, channel: str, heard: Callable[[], Awaitable[None]]) -> None:
        self._dsn = dsn
        self._channel = channel
        self._heard = heard
        self._signal = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen, in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop listening and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except OSError as lost:
                log.warning("not told of other processes' events for now: %s", lost)
            except Exception:
                log.warning("not told of other processes' events for now", exc_info=True)
            await asyncio.sleep(_AGAIN)

    async def _listen(self) -> None:
        import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, published without types

        connection = await asyncpg.connect(self._dsn, timeout=10)
        try:
            connection.add_termination_listener(self._wake)
            await connection.add_listener(self._channel, self._wake)
            while not connection.is_closed():
                self._signal.clear()
                await self._heard()
                await self._signal.wait()
        finally:
            await connection.close(timeout=2)

    def _wake(self, *_: object) -> None:
        self._signal.set()
