"""The embedded broker's file: one SQLite database, one thread that owns the connection, many works a commit."""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from interlock.events.broker import BrokerUnavailable

T = TypeVar("T")

_BATCH = 256
"""The most works that share one commit, and its fsync."""
_PATIENCE = 10.0
"""Seconds to wait for another process that has the file."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS broker (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, type TEXT NOT NULL, partition INTEGER NOT NULL,
    only_group TEXT NOT NULL, attributes TEXT NOT NULL, data BLOB NOT NULL, stored REAL NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS message_id ON message (id) WHERE only_group = '';
CREATE INDEX IF NOT EXISTS message_partition ON message (partition, seq);
CREATE TABLE IF NOT EXISTS lane (
    grp TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, owner TEXT NOT NULL,
    fence INTEGER NOT NULL, expires REAL NOT NULL, PRIMARY KEY (grp, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS member (
    grp TEXT NOT NULL, owner TEXT NOT NULL, expires REAL NOT NULL, PRIMARY KEY (grp, owner)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delivery (
    grp TEXT NOT NULL, partition INTEGER NOT NULL, seq INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0, settled INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (grp, partition, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letter (
    id TEXT PRIMARY KEY, grp TEXT NOT NULL, attributes TEXT NOT NULL, data BLOB NOT NULL, code TEXT NOT NULL,
    cause TEXT NOT NULL, attempts INTEGER NOT NULL, at TEXT NOT NULL, traceparent TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(slots=True, eq=False)
class _Work:
    run: Callable[[sqlite3.Connection], Any]
    writes: bool
    durable: bool
    done: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None


class BrokerFile:
    """Runs works on the file in the order given; each is a transaction of its own as far as it can tell.

    Works that wait while another commits share the next commit, so many small writes cost one fsync. `committed` is
    called in the thread after a durable commit.
    """

    def __init__(self, path: Path, committed: Callable[[], None]) -> None:
        self._path = path
        self._committed = committed
        self._works: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Open the file, made where it is missing; BrokerUnavailable tells why it can't be."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._serve, args=(opened,), name=f"broker {self._path}", daemon=True)
        self._thread.start()
        try:
            await opened
        except BaseException:
            self._thread.join()
            self._thread = None
            raise

    async def close(self) -> None:
        """Run what waits, then close the file."""
        if self._thread is not None:
            self._works.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a work that only reads."""
        return await self._submit(work, writes=False, durable=False)

    async def write(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run a work that writes, and return once it is on disk; what it raises undoes it.

        Not `durable`, it survives a crash of the process, and perhaps not of the machine.
        """
        return await self._submit(work, writes=True, durable=durable)

    async def _submit(self, work: Callable[[sqlite3.Connection], T], *, writes: bool, durable: bool) -> T:
        if self._thread is None or self._loop is None:
            raise BrokerUnavailable(f"the broker {self._path} is not started")
        done: asyncio.Future[T] = self._loop.create_future()
        self._works.put(_Work(work, writes, durable, done))
        return await done

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _serve(self, opened: "asyncio.Future[None]") -> None:
        try:
            connection = _connect(self._path)
        except (sqlite3.Error, OSError) as wrong:
            self._tell(_fail, opened, BrokerUnavailable(f"the broker's file {self._path} can't be opened: {wrong}"))
            return
        self._tell(_succeed, opened)
        try:
            while (batch := self._next()) is not None:
                self._transact(connection, batch)
                self._tell(_settle, batch)
        finally:
            connection.close()

    def _next(self) -> list[_Work] | None:
        first = self._works.get()
        if first is None:
            return None
        batch = [first]
        with suppress(queue.Empty):
            while len(batch) < _BATCH:
                work = self._works.get_nowait()
                if work is None:
                    self._works.put(None)  # after this batch
                    break
                batch.append(work)
        return batch

    def _transact(self, connection: sqlite3.Connection, batch: list[_Work]) -> None:
        writes = any(each.writes for each in batch)
        durable = any(each.durable for each in batch)
        try:
            if writes:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            for each in batch:
                _run(connection, each)
            connection.execute("COMMIT")
        except sqlite3.Error as wrong:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            for each in batch:
                each.error = BrokerUnavailable(f"the broker's file {self._path} failed: {wrong}")
            return
        if durable:
            self._committed()

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(what, *args)  # type: ignore[union-attr]  # set before the thread started


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file; SQLite does not wait by itself while another process is about to open or close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return _opened(path)
        except sqlite3.OperationalError as wrong:
            if wrong.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
        time.sleep(0.01)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=True)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _run(connection: sqlite3.Connection, work: _Work) -> None:
    connection.execute("SAVEPOINT work")
    try:
        work.result = work.run(connection)
    except sqlite3.Error:
        raise
    except Exception as error:
        connection.execute("ROLLBACK TO work")
        work.error = error
    connection.execute("RELEASE work")


def _settle(batch: list[_Work]) -> None:
    for each in batch:
        if each.done.done():
            continue
        if each.error is not None:
            each.done.set_exception(each.error)
        else:
            each.done.set_result(each.result)


def _succeed(opened: "asyncio.Future[None]") -> None:
    if not opened.done():
        opened.set_result(None)


def _fail(opened: "asyncio.Future[None]", error: Exception) -> None:
    if not opened.done():
        opened.set_exception(error)
