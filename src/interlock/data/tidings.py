"""Tells other processes of one database that its outbox has news: LISTEN/NOTIFY on PostgreSQL, a doorbell on SQLite.

NOTIFY inside the transactions would make them commit one behind the other (PostgreSQL holds a lock from the notify to
the commit's end); so it goes out behind them, one for all that committed meanwhile. One that is lost with its process
is made up for by the relay's polling.
"""

import asyncio
import logging
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.data.doorbell import Doorbell
from interlock.data.listener import Listener
from interlock.errors import Error

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from interlock.data.database import Database

log = logging.getLogger("interlock.data")

CHANNEL = "interlock_outbox"
"""What PostgreSQL notifies."""


class Tidings:
    """Rings `database.outbox_bell` for news of other processes, once listening, and theirs for our own."""

    def __init__(self, database: "Database", url: "URL") -> None:
        self._database = database
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        path = Path(url.database or "")
        self._doorbell = None if database.is_postgresql else Doorbell(path.with_name(path.name + "-bells"))
        self._listener: Listener | None = None
        self._hung = False
        self._news = False
        self._telling: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Begin to hear of other processes' commits; once more does nothing."""
        if self._doorbell is not None and not self._hung:
            self._hung = True
            self._doorbell.hang(self._database.outbox_bell.strike)
        elif self._doorbell is None and self._listener is None:
            self._listener = Listener(self._dsn, CHANNEL, self._database.outbox_bell.ring)
            self._listener.start()

    async def stop(self) -> None:
        """Stop listening, and tell what is still to be told."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.stop()
        if self._doorbell is not None and self._hung:
            self._hung = False
            self._doorbell.take_down()
        if self._telling is not None:
            await asyncio.wait((self._telling,), timeout=1.0)
            self._telling.cancel()

    def tell(self) -> None:
        """Tell the others that something was committed; never waits."""
        if self._doorbell is not None:
            self._doorbell.ring()
            return
        self._news = True
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._notify(), context=Context())

    async def _notify(self) -> None:
        while self._news:
            self._news = False
            try:
                await self._database.command(f"NOTIFY {CHANNEL}")
            except Error as away:
                log.debug("other processes were not told of an event, and find it by looking: %s", away)
