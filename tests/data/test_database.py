"""The database itself: URLs, start and stop, tables, several processes at once."""

import asyncio
import sys
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from interlock.data import Database, join
from interlock.errors import Unavailable


@pytest.mark.parametrize(
    "url,said",
    [
        ("orders.db", "sqlite:///var/orders.db"),
        ("", "sqlite:///var/orders.db"),
        ("mysql://root@localhost/orders", "mysql"),
        ("sqlite://orders.db", "three"),
        ("sqlite://", "file"),
        ("sqlite:///:memory:", "file"),
        ("sqlite:///orders.db?mode=ro", "no parameters"),
        ("postgresql://localhost", "names no database"),
    ],
)
def test_a_url_that_can_not_be_says_what_to_write(url: str, said: str) -> None:
    """A bad URL is refused when the database is made, with what is wrong."""
    with pytest.raises(ValueError, match=said):
        Database(url)


def test_a_password_is_not_shown() -> None:
    """Neither the repr nor an error shows the password."""
    assert "hunter2" not in repr(Database("postgresql://root:hunter2@localhost/orders"))
    with pytest.raises(ValueError, match="mysql") as error:
        Database("mysql://root:hunter2@localhost/orders")
    assert "hunter2" not in str(error.value)


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    """The constructor makes no file and no directory."""
    Database(f"sqlite:///{tmp_path}/var/orders.db")
    assert list(tmp_path.iterdir()) == []


async def test_a_database_not_started_says_so(tmp_path: Path) -> None:
    """Using it before its start, or after its stop, tells what to do."""
    database = Database(f"sqlite:///{tmp_path}/orders.db")
    with pytest.raises(RuntimeError, match="start"):
        await database.check()
    async with database:
        await database.check()
    with pytest.raises(RuntimeError, match="start"):
        await database.check()


async def test_no_database_is_unavailable() -> None:
    """A server that is not there is UNAVAILABLE, at start and at the readiness check."""
    with pytest.raises(Unavailable):
        await Database("postgresql://root@127.0.0.1:1/orders").start()


async def test_it_starts_again_on_what_is_there(database_url: str) -> None:
    """Starting twice, also at the same time as workers do, makes each table once; the service's own too."""
    own = MetaData()
    table = Table("own", own, Column("id", Integer, primary_key=True))
    databases = [Database(database_url, metadata=own) for _ in range(4)]
    await asyncio.gather(*(each.start() for each in databases))
    for each in databases:
        async with each.transaction() as tx:
            await tx.execute(table.insert())
    async with databases[0].transaction(read_only=True) as tx:
        assert (await tx.execute("SELECT count(*) FROM own")).scalar_one() == 4
        assert (await tx.execute("SELECT count(*) FROM interlock_page_keys")).scalar_one() == 1
    await asyncio.gather(*(each.stop() for each in databases))


def test_the_tables_join_the_service_s_own() -> None:
    """A migration tool can see the chassis' tables in the service's metadata."""
    own = MetaData()
    join(own)
    join(own)
    assert {"interlock_outbox", "interlock_inbox", "interlock_idempotency"} <= own.tables.keys()


_WRITER = """
import asyncio, sys
from interlock.data import Database
async def main():
    async with Database(sys.argv[1]) as database:
        async def work(tx):
            n = (await tx.execute("SELECT n FROM counter")).scalar_one()
            await tx.execute("UPDATE counter SET n = :n", {"n": n + 1})
        for _ in range(25):
            await database.run(work)
asyncio.run(main())
"""


async def test_processes_share_it(database_url: str) -> None:
    """Three processes that count one number up lose no step."""
    async with Database(database_url) as database:
        async with database.transaction() as tx:
            await tx.execute("CREATE TABLE counter (n INTEGER)")
            await tx.execute("INSERT INTO counter VALUES (0)")
        writers = [await asyncio.create_subprocess_exec(sys.executable, "-c", _WRITER, database_url) for _ in range(3)]
        assert [await each.wait() for each in writers] == [0, 0, 0]
        async with database.transaction(read_only=True) as tx:
            assert (await tx.execute("SELECT n FROM counter")).scalar_one() == 75


async def test_publishing_without_a_publisher_says_what_to_do(database: Database) -> None:
    """An event can't be published by a database that no app knows of, and goes to the publisher where there is one."""
    from tests.sample.gen.sample.v1.sample_pb import EchoRequest

    async with database.transaction() as tx:
        with pytest.raises(RuntimeError, match="App"):
            await tx.publish(EchoRequest())

        async def publisher(given: object, event: object) -> str:
            assert given is tx
            assert isinstance(event, EchoRequest)
            return "e-1"

        database.publisher = publisher
        assert await tx.publish(EchoRequest()) == "e-1"
