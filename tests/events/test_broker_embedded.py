import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from interlock.events.broker import Broker
from interlock.events.brokers.embedded import EmbeddedBroker
from interlock.events.brokers.file import _connect
from tests.events.broker_suite import TYPES, SharedSuite, event, take


class TestEmbedded(SharedSuite):
    @pytest.fixture
    async def make(self, tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[Broker]]]:
        brokers: list[EmbeddedBroker] = []

        async def make() -> Broker:
            # without a poll that could hide a bell that does not ring
            broker = EmbeddedBroker(tmp_path / "var" / "broker.db", lease=1.5, poll=30.0)
            brokers.append(broker)
            await broker.start()
            return broker

        yield make
        for broker in brokers:
            await broker.stop()


async def test_the_bell_rings_in_other_processes(tmp_path: Path) -> None:
    """A member is woken by another process's commit, long before it would look by itself."""
    one, two = (EmbeddedBroker(tmp_path / "broker.db", lease=90.0, poll=30.0) for _ in range(2))
    await one.start()
    await two.start()
    member = await two.subscribe("orders", TYPES)
    waiting = asyncio.create_task(take(member, 1, limit=5.0))
    await asyncio.sleep(0.05)
    await one.publish([event("o-1")])
    (delivery,) = await waiting
    await delivery.ack()
    await two.stop()
    await one.stop()
    assert not any((tmp_path / "broker.db-bells").iterdir())


async def test_a_bell_without_its_process_is_cleared_away(tmp_path: Path) -> None:
    """The pipe of a process that was killed is removed by the next ring."""
    broker = EmbeddedBroker(tmp_path / "broker.db")
    await broker.start()
    left = tmp_path / "broker.db-bells" / "1-killed"
    os.mkfifo(left)
    await broker.publish([event("o-1")])
    assert not left.exists()
    await broker.stop()


async def test_old_events_are_dropped(tmp_path: Path) -> None:
    """What every group settled goes after a while, what none read after a longer one."""
    now = time.time()
    broker = EmbeddedBroker(tmp_path / "broker.db", keep=60.0, keep_unread=600.0, clock=lambda: now)
    await broker.start()
    await broker.publish([event("o-1", number=1)])
    member = await broker.subscribe("orders", TYPES)
    await (await member.next()).ack()
    await member.close()
    await broker.publish([event("o-1", number=2)])
    now += 100.0
    await broker.prune()
    assert await broker.lag("late", TYPES) == 1
    now += 600.0
    await broker.prune()
    assert await broker.lag("late", TYPES) == 0
    await broker.stop()


def test_several_may_make_the_file_at_once(tmp_path: Path) -> None:
    """Services that start together find no file: one makes it, and the others wait for a moment."""
    together = threading.Barrier(4)

    def open_all(_number: int) -> None:
        for number in range(50):
            together.wait(10)
            _connect(tmp_path / f"{number}.db").close()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(open_all, range(4))) == [None] * 4
