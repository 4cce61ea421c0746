import asyncio
from pathlib import Path

import pytest

from interlock import App, Call, InvalidArgument, Unavailable
from interlock.data import Database
from interlock.settings import Settings
from interlock.testing.events import Events
from tests.events.listening import Listener
from tests.sample.gen.sample.v1.sample_pb import EchoMade, EchoRequest
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_LISTENER, SampleListener
from tests.sample.handlers import Sample


async def test_what_was_published_consumed_and_failed_is_seen() -> None:
    """Each event is found by its message class and fields, where it ended."""

    async def handle(event: EchoMade, call: Call) -> None:
        if event.text == "poison":
            raise InvalidArgument("not this")

    events = Events()
    app = App(Listener(handle), broker=events.broker, settings=Settings(), access_log=False)
    async with app:
        for text in ("one", "two", "poison"):
            await events.publish(EchoMade(text=text))
        await events.settled(app)
    assert [each.text for each in events.published(EchoMade)] == ["one", "two", "poison"]
    assert sorted(each.text for each in events.consumed(EchoMade)) == ["one", "two"]
    failed = events.assert_failed(EchoMade, text="poison")
    assert (failed.group, failed.code, failed.attempts) == (SAMPLE_LISTENER.name, "INVALID_ARGUMENT", 1)
    assert "not this" in failed.cause
    assert events.assert_consumed(EchoMade, text="two").text == "two"


async def test_retries_do_not_keep_a_test_waiting() -> None:
    """An event is tried as often as in earnest, in a thousandth of the time; replayed, it succeeds."""
    broken = True

    async def handle(event: EchoMade, call: Call) -> None:
        if broken:
            raise Unavailable("not yet")

    events, listener = Events(), Listener(handle)
    app = App(listener, broker=events.broker, settings=Settings(), access_log=False)
    async with app:
        await events.publish(EchoMade(text="later"))
        await events.settled(app, timeout=30.0)
        failed = events.assert_failed(EchoMade)
        assert failed.attempts == len(listener.attempts) > 3
        broken = False
        await events.replay(failed)
        await events.settled(app)
    assert events.failed(EchoMade) == []
    events.assert_consumed(EchoMade, text="later")


async def test_what_stands_in_the_outbox_is_waited_for(tmp_path: Path) -> None:
    """Settled means that the outbox is empty, and what came of it is processed, too."""
    events, database = Events(), Database(f"sqlite:///{tmp_path}/sample.db")
    listener = Listener()
    app = App(Sample(), listener, database=database, broker=events.broker, settings=Settings(), access_log=False)
    async with app:
        async with database.transaction() as tx:
            await tx.publish(EchoMade(text="by the outbox"))
        await events.settled(app)
        assert listener.attempts == ["by the outbox"]
        events.assert_published(EchoMade, text="by the outbox")


async def test_an_assertion_that_fails_tells_what_there_was() -> None:
    """The error names what was looked for, and what was published instead."""
    events = Events()
    await events.publish(EchoMade(text="other"))
    with pytest.raises(AssertionError, match=r"0 events EchoMade\(text='this'\)[\s\S]*published echo.made \(other\)"):
        events.assert_published(EchoMade, text="this")
    with pytest.raises(ValueError, match="is no event"):
        events.published(EchoRequest)
    with pytest.raises(ValueError, match="has no text"):
        await events.publish(EchoMade())


async def test_what_is_never_settled_is_told() -> None:
    """An event whose handler does not return is named by the TimeoutError."""

    class Stuck(SampleListener):
        async def on_echo_made(self, event: EchoMade, call: Call) -> None:
            await asyncio.sleep(60)

    events = Events()
    app = App(Stuck(), broker=events.broker, settings=Settings(drain_limit="1ms"), access_log=False)
    async with app:
        await events.publish(EchoMade(text="stuck"))
        with pytest.raises(TimeoutError, match=r"echo\.made"):
            await events.settled(app, timeout=0.3)
