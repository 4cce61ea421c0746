"""A database's URL read, and its SQLAlchemy engines made: SQLite with one writer and many readers, PostgreSQL."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The engines of one database: on PostgreSQL one is both; on SQLite the writer has a single connection."""

    writer: AsyncEngine
    reader: AsyncEngine

    async def dispose(self) -> None:
        """Close all connections."""
        await self.writer.dispose()
        if self.reader is not self.writer:
            await self.reader.dispose()


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


def _sqlite_url(parsed: URL) -> URL:
    if parsed.host:
        raise ValueError(f"sqlite://{parsed.host}… has two slashes; a file takes three: sqlite:///var/orders.db")
    if not parsed.database or parsed.database == ":memory:":
        raise ValueError("SQLite needs a file, which all connections share: sqlite:///var/orders.db")
    if parsed.query:
        raise ValueError("a SQLite URL takes no parameters")
    return parsed.set(drivername="sqlite+aiosqlite")


def make_engines(url: URL, options: Options) -> Engines:
    """Make the engines; nothing is opened yet but, for SQLite, the file's directory is made."""
    if url.drivername == "postgresql+asyncpg":
        engine = create_async_engine(
            url,
            pool_size=options.pool_size,
            max_overflow=0,
            pool_timeout=options.busy_timeout,
            isolation_level=options.isolation.upper(),
            connect_args={
                "timeout": 10,
                "command_timeout": options.statement_timeout + 5,  # the network's part; the server is told below
                "server_settings": {
                    "statement_timeout": str(int(options.statement_timeout * 1000)),
                    "application_name": "interlock",
                },
            },
        )
        return Engines(writer=engine, reader=engine)
    Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    return Engines(
        writer=_sqlite(url, 1, "BEGIN IMMEDIATE", options), reader=_sqlite(url, options.pool_size, "BEGIN", options)
    )


def _sqlite(url: URL, size: int, begin: str, options: Options) -> AsyncEngine:
    """Make an engine whose transactions start with `begin`; writers of this process queue for the one connection."""
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=options.busy_timeout,
        connect_args={"timeout": options.busy_timeout, "isolation_level": None},  # None: we say BEGIN ourselves
    )

    def connected(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        if size > 1:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()
        record.info["durable"] = True

    def begun(connection: Connection) -> None:
        durable = connection.get_execution_options().get("interlock_durable", True)
        if connection.info.get("durable") != durable:
            connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.info["durable"] = durable
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)
    return engine
