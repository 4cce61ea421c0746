"""A database's URL read, and its SQLAlchemy engines made: SQLite with one writer and many readers, PostgreSQL."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from interlock.data.pool import Pool, Pooled
from interlock.data.sqlite import Flush, connect
from interlock.data.wires import PostgresWire, SqliteWire, Wire

Isolation = Literal["repeatable read", "serializable"]

_EXAMPLES = "write sqlite:///var/orders.db or postgresql://user:password@host:5432/orders"
_POSTGRESQL = frozenset(("postgresql", "postgres", "postgresql+asyncpg"))
_SQLITE = frozenset(("sqlite", "sqlite+aiosqlite"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What bounds the engines; times in seconds."""

    pool_size: int
    busy_timeout: float
    statement_timeout: float
    isolation: Isolation


class Engines:
    """The pools of one database: on PostgreSQL one is both; on SQLite the writer has a single connection.

    `foreign` is an engine that somebody else made: connections are taken from its own pool, and it is not disposed of.
    """

    def __init__(self, url: URL, options: Options, foreign: AsyncEngine | None = None) -> None:
        self._options = options
        self._made: list[AsyncEngine] = []
        self._flush: Flush | None = None
        if url.drivername == "postgresql+asyncpg":
            engine = foreign or self._own(url, **_postgresql(options))
            self.writer = self.reader = self._pool(engine, options.pool_size, self._postgres_wire, foreign is None)
        elif foreign is not None:
            self.writer = self._pool(foreign, 1, self._sqlite_wire("BEGIN IMMEDIATE"), keep=False)
            self.reader = self._pool(foreign, options.pool_size, self._sqlite_wire("BEGIN"), keep=False)
        else:
            path = url.database or ""
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._flush = Flush(path)
            writing, reading = (
                self._own(url, async_creator=connect(path, busy_timeout=options.busy_timeout, read_only=read_only))
                for read_only in (False, True)
            )
            self.writer = self._pool(writing, 1, self._sqlite_wire("BEGIN IMMEDIATE"), keep=True)
            self.reader = self._pool(reading, options.pool_size, self._sqlite_wire("BEGIN"), keep=True)

    async def dispose(self) -> None:
        """Close all connections."""
        await self.writer.close()
        await self.reader.close()
        for engine in self._made:
            await engine.dispose()
        if self._flush is not None:
            self._flush.close()

    def _own(self, url: URL, **options: Any) -> AsyncEngine:
        engine = create_async_engine(url, poolclass=NullPool, **options)
        self._made.append(engine)
        return engine

    def _pool(self, engine: AsyncEngine, size: int, wire: Callable[[Any], Wire], keep: bool) -> Pool:
        async def open_one() -> Pooled:
            connection = await engine.connect()
            if engine.dialect.name == "postgresql":
                connection = await connection.execution_options(isolation_level="AUTOCOMMIT")  # we say BEGIN ourselves
            driver = (await connection.get_raw_connection()).driver_connection
            return Pooled(connection, wire(driver))

        return Pool(open_one, size, self._options.busy_timeout, keep=keep)

    def _postgres_wire(self, driver: Any) -> Wire:
        return PostgresWire(driver, self._options.isolation)

    def _sqlite_wire(self, begin: str) -> Callable[[Any], Wire]:
        return lambda driver: SqliteWire(driver, begin, self._flush)


def read_url(url: str) -> URL:
    """Return the parsed URL; ValueError says what is wrong, ImportError what to install, neither shows a password."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError(f"the database URL can't be read; {_EXAMPLES}") from None
    if parsed.drivername in _SQLITE:
        return _sqlite_url(parsed)
    if parsed.drivername not in _POSTGRESQL:
        raise ValueError(f"no database is reached by {parsed.drivername}://; {_EXAMPLES}")
    if find_spec("asyncpg") is None:
        raise ImportError("PostgreSQL needs its driver: pip install interlock[postgres]")
    if not parsed.database:
        raise ValueError(f"the database URL names no database; {_EXAMPLES}")
    return parsed.set(drivername="postgresql+asyncpg")


def url_of(engine: AsyncEngine) -> URL:
    """Return the URL of an engine that somebody else made; ValueError for a driver that is not known here."""
    if engine.url.drivername not in ("postgresql+asyncpg", "sqlite+aiosqlite"):
        raise ValueError(f"an engine of {engine.url.drivername} can't be used: postgresql+asyncpg or sqlite+aiosqlite")
    return engine.url


def _sqlite_url(parsed: URL) -> URL:
    if parsed.host:
        raise ValueError(f"sqlite://{parsed.host}… has two slashes; a file takes three: sqlite:///var/orders.db")
    if not parsed.database or parsed.database == ":memory:":
        raise ValueError("SQLite needs a file, which all connections share: sqlite:///var/orders.db")
    if parsed.query:
        raise ValueError("a SQLite URL takes no parameters")
    return parsed.set(drivername="sqlite+aiosqlite")


def _postgresql(options: Options) -> dict[str, Any]:
    return {
        "connect_args": {
            "timeout": 10,
            "command_timeout": options.statement_timeout + 5,  # the network's part; the server is told below
            "server_settings": {
                "statement_timeout": str(int(options.statement_timeout * 1000)),
                "application_name": "interlock",
            },
        }
    }
