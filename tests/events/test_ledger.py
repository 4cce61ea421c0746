"""Money moves between two services by outbox, broker and inbox, and none is lost or made; `make soak` kills as well."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import pytest

from bench.soak_cell import Ordeal, cell
from bench.soak_outage import outage
from interlock import App
from interlock.data import Database, outbox
from interlock.errors import Unavailable
from interlock.events.broker import Broker, open_broker
from interlock.stamps import uuid7
from interlock.testing.servers import NoServer
from tests.data.databases import ENGINES, drop, new_url
from tests.events import rabbitmq_server
from tests.events.nats_server import own_server
from tests.ledger import banks
from tests.ledger.forgetful import Forgetful
from tests.waiting import until

TRANSFERS = 120


@pytest.fixture(params=["embedded", "nats", "rabbitmq"])
async def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    match request.param:
        case "embedded":
            yield f"embedded:{tmp_path}/broker.db"
        case "nats":
            with own_server() as server:
                yield f"{server}?stream=t{uuid7()}"
        case _:
            url, name = rabbitmq_server.running_url(), f"t{uuid7()}"
            yield f"{url}?name={name}"
            await rabbitmq_server.remove(url, name, banks.SENDER, banks.RECEIVER)


@pytest.fixture(params=ENGINES)
async def databases(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    urls = [await new_url(request.param, tmp_path) for _ in range(2)]
    yield [Database(url) for url in urls]
    for url in urls:
        await drop(url)


async def test_money_is_neither_lost_nor_made(databases: list[Database], broker_url: str) -> None:
    """The sum is constant, each event has its effect once and in its key's order, though many are delivered twice."""
    raw = banks.Raw()
    sending, receiving = databases
    async with AsyncExitStack() as stack:
        broker = open_broker(broker_url)
        await broker.start()
        stack.push_async_callback(broker.stop)
        forgetful = cast(Broker, Forgetful(broker))
        sender, one = banks.app(banks.Sending, sending, forgetful, raw)
        _, two = banks.app(banks.Receiving, receiving, forgetful, raw)
        async with one, two:
            for each in (one, two):  # a group that is new on RabbitMQ gets what comes from then on
                await until(lambda app=each: _subscribed(app), 20)  # type: ignore[misc]
            await asyncio.gather(*(_send(sender, TRANSFERS // 4) for _ in range(4)))
            await banks.settled(sending, receiving, TRANSFERS, 60)
            await until(lambda: raw.duplicates > 0, 20)
            assert (await banks.read_books(sending)).sent == TRANSFERS
            books = [await banks.read_books(each) for each in databases]
            letters = await broker.dead_letters()
            assert banks.wrong(books, raw.duplicates, len(letters)) == []
            assert [await outbox.waiting(each) for each in databases] == [0, 0]


async def test_whatever_is_killed_no_money_is_lost_or_made() -> None:
    """Both banks, a PostgreSQL and a NATS server of our own are killed with -9 again and again, and come back."""
    ordeal = Ordeal(transfers=100, kills=2, pauses=(0.5, 3.0), settle=60.0, full_disk=False, bites=False)
    try:
        figures = await cell("postgresql+nats", ordeal)
    except NoServer as reason:
        pytest.skip(f"NOT TESTED with servers killed: {reason}")
    assert figures["wrong"] == []
    assert min(figures["kills"].values()) >= 2


async def test_calls_go_on_while_the_broker_is_away() -> None:
    """Calls that publish are answered, their events wait on disk and not in memory, and all are delivered after."""
    try:
        figures = await outage("nats", 3.0, settle=60.0)
    except NoServer as reason:
        pytest.skip(f"NOT TESTED with a broker that goes away: {reason}")
    assert figures["wrong"] == []


async def _send(bank: banks.Sending, count: int) -> None:
    for _ in range(count):
        await bank.send()


async def _subscribed(app: App) -> bool:
    try:
        await app.health.checks["broker"]()
    except Unavailable:
        return False
    return True
