from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import nats
import pytest

from interlock.events.broker import Broker
from interlock.events.brokers.nats import NatsBroker
from interlock.stamps import uuid7
from tests.events.broker_suite import SharedSuite
from tests.events.nats_server import own_server, running_url

Make = Callable[[], Awaitable[Broker]]


@pytest.fixture(scope="module")
def newest() -> Iterator[str]:
    with own_server() as url:
        yield url


@asynccontextmanager
async def making(url: str) -> AsyncIterator[Make]:
    stream = f"t{uuid7()}"
    brokers: list[NatsBroker] = []

    async def make() -> Broker:
        broker = NatsBroker(f"{url}?stream={stream}", lease=2.0)
        brokers.append(broker)
        await broker.start()
        return broker

    yield make
    for broker in brokers:
        await broker.stop()
    await remove(url, stream)


class TestNats(SharedSuite):
    """On the newest server, from its wheel."""

    @pytest.fixture
    async def make(self, newest: str) -> AsyncIterator[Make]:
        async with making(newest) as make:
            yield make


class TestNatsAsItRuns(SharedSuite):
    """On the server that runs on this machine, which may be an old one."""

    @pytest.fixture
    async def make(self) -> AsyncIterator[Make]:
        url = running_url()
        if url is None:
            pytest.skip("no NATS server at 127.0.0.1:4222; start `nats-server -js`, or set INTERLOCK_TEST_NATS")
        async with making(url) as make:
            yield make

    async def test_what_was_settled_out_of_turn_stays_settled(self, broker: Broker) -> None:
        """The same, where the server can."""
        assert isinstance(broker, NatsBroker)
        if not broker.filters:
            pytest.skip("this NATS server is older than 2.10 and forgets acks when it redelivers to one who left")
        await super().test_what_was_settled_out_of_turn_stays_settled(broker)


async def remove(url: str, stream: str) -> None:
    client = await nats.connect(url)
    for name in (stream, f"{stream}-leases", f"{stream}-tries", f"{stream}-dead"):
        await client.jetstream().delete_stream(name)
    await client.close()
