import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import pytest

from interlock.events.broker import (
    UNREADABLE,
    Broker,
    BrokerUnavailable,
    DeadLetter,
    Delivery,
    LeaseLost,
    Subscription,
    TopologyMismatch,
)
from interlock.events.brokers.rabbitmq import RabbitBroker
from interlock.events.envelope import Envelope
from interlock.stamps import uuid7
from tests.events.broken_wire import Wire, wire
from tests.events.broker_suite import TYPES, SharedSuite, event, take
from tests.events.listening import Listener, consumer, made, nothing_waits
from tests.events.nats_server import free_port
from tests.events.rabbitmq_server import remove, running_url
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_LISTENER
from tests.waiting import until

GROUP = SAMPLE_LISTENER.name
GROUPS = ("orders", "payments")


class TestRabbit(SharedSuite):
    @pytest.fixture
    async def make(self) -> AsyncIterator[Callable[[], Awaitable[Broker]]]:
        url, name = running_url(), f"t{uuid7()}"
        brokers: list[RabbitBroker] = []

        async def make() -> Broker:
            broker = RabbitBroker(f"{url}?name={name}")
            brokers.append(broker)
            await broker.start()
            if len(brokers) == 1:
                await self.know(broker, "orders")
            return broker

        yield make
        for broker in brokers:
            await broker.stop()
        await remove(url, name, *GROUPS)


@asynccontextmanager
async def opened(query: str = "", *, through: Wire | None = None, timeout: float = 10.0) -> AsyncIterator[RabbitBroker]:
    """A broker under names of its own, which are removed behind it."""
    url, name = running_url(), f"t{uuid7()}"
    there = (
        url if through is None else urlunsplit(urlsplit(url)._replace(netloc=f"guest:guest@127.0.0.1:{through.port}"))
    )
    broker = RabbitBroker(f"{there}?name={name}{query}", timeout=timeout)
    try:
        await broker.start()
        yield broker
    finally:
        await broker.stop()
        await remove(url, name, GROUP, *GROUPS)


async def test_a_lost_connection_is_mended_without_losing_a_subscription() -> None:
    """While the server can't be reached publishing fails; then publisher and consumer go on, and nothing is lost."""
    place = urlsplit(running_url())
    listener = Listener()
    async with wire(place.hostname or "", place.port or 5672) as laid, opened(through=laid, timeout=2.0) as broker:
        consuming = consumer(broker, listener)
        await broker.make_group(GROUP, ["echo.made"])
        await consuming.start()
        await broker.publish([made("1")])
        await until(lambda: listener.attempts == ["1"], 20.0)
        await laid.cut()
        with pytest.raises(BrokerUnavailable):
            await broker.publish([made("2")])
        await until(lambda: not consuming.subscribed_at_broker, 20.0)
        await laid.mend()
        again = made("3")
        async with asyncio.timeout(30):
            while not await taken(broker, again):  # noqa: ASYNC110 - as a relay does it
                await asyncio.sleep(0.05)
        await until(lambda: "3" in listener.attempts, 30.0)
        await until(lambda: consuming.subscribed_at_broker, 20.0)
        await nothing_waits(broker, 20.0)
        await consuming.drain(1.0)
        await consuming.stop()
    assert listener.attempts[0] == "1"


async def test_attempts_outlive_a_lost_connection() -> None:
    """An attempt begun before the connection broke is counted by the next holder, whose number is higher."""
    place = urlsplit(running_url())
    async with wire(place.hostname or "", place.port or 5672) as laid, opened(through=laid, timeout=2.0) as broker:
        member = await broker.subscribe("orders", TYPES)
        await broker.publish([event("o-1", number=1), event("o-1", number=2)])
        (first,) = await take(member, 1)
        assert await first.attempt() == 1
        await first.nack(0.0)
        (again,) = await take(member, 1)
        assert await again.attempt() == 2
        await laid.cut()
        await asyncio.sleep(0.1)
        with pytest.raises((LeaseLost, BrokerUnavailable)):
            await again.ack()
        await laid.mend()
        delivery = await patiently(member)
        assert delivery.envelope.data == b"o-1:1"
        assert delivery.fence > first.fence
        assert await delivery.attempt() == 3
        await delivery.ack()
        (second,) = await take(member, 1)
        assert second.envelope.data == b"o-1:2"
        await second.ack()


async def test_what_stands_in_the_way_is_explained() -> None:
    """A queue of another kind under a name of ours is named, with what to do."""
    async with opened() as broker:
        connection = await aio_pika.connect(running_url())
        channel = await connection.channel()
        await channel.declare_queue(broker.topology.queue("orders", 3), durable=True)
        with pytest.raises(TopologyMismatch, match=r"orders\.03.*delete_queue") as told:
            await broker.subscribe("orders", TYPES)
        assert "guest:guest" not in str(told.value)
        await connection.close()


async def test_what_is_no_event_goes_to_the_dead_letters() -> None:
    """A message that somebody else sent does not block its queue, and is kept where it is seen."""
    async with opened() as broker:
        member = await broker.subscribe("orders", TYPES)
        connection = await aio_pika.connect(running_url())
        channel = await connection.channel()
        exchange = await channel.get_exchange(broker.topology.exchange)
        sent = event("o-1")
        await exchange.publish(aio_pika.Message(b"{nonsense", message_id="m-1"), broker.topology.key(sent))
        await broker.publish([sent])
        (delivery,) = await take(member, 1)
        assert delivery.envelope == sent
        await delivery.ack()
        async with asyncio.timeout(10):
            while not (letters := await broker.dead_letters()):  # noqa: ASYNC110 - nobody tells when
                await asyncio.sleep(0.05)
        (letter,) = letters
        assert (letter.id, letter.code, letter.envelope.data) == ("orders/m-1", UNREADABLE, b"{nonsense")
        await member.close()
        await connection.close()


async def test_readers_of_dead_letters_take_turns() -> None:
    """Two brokers that read at once see all letters both, and what one removes is gone for the other."""
    async with opened() as one:
        other = RabbitBroker(f"{running_url()}?name={one.topology.name}")
        await other.start()
        letters = [letter(number) for number in range(20)]
        for each in letters:
            await one.bury(each)
        found = await asyncio.gather(one.dead_letters(), other.dead_letters())
        assert list(found) == [letters, letters]
        assert await one.remove_dead_letter(letters[7].id)
        assert await other.dead_letter(letters[7].id) is None
        assert len(await other.dead_letters()) == 19
        await other.stop()


async def test_a_server_that_is_not_there_is_told() -> None:
    """It says where it looked, without the password, and in time."""
    broker = RabbitBroker(f"amqp://user:secret@127.0.0.1:{free_port()}/", timeout=1.0)
    with pytest.raises(BrokerUnavailable, match=r"RabbitMQ at amqp://127") as told:
        await broker.start()
    assert "secret" not in str(told.value)
    with pytest.raises(BrokerUnavailable, match="not started"):
        await broker.ping()


async def test_a_wrong_password_is_told() -> None:
    """Refused credentials are named as such."""
    place = urlsplit(running_url())
    broker = RabbitBroker(f"amqp://guest:wrong@{place.hostname}:{place.port or 5672}/", timeout=5.0)
    with pytest.raises(BrokerUnavailable, match="refuses the user or the password"):
        await broker.start()


def test_the_client_is_an_extra() -> None:
    """Without the client the error names the extra."""
    program = (
        "import sys; sys.modules['aio_pika'] = None\n"
        "from interlock.events.broker import open_broker\n"
        "try: open_broker('amqp://localhost')\n"
        "except ImportError as told: print(told)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install interlock[rabbitmq]" in said.stdout


def letter(number: int) -> DeadLetter:
    return DeadLetter(
        group="orders",
        envelope=event("o-1", id_=f"e-{number:03}"),
        code="INTERNAL",
        cause="it broke",
        attempts=3,
        at=datetime(2026, 11, 22, 12, tzinfo=UTC),
    )


async def taken(broker: RabbitBroker, envelope: Envelope) -> bool:
    try:
        await broker.publish([envelope])
    except BrokerUnavailable:
        return False
    return True


async def patiently(member: Subscription) -> Delivery:
    """Return the next delivery of a member that may be reconnecting."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await member.next()
            except BrokerUnavailable:
                await asyncio.sleep(0.05)
