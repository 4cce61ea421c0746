"""Several processes of one service on one broker, one of which is killed."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from interlock.call import uuid7
from interlock.events.broker import Broker, open_broker
from tests.events.listening import QUICK, effects, made, nothing_waits, opened
from tests.events.nats_server import own_server

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


@pytest.fixture(params=["embedded", "nats"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "embedded":
        yield f"embedded:{tmp_path}/broker.db"
        return
    with own_server() as server:
        yield f"{server}?stream=t{uuid7()}"


@asynccontextmanager
async def started(url: str) -> AsyncIterator[Broker]:
    broker = open_broker(url)
    await broker.start()
    yield broker
    await broker.stop()


async def test_a_killed_consumer_loses_and_doubles_nothing(url: str, tmp_path: Path) -> None:
    """A consumer is killed amid its work and another goes on: every event has its effect once, in its key's order."""
    path = tmp_path / "listener.db"
    texts = [(f"key-{key}", f"{key}:{number:02}") for number in range(EACH) for key in range(KEYS)]
    sent = [made(text, key) for key, text in texts]
    async with started(url) as broker, opened(path) as database:
        await broker.publish(sent[: len(sent) // 2])
        with process(url, path) as one:
            async with asyncio.timeout(30):
                while len(await effects(database)) < len(sent) // 8:  # noqa: ASYNC110 - another process writes
                    await asyncio.sleep(0.02)
            with process(url, path):
                one.kill()  # with every partition in its hands
                await broker.publish(sent[len(sent) // 2 :])
                await nothing_waits(broker, 60.0)
        done = await effects(database)
        assert await broker.dead_letters() == []
    assert sorted(done) == sorted(text for _, text in texts)
    for key in range(KEYS):
        own = [text for text in done if text.startswith(f"{key}:")]
        assert own == sorted(own)


async def test_an_event_that_kills_its_process_becomes_a_dead_letter(tmp_path: Path) -> None:
    """A process started again each time meets its killer as often as the attempts allow; no other dies with it."""
    path, url = tmp_path / "listener.db", f"embedded:{tmp_path}/broker.db"
    died = 0
    async with started(url) as broker, opened(path) as database:
        await broker.publish([made("killer"), *(made(f"other-{number}") for number in range(8))])
        while not await broker.dead_letters():
            with process(url, path) as one:
                async with asyncio.timeout(60):
                    while one.poll() is None and not await broker.dead_letters():  # noqa: ASYNC110 - it dies unasked
                        await asyncio.sleep(0.05)
                died += one.poll() == -signal.SIGKILL
        with process(url, path):
            await nothing_waits(broker, 60.0)
        (letter,) = await broker.dead_letters()
        done = await effects(database)
    assert died == QUICK.attempts
    assert (letter.code, letter.attempts) == ("INTERNAL", QUICK.attempts + 1)
    assert "none was ended" in letter.cause
    assert sorted(done) == [f"other-{number}" for number in range(8)]
