"""The service's database: SQLite or PostgreSQL by URL, and how transactions begin, commit and run again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from protobuf import Message
from sqlalchemy import ColumnElement, Double, MetaData, cast, func, literal
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from interlock.call import current_call
from interlock.data.bell import Bell
from interlock.data.block import Block
from interlock.data.engines import Engines, Isolation, Options, read_url, url_of
from interlock.data.failures import translated
from interlock.data.joined import Joined
from interlock.data.page_keys import PageKeys
from interlock.data.pool import Pool, Pooled
from interlock.data.probe import probe
from interlock.data.tables import chassis
from interlock.data.tidings import Tidings
from interlock.data.transaction import Transaction
from interlock.data.unit import ATTEMPTS, Conflict, open_scope, pause, to_end
from interlock.data.wires import PostgresWire
from interlock.deadline import monotonic
from interlock.errors import Error, Unavailable
from interlock.url import shown

log = logging.getLogger("interlock.data")

T = TypeVar("T")
Publisher = Callable[[Transaction, Message[Any]], Awaitable[str]]

_LOCK = 0x1_E710C  # the advisory lock under which PostgreSQL makes the tables


class Database:
    """A service's one database; `start` it before use, `stop` it after. Belongs to one event loop.

    `url`: `sqlite:///var/orders.db` (relative; four slashes for an absolute path) or `postgresql://user@host/name`, or
    an AsyncEngine of the service's own (asyncpg or aiosqlite), whose pool is then used, and which is not disposed of.
    `metadata`: tables of the service's own to make at `start` where they are missing; leave it out if migrations do
    that. `pool_size`: connections of this process (SQLite: readers, beside the one writer). `busy_timeout`: how long
    to wait for a connection or for SQLite's write lock. `statement_timeout`: the longest statement on PostgreSQL; one
    whose call is cancelled, at its deadline for instance, is stopped at once on both. `isolation`: PostgreSQL's;
    "repeatable read" never loses an update, "serializable" also keeps what was read from changing until the commit,
    which SQLite always does. `clock` (epoch seconds) replaces the database's own, for tests.

    ValueError for a URL that can't be, ImportError naming `interlock[postgres]` where its driver is missing.
    """

    def __init__(
        self,
        url: str | AsyncEngine,
        *,
        metadata: MetaData | None = None,
        pool_size: int = 10,
        busy_timeout: timedelta = timedelta(seconds=5),
        statement_timeout: timedelta = timedelta(seconds=30),
        isolation: Isolation = "repeatable read",
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._foreign = url if isinstance(url, AsyncEngine) else None
        self._url = url_of(url) if isinstance(url, AsyncEngine) else read_url(url)
        self.metadata = metadata
        self.is_postgresql = self._url.drivername == "postgresql+asyncpg"
        self.publisher: Publisher | None = None
        self.measure: Callable[[float, object], None] = _unmeasured
        """Told the seconds of each statement, and the statement: SQLAlchemy's, text, or texts with their values."""
        self.outbox_bell = Bell()
        self.page_keys = PageKeys(self)
        self._options = Options(
            pool_size=pool_size,
            busy_timeout=busy_timeout.total_seconds(),
            statement_timeout=statement_timeout.total_seconds(),
            isolation=isolation,
        )
        self._clock = clock
        self._engines: Engines | None = None
        self._tidings = Tidings(self, self._url)
        self.relays = False
        """Whether this process sends the outbox: then no other need be told of its news."""

    def __repr__(self) -> str:
        return f"Database({self.shown!r})"

    # --- lifecycle --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the database, and make the chassis' tables, and those of `metadata`, where they are missing.

        Unavailable if the database does not answer, RuntimeError if it is started already.
        """
        if self._engines is not None:
            raise RuntimeError("the database is started already; an app that was given it starts it itself")
        self._engines = Engines(self._url, self._options, self._foreign)
        try:
            if not self.is_postgresql and self._foreign is None:
                await self._switch_to_wal(self._engines)
            await self._make_tables(self._engines)
            await self.page_keys.rotate()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close every connection."""
        await self._tidings.stop()
        engines, self._engines = self._engines, None
        if engines is not None:
            await engines.dispose()

    async def check(self) -> None:
        """Return if the database answers, Unavailable else; for readiness."""
        async with Block(self, read_only=True, durable=True) as tx:
            await tx.execute("SELECT 1")

    async def probe(self) -> float:
        """Return the database's clock (epoch seconds), started or not, making nothing; Unavailable says why not."""
        return await probe(self._url)

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return shown(self._url.render_as_string(hide_password=True))

    async def __aenter__(self) -> "Database":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _make_tables(self, engines: Engines) -> None:
        """Make what is missing; of workers that start at once each waits for the one before, and sees its tables."""
        pooled = await self._taken(engines.writer)
        try:
            if isinstance(pooled.wire, PostgresWire):
                # a snapshot from before the lock would not show what was made meanwhile
                await pooled.wire.command(
                    f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({_LOCK})"
                )
            else:
                await pooled.wire.begin(read_only=False, durable=True)
            for metadata in (chassis, self.metadata):
                if metadata is not None:
                    await pooled.connection.run_sync(metadata.create_all)
            await pooled.wire.commit()
        except (SQLAlchemyError, OSError) as error:
            raise translated(error) or error from error
        finally:
            await engines.writer.give(pooled)

    async def _switch_to_wal(self, engines: Engines) -> None:
        """Switch the file to write-ahead logging, which needs it for itself for a moment and does not wait for it."""
        until = monotonic() + self._options.busy_timeout
        while True:
            pooled = await self._taken(engines.writer)
            try:
                await pooled.wire.fetch(("PRAGMA journal_mode=WAL", ()))
                return
            except Error:
                if monotonic() > until:
                    raise
            finally:
                await engines.writer.give(pooled)
            await asyncio.sleep(0.02)

    async def _taken(self, pool: Pool) -> Pooled:
        try:
            return await pool.take()
        except (SQLAlchemyError, OSError) as error:
            raise translated(error) or error from error

    # --- transactions -----------------------------------------------------------------------------------------------

    def transaction(self, *, read_only: bool = False, durable: bool = True) -> Block:
        """Return a block: `async with database.transaction() as tx`.

        On consumed events and KEYED unary operations the first block opens the call's transaction, later ones join it,
        and it commits after the handler returned. Elsewhere it commits at the end of its outermost block, shielded from
        cancellation, and raises Conflict (ABORTED) if it can't be ordered behind another one. An exception undoes it.

        `read_only` takes no write lock, and writing is an error; `durable=False` does not wait for the disk: what it
        wrote survives a crash of the process, not of the machine. Both hold for transactions of their own only.
        """
        return Block(self, read_only=read_only, durable=durable)

    def joined(self, owner: AsyncSession | AsyncConnection) -> Joined:
        """Return a block that publishes in the transaction of a session or connection of the service's own.

        `async with database.joined(session) as tx: await tx.publish(…)`; the owner commits, and may roll back. The
        session must be on the same database. For PostgreSQL through asyncpg and SQLite through aiosqlite.
        """
        return Joined(self, owner)

    async def run(self, work: Callable[[Transaction], Awaitable[T]], *, durable: bool = True) -> T:
        """Run `work(tx)` in a transaction and return what it returns; a Conflict runs it again.

        Up to twelve times or until the current call's deadline, then Conflict. Inside another transaction `work` joins
        it, and is run again with it.
        """
        attempt = 1
        while True:
            try:
                async with self.transaction(durable=durable) as tx:
                    return await work(tx)
            except Conflict:
                call = current_call.get()
                if open_scope() is not None or attempt == ATTEMPTS or (call and call.deadline.expired()):
                    raise
            await asyncio.sleep(pause(attempt))
            attempt += 1

    async def begin(
        self, *, read_only: bool = False, durable: bool = True, lock_wait: float | None = None
    ) -> Transaction:
        """Begin a transaction that belongs to nobody; for blocks and units, which end it.

        With `lock_wait`, a statement fails that waits for a lock for so many seconds.
        """
        engines = self._engines
        if engines is None:
            raise RuntimeError("the database is not started: await database.start(), or hand it to its app")
        pool = engines.reader if read_only else engines.writer
        while True:
            pooled = await self._taken(pool)
            try:
                await pooled.wire.begin(read_only=read_only, durable=durable, lock_wait=lock_wait)
                return Transaction(self, pooled, pool)
            except Unavailable:
                stale = pooled.used and pooled.broken
                await to_end(_given_back(pool, pooled))
                if not stale:
                    raise
                await pool.forget_idle()  # the server was restarted: what was open to it is gone
            except BaseException:
                await to_end(_given_back(pool, pooled))
                raise

    # --- for the rooms above ----------------------------------------------------------------------------------------

    def now(self) -> ColumnElement[float]:
        """Return the time in epoch seconds as SQL: the database's own on PostgreSQL, which all hosts share."""
        if self._clock is not None:
            return literal(self._clock(), Double)
        if self.is_postgresql:
            return cast(func.extract("epoch", func.clock_timestamp()), Double)
        return literal(time.time(), Double)

    @property
    def time(self) -> float | None:
        """What the chassis' statements are told the time is; None where the database's own clock tells."""
        if self._clock is not None:
            return self._clock()
        return None if self.is_postgresql else time.time()

    @property
    def pools(self) -> dict[str, Pool]:
        """The pools by what they are for, once it is started; one on PostgreSQL."""
        if self._engines is None:
            return {}
        if self._engines.reader is self._engines.writer:
            return {"all": self._engines.writer}
        return {"write": self._engines.writer, "read": self._engines.reader}

    async def news(self) -> None:
        """Tell all who wait for the outbox, here and in other processes, that it has news."""
        self.outbox_bell.strike()
        if not self.relays:
            self._tidings.tell()

    async def listen(self) -> None:
        """Have `outbox_bell` ring for commits of other processes too, until `stop`."""
        await self._tidings.listen()

    async def command(self, sql: str) -> None:
        """Run one statement without values outside any transaction, on PostgreSQL."""
        if self._engines is None:
            return
        pool = self._engines.writer
        pooled = await self._taken(pool)
        try:
            assert isinstance(pooled.wire, PostgresWire)  # noqa: S101 - callers ask
            await pooled.wire.command(sql)
        finally:
            await pool.give(pooled)


async def _given_back(pool: Pool, pooled: Pooled) -> None:
    """Give back a connection whose transaction did not begin."""
    try:
        await pooled.wire.roll_back()
    except Exception:
        await pooled.connection.invalidate()
    await pool.give(pooled)


def _unmeasured(_seconds: float, _statement: object) -> None:
    """Nobody wants to know."""
