"""The service's database: SQLite or PostgreSQL by URL, and how transactions begin, commit and run again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from protobuf import Message
from sqlalchemy import ColumnElement, Double, MetaData, cast, func, literal, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from interlock.call import current_call
from interlock.data.bell import Bell
from interlock.data.engines import Engines, Isolation, Options, make_engines, read_url
from interlock.data.failures import translated
from interlock.data.listener import Listener
from interlock.data.page_keys import PageKeys
from interlock.data.tables import chassis
from interlock.data.transaction import Block, Transaction
from interlock.data.unit import ATTEMPTS, Conflict, open_scope, pause, to_end
from interlock.deadline import monotonic

log = logging.getLogger("interlock.data")

T = TypeVar("T")
Publisher = Callable[[Transaction, Message[Any]], Awaitable[str]]

_LOCK = 0x1_E710C  # the advisory lock under which PostgreSQL makes the tables


class Database:
    """A service's one database; `start` it before use, `stop` it after. Belongs to one event loop.

    `url`: `sqlite:///var/orders.db` (relative; four slashes for an absolute path) or `postgresql://user@host/name`.
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
        url: str,
        *,
        metadata: MetaData | None = None,
        pool_size: int = 10,
        busy_timeout: timedelta = timedelta(seconds=5),
        statement_timeout: timedelta = timedelta(seconds=30),
        isolation: Isolation = "repeatable read",
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._url = read_url(url)
        self.metadata = metadata
        self.is_postgresql = self._url.drivername == "postgresql+asyncpg"
        self.publisher: Publisher | None = None
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
        self._listener: Listener | None = None

    def __repr__(self) -> str:
        return f"Database({self._url.render_as_string(hide_password=True)!r})"

    # --- lifecycle --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the database, and make the chassis' tables, and those of `metadata`, where they are missing.

        Unavailable if the database does not answer.
        """
        self._engines = make_engines(self._url, self._options)
        try:
            if not self.is_postgresql:
                await self._switch_to_wal()
            await self._make_tables(self._engines)
            await self.page_keys.rotate()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close every connection."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.stop()
        engines, self._engines = self._engines, None
        if engines is not None:
            await engines.dispose()

    async def check(self) -> None:
        """Return if the database answers, Unavailable else; for readiness."""
        async with Block(self, read_only=True, durable=True) as tx:
            await tx.execute("SELECT 1")

    async def __aenter__(self) -> "Database":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _make_tables(self, engines: Engines) -> None:
        """Make what is missing; of workers that start at once each waits for the one before, and sees its tables."""
        try:
            async with engines.writer.connect() as connection:
                if self.is_postgresql:
                    # a snapshot from before the lock would not show what was made meanwhile
                    _ = await connection.execution_options(isolation_level="READ COMMITTED")
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                for metadata in (chassis, self.metadata):
                    if metadata is not None:
                        await connection.run_sync(metadata.create_all)
                await connection.commit()
        except (SQLAlchemyError, OSError) as error:
            raise translated(error) or error from error

    async def _switch_to_wal(self) -> None:
        """Switch the file to write-ahead logging, which needs it for itself for a moment and does not wait for it."""
        assert self._engines is not None  # noqa: S101 - called by start
        until = monotonic() + self._options.busy_timeout
        while True:
            try:
                async with self._engines.writer.connect() as connection:
                    raw = (await connection.get_raw_connection()).driver_connection
                    assert raw is not None  # noqa: S101 - it is connected
                    await (await raw.execute("PRAGMA journal_mode=WAL")).close()
                return
            except (SQLAlchemyError, OSError) as error:
                raise translated(error) or error from error
            except Exception:  # sqlite3's own, through the driver
                if monotonic() > until:
                    raise
                await asyncio.sleep(0.02)

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

    async def begin(self, *, read_only: bool = False, durable: bool = True) -> Transaction:
        """Begin a transaction that belongs to nobody; for blocks and units, which end it."""
        return await self._open(read_only=read_only, durable=durable)

    async def _open(self, *, read_only: bool = False, durable: bool = True) -> Transaction:
        engines = self._engines
        if engines is None:
            raise RuntimeError("the database is not started: await database.start(), or hand it to its app")
        try:
            connection = await (engines.reader if read_only else engines.writer).connect()
            try:
                connection = await self._begun(connection, read_only, durable)
            except BaseException:
                await to_end(_closed(connection))
                raise
        except (SQLAlchemyError, OSError) as error:
            if (shown := translated(error)) is not None:
                raise shown from error
            raise
        return Transaction(self, connection)

    async def _begun(self, connection: AsyncConnection, read_only: bool, durable: bool) -> AsyncConnection:
        options: dict[str, Any] = {}
        if self.is_postgresql and read_only:
            options["postgresql_readonly"] = True
        elif not durable:
            options["interlock_durable"] = False
        if options:
            connection = await connection.execution_options(**options)
        _ = await connection.begin()
        if self.is_postgresql and not durable:
            await connection.execute(text("SET LOCAL synchronous_commit = off"))
        return connection

    # --- for the rooms above ----------------------------------------------------------------------------------------

    def now(self) -> ColumnElement[float]:
        """Return the time in epoch seconds as SQL: the database's own on PostgreSQL, which all hosts share."""
        if self._clock is not None:
            return literal(self._clock(), Double)
        if self.is_postgresql:
            return cast(func.extract("epoch", func.clock_timestamp()), Double)
        return literal(time.time(), Double)

    async def listen(self, channel: str) -> None:
        """Have `outbox_bell` ring when PostgreSQL notifies `channel`; on SQLite nothing."""
        if self.is_postgresql and self._listener is None:
            dsn = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
            self._listener = Listener(dsn, channel, self.outbox_bell.ring)
            self._listener.start()


async def _closed(connection: AsyncConnection) -> None:
    try:
        await connection.close()
    except OperationalError:
        log.warning("a connection broke while it was closed", exc_info=True)
