"""A look at a database from outside, before anything uses it: makes no file, no table."""

import time
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from interlock.errors import Unavailable

_CLOCK = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())::float8",
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0 FROM (SELECT count(*) FROM sqlite_master)",
}


async def probe(url: URL) -> float:
    """Return the database's clock in seconds since 1970; Unavailable, saying why, if it does not answer.

    A SQLite file that is not there yet is no fault: it is made at the first start.
    """
    name = url.get_backend_name()
    if name == "sqlite" and _missing(url):
        return time.time()
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return float((await connection.execute(text(_CLOCK[name]))).scalar_one())
    except (OSError, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise Unavailable(f"the database does not answer: {reason}") from error
    finally:
        await engine.dispose()


def _missing(url: URL) -> bool:
    return not Path(url.database or "").exists()
