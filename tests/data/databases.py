"""Databases for tests: a fresh one each, on SQLite and on PostgreSQL.

PostgreSQL is the one at INTERLOCK_TEST_POSTGRES, else at its usual port, else started from its wheel.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from interlock.data import Database
from interlock.testing.postgresql import VARIABLE, execute, postgresql_server
from interlock.testing.servers import NoServer

ENGINES = ("sqlite", "postgresql")


class Clock:
    """Epoch seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def server() -> str:
    """Return the URL of a PostgreSQL that answers; the test is skipped, loudly, where there is none."""
    try:
        return await postgresql_server()
    except NoServer as reason:
        if VARIABLE in os.environ:
            pytest.fail(str(reason))
        pytest.skip(f"NOT TESTED on PostgreSQL: {reason}")


async def new_url(engine: str, directory: Path) -> str:
    """Return the URL of a fresh database."""
    if engine == "sqlite":
        return f"sqlite:///{directory / 'var' / f'{uuid4().hex}.db'}"
    url = await server()
    name = f"interlock_test_{uuid4().hex}"
    await execute(url, f'CREATE DATABASE "{name}"')
    return f"{url.rpartition('/')[0]}/{name}"


async def drop(url: str) -> None:
    """Remove a database made by `new_url`; files are left to pytest."""
    if url.startswith("postgresql"):
        await execute(await server(), f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')


@pytest.fixture(params=ENGINES)
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a fresh database, on each engine."""
    url = await new_url(request.param, tmp_path)
    yield url
    await drop(url)


@pytest.fixture
def clock() -> Clock:
    """The database's clock."""
    return Clock()


@pytest.fixture
async def database(database_url: str, clock: Clock) -> AsyncIterator[Database]:
    """A fresh, started database."""
    async with Database(database_url, clock=clock) as started:
        yield started
