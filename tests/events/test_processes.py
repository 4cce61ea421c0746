"""Several processes of one service on one broker, one of which is killed."""

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from interlock.call import Call
from interlock.data import Database
from interlock.events.broker import Broker, partition_of
from interlock.events.brokers.rabbitmq import RabbitBroker
from interlock.stamps import uuid7
from tests.events import rabbitmq_server
from tests.events.listening import (
    QUICK,
    Listener,
    consumer,
    effects,
    made,
    nothing_waits,
    opened,
    running,
    short_leased,
)
from tests.events.nats_server import own_server
from tests.sample.gen.sample.v1.sample_pb import EchoMade
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_LISTENER
from tests.waiting import until

GROUP = SAMPLE_LISTENER.name
KEYS, EACH = 12, 10


@contextmanager
def process(url: str, database: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.events.listening_process", url, str(database)]
    with subprocess.Popen(command) as started:
        try:
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()


@pytest.fixture(params=["embedded", "nats", "rabbitmq"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    match request.param:
        case "embedded":
            yield f"embedded:{tmp_path}/broker.db"
        case "nats":
            with own_server() as server:
                yield f"{server}?stream=t{uuid7()}"
        case _:
            server, name = rabbitmq_server.running_url(), f"t{uuid7()}"
            yield f"{server}?name={name}"
            await rabbitmq_server.remove(server, name, GROUP)


@asynccontextmanager
async def started(url: str) -> AsyncIterator[Broker]:
    broker = short_leased(url)
    await broker.start()
    if isinstance(broker, RabbitBroker):  # a group that it does not know would miss what is published
        await broker.make_group(GROUP, ["echo.made"])
    yield broker
    await broker.stop()


async def all_done(database: Database, count: int) -> None:
    """Wait until so many events had their effect, in whatever process."""
    async with asyncio.timeout(60):
        while len(await effects(database)) < count:  # noqa: ASYNC110 - another process writes
            await asyncio.sleep(0.02)


async def test_a_killed_consumer_loses_and_doubles_nothing(url: str, tmp_path: Path) -> None:
    """A consumer is killed amid its work and another goes on: every event has its effect once, in its key's order."""
    path = tmp_path / "listener.db"
    texts = [(f"key-{key}", f"{key}:{number:02}") for number in range(EACH) for key in range(KEYS)]
    sent = [made(text, key) for key, text in texts]
    async with started(url) as broker, opened(path) as database:
        await broker.publish(sent[: len(sent) // 2])
        with process(url, path) as one:
            await all_done(database, len(sent) // 8)
            with process(url, path):
                one.kill()  # with every partition in its hands
                await broker.publish(sent[len(sent) // 2 :])
                await all_done(database, len(sent))
                await nothing_waits(broker, 60.0)
        done = await effects(database)
        assert await broker.dead_letters() == []
    assert sorted(done) == sorted(text for _, text in texts)
    for key in range(KEYS):
        own = [text for text in done if text.startswith(f"{key}:")]
        assert own == sorted(own)


async def test_an_event_that_kills_its_process_becomes_a_dead_letter(url: str, tmp_path: Path) -> None:
    """A process started again each time meets its killer as often as the attempts allow; no other dies with it."""
    path, died = tmp_path / "listener.db", 0
    async with started(url) as broker, opened(path) as database:
        await broker.publish([made("killer"), *(made(f"other-{number}") for number in range(8))])
        while not await broker.dead_letters():
            with process(url, path) as one:
                async with asyncio.timeout(60):
                    while one.poll() is None and not await broker.dead_letters():  # noqa: ASYNC110 - it dies unasked
                        await asyncio.sleep(0.05)
                died += one.poll() == -signal.SIGKILL
        with process(url, path):
            await all_done(database, 8)
            await nothing_waits(broker, 60.0)
        (letter,) = await broker.dead_letters()
        done = await effects(database)
    assert died == QUICK.attempts
    assert (letter.code, letter.attempts) == ("INTERNAL", QUICK.attempts + 1)
    assert "none was ended" in letter.cause
    assert sorted(done) == [f"other-{number}" for number in range(8)]


async def test_a_key_that_waits_delays_no_other_on_any_worker(url: str) -> None:
    """While an event waits for its next attempt, all others but its key's are done, by its worker and by another."""

    async def handle(message: EchoMade, call: Call) -> None:
        if message.text == "fails":
            raise RuntimeError("as it must")

    workers, slow = [Listener(handle), Listener(handle)], replace(QUICK, first=60.0, longest=60.0)
    async with AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(started(url)) for _ in workers]
        for each, broker in zip(workers, brokers, strict=True):
            await stack.enter_async_context(running(consumer(broker, each, policy=slow)))
        async with asyncio.timeout(60):
            while not all(each.attempts for each in workers):  # until both have a share of the keys
                await brokers[0].publish([made("hello", str(key)) for key in range(64)])
                await asyncio.sleep(0.2)
        others = [made(f"other-{key}", f"other-{key}") for key in range(64)]
        await brokers[0].publish([made("fails", "key"), made("behind", "key"), *others])
        done: Counter[str] = Counter()
        async with asyncio.timeout(30):
            while not {f"other-{key}" for key in range(64)} | {"fails"} <= done.keys():
                await asyncio.sleep(0.02)
                done = Counter(text for each in workers for text in each.attempts)
        assert all(any(text.startswith("other-") for text in each.attempts) for each in workers)
        assert done["fails"] == 1
        assert "behind" not in done


async def test_poison_and_a_slow_key_leave_the_others_flowing(url: str) -> None:
    """While one event takes its time and another is given up, those of every other partition are done."""
    release = asyncio.Event()

    async def handle(message: EchoMade, call: Call) -> None:
        if message.text == "slow":
            await release.wait()

    keys = [key for key in map(str, range(60)) if partition_of(key) != partition_of("slow")]
    listener, poison = Listener(handle), replace(made("poison", keys[0]), data=b"\xff\xff")
    async with started(url) as broker:
        await broker.publish([made("slow"), poison, *(made(f"other-{key}", key) for key in keys)])
        async with running(consumer(broker, listener)):
            await until(lambda: {f"other-{key}" for key in keys} | {"slow"} <= set(listener.attempts), 30.0)
            await until(lambda: one_waits(broker), 20.0)
            (letter,) = await broker.dead_letters()
            assert letter.envelope == poison
            release.set()
            await nothing_waits(broker, 30.0)
    assert sorted(listener.attempts) == sorted(["slow", *(f"other-{key}" for key in keys)])


async def one_waits(broker: Broker) -> bool:
    return await broker.lag(GROUP, ["echo.made"]) == 1
