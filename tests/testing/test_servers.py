"""Engines that tests start themselves, and the small things."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # published without types
import nats
import pytest

from interlock import Database
from interlock.errors import Unavailable
from interlock.testing import (
    Clock,
    Keyring,
    NoServer,
    ServerProcess,
    nats_process,
    postgresql_databases,
    postgresql_process,
)
from interlock.testing.postgresql import VARIABLE, postgresql_server
from interlock.testing.servers import free_port


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


async def test_a_database_of_ones_own_is_killed_and_comes_back(tmp_path: Path) -> None:
    """What was committed before a SIGKILL is there again, at the same address."""
    with started(postgresql_process(tmp_path)) as server:
        async with Database(server.url) as database:
            async with database.transaction() as tx:
                await tx.execute("CREATE TABLE mine (id INTEGER PRIMARY KEY)")
            server.kill()
            with pytest.raises(Unavailable):
                await database.check()
            server.start()
            async with asyncio.timeout(20):
                while not await there(database):  # noqa: ASYNC110 - it recovers by itself
                    await asyncio.sleep(0.05)


async def test_a_broker_of_ones_own_is_killed_and_comes_back(tmp_path: Path) -> None:
    """What was published before a SIGKILL is there again, at the same address."""
    with started(nats_process(tmp_path)) as server:
        stream = (await nats.connect(server.url)).jetstream()
        await stream.add_stream(name="mine", subjects=["mine"])
        await stream.publish("mine", b"1")
        server.kill()
        assert not server.running
        server.start()
        client = await nats.connect(server.url)
        assert (await client.jetstream().stream_info("mine")).state.messages == 1
        await client.close()
        await stream._nc.close()


def test_a_server_that_does_not_start_tells_why(tmp_path: Path) -> None:
    """Its last words are in the error."""
    command = [sys.executable, "-c", "print('no room'); raise SystemExit(3)"]
    server = ServerProcess("small", command, url="", port=free_port(), log=tmp_path / "log")
    with pytest.raises(NoServer, match="the small server did not start: no room"):
        server.start()


@contextmanager
def started(process: AbstractContextManager[ServerProcess]) -> Iterator[ServerProcess]:
    """A server of one's own; the test is skipped, loudly, where there is none to start."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(process)
        except NoServer as reason:
            pytest.skip(f"NOT TESTED with a server of one's own: {reason}")
        yield server


async def there(database: Database) -> bool:
    try:
        async with database.transaction(read_only=True) as tx:
            await tx.execute("SELECT count(*) FROM mine")
    except Unavailable:
        return False
    return True


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
