"""What grows old in the chassis' tables goes: expired answers, inbox rows past use; and page keys get a successor."""

import asyncio
import logging
import random
from contextvars import Context
from typing import TYPE_CHECKING

from interlock.data import inbox
from interlock.data.idempotency import StoredAnswers
from interlock.errors import Error

if TYPE_CHECKING:
    from interlock.data.database import Database

log = logging.getLogger("interlock.data")

HOUR = 3600.0


class Purge:
    """Purges `database` every hour or so, at other times in each process. Belongs to one event loop.

    Inbox rows are kept for `inbox_age` seconds: longer than any broker keeps an event. Work is done in short
    transactions, so that nobody waits long for it.
    """

    def __init__(
        self,
        database: "Database",
        answers: StoredAnswers | None = None,
        *,
        every: float = HOUR,
        inbox_age: float = 7 * inbox.DAY,
    ) -> None:
        self._database = database
        self._answers = answers or StoredAnswers(database)
        self._every = every
        self._inbox_age = inbox_age
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, with a turn after a part of the first hour."""
        self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())

    async def stop(self) -> None:
        """Stop; before the database does."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def turn(self) -> int:
        """Purge what is due now, and return how many rows went."""
        gone = 0
        while count := await self._answers.purge():
            gone += count
        while count := await inbox.purge(self._database, age=self._inbox_age):
            gone += count
        await self._database.page_keys.rotate()
        return gone

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every * random.uniform(0.1, 1.0))  # noqa: S311 - jitter, not a secret
            try:
                await self.turn()
            except Error as error:
                log.warning("old rows were not purged, and are the next time: %s", error)
            except Exception:
                log.exception("old rows were not purged")
