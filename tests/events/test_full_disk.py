"""A disk that fills up: refused clearly, nothing acknowledged lost, and on it goes; `make soak` fills a real one.

SQLite is told how many pages it may have, and answers as if the disk had no more.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from interlock.call import Call
from interlock.data import Database, outbox
from interlock.errors import Unavailable
from interlock.events.broker import BrokerUnavailable
from interlock.events.brokers.embedded import EmbeddedBroker
from interlock.events.brokers.memory import MemoryBroker
from tests.events.listening import QUICK, Listener, Outcomes, consumer, effects, made, nothing_waits, opened, running
from tests.ledger import banks
from tests.sample.gen.sample.v1.sample_pb import EchoMade
from tests.waiting import until

LARGE = "m" * 200_000
"""More than may be left in pages that were used before."""


def fill(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")


async def full(database: Database, *, is_full: bool = True) -> None:
    """Leave the database no further page, or as many as it likes."""
    async with database.transaction() as tx:
        count = (await tx.execute("PRAGMA page_count")).scalar_one() if is_full else 1 << 30
        await tx.execute(f"PRAGMA max_page_count = {count}")


@asynccontextmanager
async def serving(
    sending: Database, receiving: Database, directory: Path
) -> AsyncIterator[tuple[banks.Sending, EmbeddedBroker]]:
    """Both banks on a broker's file."""
    broker = EmbeddedBroker(directory / "broker.db")
    await broker.start()
    sender, one = banks.app(banks.Sending, sending, broker, banks.Raw())
    _, two = banks.app(banks.Receiving, receiving, broker, banks.Raw())
    async with one, two:
        yield sender, broker
    await broker.stop()


async def test_a_service_without_room_refuses_and_goes_on(tmp_path: Path) -> None:
    """What does not fit is refused as UNAVAILABLE; all that was acknowledged arrives, before and behind it."""
    sending, receiving = (Database(f"sqlite:///{tmp_path}/{name}.db") for name in ("sending", "receiving"))
    async with serving(sending, receiving, tmp_path) as (sender, broker):
        acknowledged = [await sender.send() for _ in range(20)]
        await full(sending)
        for _ in range(5):
            with pytest.raises(Unavailable, match="the database's disk is full"):
                await sender.send(LARGE)
        await full(sending, is_full=False)
        acknowledged += [await sender.send(LARGE) for _ in range(5)]
        assert len(set(acknowledged)) == 25
        await banks.settled(sending, receiving, 25, 30)
        books = [await banks.read_books(each) for each in (sending, receiving)]
        assert banks.wrong(books, 1, len(await broker.dead_letters())) == []
        assert books[0].sent == 25


async def test_a_broker_without_room_fills_the_outbox(tmp_path: Path) -> None:
    """While the broker's file takes no more calls go on and their events wait; then they go out, each once."""
    sending, receiving = (Database(f"sqlite:///{tmp_path}/{name}.db") for name in ("sending", "receiving"))
    async with serving(sending, receiving, tmp_path) as (sender, broker):
        for _ in range(10):
            await sender.send()
        await banks.settled(sending, receiving, 10, 30)
        await broker.file.write(fill)
        for _ in range(10):
            await sender.send(LARGE)
        with pytest.raises(BrokerUnavailable, match=r"broker\.db failed: database or disk is full"):
            await broker.publish([replace(made("large"), data=LARGE.encode())])
        assert await outbox.waiting(sending) == 10
        await broker.file.write(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())
        await banks.settled(sending, receiving, 20, 30)
        await until(lambda: _sent(sending), 10.0)
        books = [await banks.read_books(each) for each in (sending, receiving)]
        assert banks.wrong(books, 1, len(await broker.dead_letters())) == []


async def _sent(database: Database) -> bool:
    return await outbox.waiting(database) == 0


async def test_a_consumer_without_room_burns_no_attempts(broker: MemoryBroker, tmp_path: Path) -> None:
    """While its database takes no more an event is put off uncounted, though one attempt is all there is; then done."""
    async with opened(tmp_path / "listener.db") as database:

        async def handle(message: EchoMade, call: Call) -> None:
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO effect VALUES (:text)", {"text": message.text + LARGE})

        outcomes, once = Outcomes(), replace(QUICK, attempts=1)
        await full(database)
        await broker.publish([made(str(number)) for number in range(3)])
        async with running(consumer(broker, Listener(handle), database=database, outcomes=outcomes, policy=once)):
            await until(lambda: outcomes.codes.count("UNAVAILABLE") > 6, 20.0)
            assert "OK" not in outcomes.codes
            await full(database, is_full=False)
            await nothing_waits(broker, 20.0)
        assert sorted(each[0] for each in await effects(database)) == list("012")
    assert await broker.dead_letters() == []
