import asyncio
from pathlib import Path

import pytest

from interlock.events.broker import PARTITIONS, BrokerUnavailable, fair_share, open_broker, partition_of
from interlock.events.brokers.embedded import EmbeddedBroker
from interlock.events.brokers.nats import NatsBroker
from interlock.events.envelope import Envelope
from tests.events.listening import Listener, consumer, made, nothing_waits
from tests.events.nats_server import free_port, own_server
from tests.waiting import until


def test_a_key_has_the_same_partition_for_ever() -> None:
    """Partitions are part of what is stored, so they never change; keys spread over all of them."""
    assert [partition_of(key) for key in ("", "o-1", "o-2", "ü")] == [4, 5, 4, 7]  # `b2sum -l 64`, the last digit
    assert {partition_of(str(number)) for number in range(500)} == set(range(PARTITIONS))


def test_shares_cover_all_partitions() -> None:
    """However many members there are, their shares together hold every partition."""
    assert [fair_share(members) for members in (0, 1, 2, 3, 16, 40)] == [16, 16, 8, 6, 1, 1]


@pytest.mark.parametrize("url", ["", "var/broker.db", "embedded:", "kafka://localhost"])
def test_an_unknown_url_is_refused(url: str) -> None:
    """A URL of no known broker is refused with examples of good ones."""
    with pytest.raises(ValueError, match="embedded:var/broker"):
        open_broker(url)


async def test_a_file_that_can_not_be_opened_is_told(tmp_path: Path) -> None:
    """The embedded broker says which file it can't open."""
    (tmp_path / "broker.db").write_text("this is no database, and long enough to be told from one" * 100)
    with pytest.raises(BrokerUnavailable, match=r"broker\.db"):
        await EmbeddedBroker(tmp_path / "broker.db").start()


async def test_a_server_that_is_not_there_is_told() -> None:
    """NATS says where it looked, without the password, and in time."""
    broker = NatsBroker(f"nats://user:secret@127.0.0.1:{free_port()}", timeout=0.5)
    with pytest.raises(BrokerUnavailable, match=r"NATS at nats://127") as told:
        await broker.start()
    assert "secret" not in str(told.value)


async def test_what_is_not_started_is_told(tmp_path: Path) -> None:
    """A broker that was not started says so."""
    for broker in (EmbeddedBroker(tmp_path / "broker.db"), NatsBroker("nats://127.0.0.1")):
        with pytest.raises(BrokerUnavailable, match="not started"):
            await broker.ping()


async def test_nats_is_found_again_after_a_restart(tmp_path: Path) -> None:
    """While the server is away publishing fails; once it is back, publisher and consumer go on where they were."""
    port = free_port()
    broker = NatsBroker(f"nats://127.0.0.1:{port}?stream=restart", lease=1.5, timeout=1.0)
    listener = Listener()
    try:
        with own_server(port, str(tmp_path)):
            await broker.start()
            consuming = consumer(broker, listener)
            await consuming.start()
            await broker.publish([made("1")])
            await until(lambda: listener.attempts == ["1"], 10.0)
        with pytest.raises(BrokerUnavailable):
            await broker.publish([made("2")])
        with own_server(port, str(tmp_path)):
            again = made("3")
            async with asyncio.timeout(20):
                while not await published(broker, again):  # noqa: ASYNC110 - as a relay does it
                    await asyncio.sleep(0.05)
            await until(lambda: "3" in listener.attempts, 20.0)
            await nothing_waits(broker, 20.0)
            await consuming.drain(1.0)
            await consuming.stop()
    finally:
        await broker.stop()
    assert listener.attempts[0] == "1"
    assert listener.attempts.count("3") == 1


async def published(broker: NatsBroker, envelope: Envelope) -> bool:
    try:
        await broker.publish([envelope])
    except BrokerUnavailable:
        return False
    return True
