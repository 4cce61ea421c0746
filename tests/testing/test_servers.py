"""Engines that tests start themselves, and the small things."""

import asyncpg  # type: ignore[import-untyped]  # published without types
import nats
import pytest

from interlock import Database
from interlock.testing import Clock, Keyring, NoServer, postgresql_databases
from interlock.testing.postgresql import VARIABLE, postgresql_server


async def test_a_nats_server_of_ones_own(nats_url: str) -> None:
    """It has JetStream, and nothing in it."""
    client = await nats.connect(nats_url)
    try:
        assert (await client.jetstream().account_info()).streams == 0
    finally:
        await client.close()


async def test_a_database_is_fresh(sqlite_url: str, postgresql_url: str) -> None:
    """It is empty, and takes tables."""
    for url in (sqlite_url, postgresql_url):
        async with Database(url) as database, database.transaction() as tx:
            await tx.execute("CREATE TABLE mine (id INTEGER PRIMARY KEY)")
            assert (await tx.execute("SELECT count(*) FROM mine")).scalar_one() == 0


async def test_databases_are_dropped_with_the_block(postgresql_url: str) -> None:
    """One for each service of a platform; none is left, also where somebody is still connected."""
    async with postgresql_databases(["orders", "payments"]) as template:
        left = await asyncpg.connect(template.format(name="orders"))
    connection = await asyncpg.connect(postgresql_url)
    names = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
    await connection.close()
    assert not {template.format(name=each).rpartition("/")[2] for each in ("orders", "payments")} & names
    left.terminate()


async def test_a_server_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other one is taken in its place."""
    monkeypatch.setenv(VARIABLE, "postgresql://postgres@127.0.0.1:1/none")
    with pytest.raises(NoServer, match="nothing answers there"):
        await postgresql_server()


def test_a_clock_passes_when_told_to(clock: Clock) -> None:
    """And never goes back."""
    before = clock()
    clock.advance(1.5)
    assert clock() == before + 1.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_keys_are_made_once(keys: Keyring) -> None:
    """A second ring over the same directory signs with the same key."""
    assert Keyring(keys.directory).keys.kid == keys.keys.kid
