import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from interlock.data import Database, outbox
from interlock.events.broker import BrokerUnavailable
from interlock.events.brokers.memory import MemoryBroker
from interlock.events.envelope import Envelope, EventTooLarge
from interlock.events.relay import Relay
from tests.events.listening import opened
from tests.sample.gen.sample.v1.sample_pb import EchoMade
from tests.waiting import until


class Flaky(MemoryBroker):
    """A broker that can be away, refuses the key `bad`, and remembers what it took."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.refused = 0
        self.took: list[str] = []

    async def publish(self, envelopes: Sequence[Envelope], *, group: str = "") -> None:
        if self.away:
            self.refused += 1
            raise BrokerUnavailable("away")
        if any(each.partition_key == "bad" for each in envelopes):
            raise EventTooLarge("bad")
        self.took += [EchoMade.from_binary(each.data).text for each in envelopes]
        await super().publish(envelopes, group=group)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened(tmp_path / "sample.db") as database:
        yield database


async def publish(database: Database, *texts: str) -> None:
    for text in texts:
        async with database.transaction() as tx:
            await tx.publish(EchoMade(text=text))


async def test_events_go_out_in_order_as_they_are_committed(database: Database) -> None:
    """What waits and what is published later reaches the broker in order, woken by the commit, and leaves the box."""
    broker = Flaky()
    relay = Relay(database, broker, poll=60.0)
    texts = [str(number) for number in range(20)]
    await publish(database, *texts[:10])
    await relay.start()
    await until(lambda: len(broker.took) == 10)
    await publish(database, *texts[10:])
    await until(lambda: len(broker.took) == 20)
    await relay.stop()
    assert broker.took == texts
    assert await outbox.pending(database, 10) == []


async def test_an_outage_of_the_broker_loses_nothing(database: Database) -> None:
    """While the broker is away the rows stay; once it is back they go out in order."""
    broker = Flaky()
    broker.away = True
    relay = Relay(database, broker)
    await relay.start()
    await publish(database, "1", "2")
    await until(lambda: broker.refused > 2)
    assert len(await outbox.pending(database, 10)) == 2
    await publish(database, "3")
    broker.away = False
    await until(lambda: len(broker.took) == 3)
    await relay.stop()
    assert broker.took == ["1", "2", "3"]


async def test_stopping_flushes(database: Database) -> None:
    """What was committed before the stop is sent before it returns."""
    broker = Flaky()
    relay = Relay(database, broker, batch=2)
    await relay.start()
    await publish(database, "1", "2", "3", "4", "5")
    await relay.stop()
    assert broker.took == ["1", "2", "3", "4", "5"]


async def test_stopping_without_the_broker_ends(database: Database) -> None:
    """A broker that is away does not hold up the stop; its rows wait for the next start."""
    broker = Flaky()
    broker.away = True
    relay = Relay(database, broker)
    await relay.start()
    await publish(database, "1")
    await asyncio.wait_for(relay.stop(limit=5.0), 5.0)
    assert len(await outbox.pending(database, 10)) == 1


async def test_several_relays_take_turns(database: Database) -> None:
    """Of two relays one sends; when it stops, the other goes on."""
    one, two = Flaky(), Flaky()
    first, second = Relay(database, one, poll=0.05), Relay(database, two, poll=0.05)
    await first.start()
    await publish(database, "1")
    await until(lambda: one.took == ["1"])
    await second.start()
    await publish(database, "2")
    await until(lambda: one.took == ["1", "2"])
    await first.stop()
    await publish(database, "3")
    await until(lambda: two.took == ["3"])
    await second.stop()


async def test_several_relays_share_the_keys(database: Database) -> None:
    """Two relays each send a part of the keys, one alone every key's events, in their order."""
    one, two = Flaky(), Flaky()
    first, second = (Relay(database, broker, poll=0.02, lease=0.3) for broker in (one, two))
    await first.start()
    await second.start()
    sent: list[str] = []

    async def both_send() -> bool:
        for key in map(str, range(8)):
            text = f"{len(sent):04} {key}"
            sent.append(text)
            await publish(database, text)
        return bool(one.took) and bool(two.took)

    await until(both_send, 20)
    await until(lambda: len(one.took) + len(two.took) >= len(sent), 20)
    await first.stop()
    await second.stop()
    assert set(one.took) | set(two.took) == set(sent)
    for took in (one.took, two.took):
        for key in {text[-1] for text in took}:
            of_key = [text for text in took if text[-1] == key]
            assert of_key == sorted(of_key)


async def test_a_dead_relay_is_followed(database: Database) -> None:
    """A relay that died with the lease is followed by another once the lease is over."""
    for shard in range(outbox.SHARDS):
        assert await outbox.acquire_lease(database, outbox.shard_name(shard), "dead", 0.3) is not None
    broker = Flaky()
    relay = Relay(database, broker, poll=0.05)
    await publish(database, "1")
    await relay.start()
    await until(lambda: broker.took == ["1"])
    await relay.stop()


async def test_an_event_that_can_not_be_sent_holds_back_its_key_only(database: Database) -> None:
    """A row that the broker refuses for itself stays with its key; the others pass it."""
    broker = Flaky()
    relay = Relay(database, broker)
    await publish(database, "1", "bad", "2", "bad", "3")
    await relay.start()
    await until(lambda: len(broker.took) == 3)
    await relay.stop()
    assert broker.took == ["1", "2", "3"]
    assert [row.partition_key for row in await outbox.pending(database, 10)] == ["bad", "bad"]
