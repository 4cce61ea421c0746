"""A connection below SQLAlchemy: begin, commit, and the chassis' own statements, at the cost of a round trip each.

The chassis' statements run with every call and every event; built and compiled by SQLAlchemy each would cost several
times its round trip. They are texts with `$1`, `$2` … for values. A service's own statements go through SQLAlchemy, on
the same connection and in the same transaction.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import aiosqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock.data.failures import translated
from interlock.data.sqlite import Flush, SqliteConnection, hop
from interlock.errors import Unavailable

T = TypeVar("T")
Rows = Sequence[Any]
Statement = tuple[str, Sequence[Any]]


class Wire(Protocol):
    """Raises what `translated` makes of the driver's errors; those that it leaves alone as they come."""

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        ...

    @property
    def to_disk(self) -> Flush | None:
        """What waits until the last commit is on disk; None where the commit did, or nobody wants to."""
        ...

    async def begin(self, *, read_only: bool, durable: bool, lock_wait: float | None = None) -> None:
        """Begin a transaction; one that waits for a lock of a row for `lock_wait` seconds fails."""
        ...

    async def fetch(self, *statements: Statement) -> Rows:
        """Run statements, in one hop where the driver can, and return the rows of the last."""
        ...

    async def store(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row of values."""
        ...

    async def commit(self) -> bool:
        """Commit; False if the database rolled back instead."""
        ...

    async def roll_back(self) -> None:
        """Undo everything; nothing to do outside a transaction."""
        ...


class PostgresWire:
    """A connection of asyncpg."""

    def __init__(self, connection: Any, isolation: str) -> None:
        self._connection = connection
        self._begin = f"BEGIN ISOLATION LEVEL {isolation.upper()}"

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return bool(self._connection.is_closed())

    @property
    def to_disk(self) -> Flush | None:
        """Nothing: the server's commit waits."""
        return None

    async def begin(self, *, read_only: bool, durable: bool, lock_wait: float | None = None) -> None:
        """Begin a transaction."""
        sql = self._begin + " READ ONLY" if read_only else self._begin
        if not durable:
            sql += "; SET LOCAL synchronous_commit = off"
        if lock_wait is not None:
            sql += f"; SET LOCAL lock_timeout = {lock_wait * 1000:.0f}"
        await self.command(sql)

    async def fetch(self, *statements: Statement) -> Rows:
        """Run statements and return the rows of the last."""
        rows: Rows = ()
        try:
            for sql, values in statements:
                rows = await self._connection.fetch(sql, *values)
        except Exception as error:
            raise self._shown(error) from error
        return rows

    async def store(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row."""
        try:
            if len(rows) == 1:
                await self._connection.fetch(sql, *rows[0])
            else:
                await self._connection.executemany(sql, rows)
        except Exception as error:
            raise self._shown(error) from error

    async def commit(self) -> bool:
        """Commit; False if it was rolled back instead."""
        return await self.command("COMMIT") == "COMMIT"

    async def roll_back(self) -> None:
        """Undo everything."""
        if self._connection.is_in_transaction():
            await self.command("ROLLBACK")

    async def command(self, sql: str) -> str:
        """Run a statement without values and return what the server says of it."""
        try:
            return str(await self._connection.execute(sql))
        except Exception as error:
            raise self._shown(error) from error

    def _shown(self, error: Exception) -> Exception:
        if self.closed:
            return Unavailable("the database does not answer")
        return translated(error) or error


class SqliteWire:
    """A connection of aiosqlite; `flush` is what a durable commit waits for, None where the commit itself does."""

    def __init__(self, connection: aiosqlite.Connection, begin: str, flush: Flush | None) -> None:
        self._connection = connection
        self._begin = begin
        self._flush = flush
        self._flushes = False

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._connection._connection is None

    @property
    def to_disk(self) -> Flush | None:
        """The fsync that a durable commit waits for, shared with others."""
        return self._flush if self._flushes else None

    async def begin(self, *, read_only: bool, durable: bool, lock_wait: float | None = None) -> None:  # noqa: ARG002
        """Begin a transaction; nobody else writes meanwhile, so no lock of a row is waited for."""
        self._flushes = durable and not read_only
        if isinstance(self._connection, SqliteConnection):
            self._connection.first = self._begin
        else:
            await self._hop(lambda connection: connection.execute("BEGIN" if read_only else self._begin))

    async def fetch(self, *statements: Statement) -> Rows:
        """Run statements and return the rows of the last."""
        texts = [(_numbered(sql), tuple(values)) for sql, values in statements]

        def work(connection: sqlite3.Connection) -> Rows:
            rows: Rows = ()
            for sql, values in texts:
                rows = connection.execute(sql, values).fetchall()
            return rows

        return await self._hop(work)

    async def store(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row."""
        text, values = _numbered(sql), [tuple(each) for each in rows]
        await self._hop(lambda connection: connection.executemany(text, values))

    async def commit(self) -> bool:
        """Commit; False if it was rolled back instead."""
        if self._nothing_done():
            self._flushes = False
            return True
        return await self._hop(_commit)

    async def roll_back(self) -> None:
        """Undo everything."""
        if not self._nothing_done():
            await self._hop(_roll_back)

    def _nothing_done(self) -> bool:
        waiting = isinstance(self._connection, SqliteConnection) and bool(self._connection.first)
        if waiting:
            self._connection.first = ""  # type: ignore[attr-defined]  # it is ours
        return waiting

    async def _hop(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await hop(self._connection, work)
        except Exception as error:
            shown = Unavailable("the database does not answer") if self.closed else translated(error)
            if shown is None:
                raise
            raise shown from error


class BorrowedWire:
    """A connection whose transaction is somebody else's, such as a session's: statements only."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._postgresql = connection.dialect.name == "postgresql"

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return bool(self._connection.closed)

    @property
    def to_disk(self) -> Flush | None:
        """Nothing: it is its owner's."""
        return None

    async def begin(self, *, read_only: bool, durable: bool, lock_wait: float | None = None) -> None:  # noqa: ARG002
        """Refuse."""
        raise RuntimeError("this transaction is begun and ended by its owner")

    async def fetch(self, *statements: Statement) -> Rows:
        """Run statements and return the rows of the last."""
        rows: Rows = ()
        for sql, values in statements:
            text = sql if self._postgresql else _numbered(sql)
            result = await self._connection.exec_driver_sql(text, tuple(values))
            rows = result.all() if result.returns_rows else ()
        return rows

    async def store(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row."""
        for each in rows:
            await self.fetch((sql, each))

    async def commit(self) -> bool:
        """Refuse."""
        raise RuntimeError("this transaction is begun and ended by its owner")

    async def roll_back(self) -> None:
        """Refuse."""
        raise RuntimeError("this transaction is begun and ended by its owner")


@lru_cache(maxsize=256)
def _numbered(sql: str) -> str:
    """Return the text with SQLite's mark of a value."""
    return sql.replace("$", "?")


def _commit(connection: sqlite3.Connection) -> bool:
    if not connection.in_transaction:  # undone by SQLite itself, after a full disk for instance
        return False
    connection.execute("COMMIT")
    return True


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
