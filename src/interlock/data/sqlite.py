"""SQLite's connections: one hop to their thread a statement, and one fsync for all that commit at a time."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import aiosqlite

from interlock.data.unit import to_end
from interlock.errors import Unavailable

T = TypeVar("T")


class SqliteConnection(aiosqlite.Connection):
    """A connection with its thread; `first` is run in front of the next statement, in the same hop."""

    first = ""

    def cursor(self) -> "SqliteCursor":  # type: ignore[override]  # SQLAlchemy awaits what it returns
        """Return a cursor that reads its rows together with its statement."""
        return SqliteCursor(self)


async def hop(connection: aiosqlite.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` in the connection's thread; a statement whose caller is cancelled is stopped there."""

    def run() -> T:
        if isinstance(connection, SqliteConnection) and connection.first:
            first, connection.first = connection.first, ""
            connection._conn.execute(first)
        return work(connection._conn)

    try:
        return await connection._execute(run)  # type: ignore[no-any-return, no-untyped-call]
    except asyncio.CancelledError:
        await to_end(_interrupted(connection))
        raise


async def _interrupted(connection: aiosqlite.Connection) -> None:
    """Interrupt until the thread is free: a statement that has not begun yet is not stopped by one."""
    free = asyncio.ensure_future(connection._execute(int))  # type: ignore[no-untyped-call]
    while not free.done():
        connection._conn.interrupt()
        await asyncio.wait((free,), timeout=0.02)


class SqliteCursor:
    """What SQLAlchemy's adapter wants of a cursor, and no more."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "SqliteCursor":
        return self

    async def execute(self, sql: str, parameters: Any = ()) -> "SqliteCursor":
        """Run a statement and read all its rows."""

        def work(connection: sqlite3.Connection) -> tuple[Any, list[Any], int, int | None]:
            cursor = connection.execute(sql, parameters)
            rows = cursor.fetchall() if cursor.description else []
            return cursor.description, rows, cursor.rowcount, cursor.lastrowid

        self.description, self._rows, self.rowcount, self.lastrowid = await hop(self._connection, work)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Any]) -> "SqliteCursor":
        """Run a statement once for each set of parameters."""
        self.rowcount = await hop(self._connection, lambda opened: opened.executemany(sql, parameters).rowcount)
        return self

    async def fetchall(self) -> Sequence[Any]:
        """Return the rows read."""
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Nothing is open behind a statement."""


def connect(path: str, *, busy_timeout: float, read_only: bool) -> Callable[[], Any]:
    """Return what opens a connection; `busy_timeout` in seconds."""

    def opened() -> sqlite3.Connection:
        # None: we say BEGIN ourselves
        connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        # a commit does not wait for the disk by itself: `Flush` does, once for all that wait
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        if read_only:
            connection.execute("PRAGMA query_only=ON")
        return connection

    async def made() -> SqliteConnection:
        connection = SqliteConnection(opened, 64)
        connection._thread.daemon = True  # a process that ends in a hurry does not wait for it
        return await connection  # type: ignore[return-value]  # it returns itself

    return made


class Flush:
    """Waits until what was committed is on disk: all who wait while one fsync runs share the next.

    With `synchronous=NORMAL` SQLite syncs the write-ahead log before it copies from it, so an fsync of the log behind
    the commit is all that FULL would add (sqlite.org/wal.html §2, pragma synchronous).
    """

    def __init__(self, path: str) -> None:
        self._log = path + "-wal"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fsync")
        self._running: asyncio.Future[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Return once all commits before this call are on disk; Unavailable if the disk refuses."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._behind(self._running))
        task = self._next
        await asyncio.wait((task,))
        if (failed := task.exception()) is not None:
            raise Unavailable("the database's disk failed; what was written may not last") from failed

    async def _behind(self, before: "asyncio.Future[None] | None") -> None:
        if before is not None and not before.done():
            await asyncio.wait((before,))
        self._next = None
        self._running = asyncio.get_running_loop().run_in_executor(self._thread, self._sync)
        await self._running

    def _sync(self) -> None:
        try:
            log = os.open(self._log, os.O_RDWR)
        except FileNotFoundError:
            return  # checkpointed and removed with the last connection: on disk
        try:
            os.fsync(log)
        finally:
            os.close(log)

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False)
