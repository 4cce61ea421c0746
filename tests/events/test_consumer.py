import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from interlock.call import Call, Direction, current_call
from interlock.data import Database
from interlock.data.inbox import record
from interlock.errors import InvalidArgument, Unavailable
from interlock.events import dead_letters
from interlock.events.broker import PARTITIONS, partition_of
from interlock.events.brokers.memory import MemoryBroker
from interlock.events.envelope import Envelope
from tests.events.broker_suite import same_partition
from tests.events.listening import QUICK, Listener, Outcomes, consumer, effects, made, nothing_waits, opened, running
from tests.sample.gen.sample.v1.sample_pb import EchoMade
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_LISTENER
from tests.waiting import until

GROUP = SAMPLE_LISTENER.name


async def published(broker: MemoryBroker) -> Envelope:
    """Return the first event that another group gets."""
    other = await broker.subscribe("other", ["echo.made"])
    delivery = await other.next()
    await other.close()
    return delivery.envelope


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    broker = MemoryBroker()
    yield broker
    await broker.stop()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened(tmp_path / "listener.db") as database:
        yield database


async def test_an_event_is_a_consumed_call(broker: MemoryBroker) -> None:
    """The handler gets the generated class, and a call that knows request id, trace, deadline and service."""
    calls: list[Call | None] = []

    async def handle(message: EchoMade, call: Call) -> None:
        assert type(message) is EchoMade
        calls.append(current_call.get())

    outcomes = Outcomes()
    listener = Listener(handle)
    sent = made("hello")
    await broker.publish([sent])
    async with running(consumer(broker, listener, outcomes=outcomes)):
        await nothing_waits(broker)
    (call,) = listener.calls
    assert calls == [call]
    assert call.direction is Direction.CONSUMED
    assert call.operation.path == f"/{GROUP}/echo.made"
    assert call.request_id == sent.request_id
    assert call.metadata.get("traceparent") == sent.traceparent
    assert call.metadata.get("ce-id") == sent.id
    assert call.principal is not None
    assert call.principal.subject == GROUP
    assert 0 < call.deadline.remaining() <= 30
    assert outcomes.codes == ["OK"]


async def test_a_failed_event_is_tried_again(broker: MemoryBroker) -> None:
    """An event whose handler failed comes again until it succeeds, and no letter is left."""

    async def handle(message: EchoMade, call: Call) -> None:
        if len(listener.attempts) < 3:
            raise Unavailable("not yet")

    listener, outcomes = Listener(handle), Outcomes()
    await broker.publish([made("hello")])
    async with running(consumer(broker, listener, outcomes=outcomes)):
        await nothing_waits(broker)
    assert listener.attempts == ["hello"] * 3
    assert outcomes.codes == ["UNAVAILABLE", "UNAVAILABLE", "OK"]
    assert await broker.dead_letters() == []


async def test_poison_is_given_up_and_blocks_nobody(broker: MemoryBroker) -> None:
    """An event that always fails becomes a dead letter with its cause; its key's order holds, other keys pass it."""
    other = same_partition("poison")

    async def handle(message: EchoMade, call: Call) -> None:
        if message.text == "poison":
            raise RuntimeError("it breaks")

    listener = Listener(handle)
    await broker.publish([made("poison"), made("after", key="poison"), made(other)])
    async with running(consumer(broker, listener)):
        await nothing_waits(broker)
    assert listener.attempts == ["poison", other, "poison", "poison", "after"]
    (letter,) = await broker.dead_letters(GROUP)
    assert (letter.code, letter.cause, letter.attempts) == ("INTERNAL", "RuntimeError: it breaks", QUICK.attempts)
    assert letter.traceparent == letter.envelope.traceparent


async def test_what_no_repetition_heals_is_given_up_at_once(broker: MemoryBroker) -> None:
    """INVALID_ARGUMENT from the handler, and data that is no message, are not tried twice."""

    async def handle(message: EchoMade, call: Call) -> None:
        raise InvalidArgument("nonsense")

    listener = Listener(handle)
    await broker.publish([made("hello"), replace(made("broken"), data=b"\xff\xff")])
    async with running(consumer(broker, listener)):
        await nothing_waits(broker)
    assert listener.attempts == ["hello"]
    letters = await broker.dead_letters(GROUP)
    assert [(each.code, each.attempts) for each in letters] == [("INVALID_ARGUMENT", 1)] * 2


async def test_an_error_of_a_called_service_is_tried_again(broker: MemoryBroker) -> None:
    """INVALID_ARGUMENT that a service behind this one gave says nothing of the event."""

    async def handle(message: EchoMade, call: Call) -> None:
        error = InvalidArgument("theirs")
        error.received = True
        raise error

    listener = Listener(handle)
    await broker.publish([made("hello")])
    async with running(consumer(broker, listener)):
        await nothing_waits(broker)
    assert len(listener.attempts) == QUICK.attempts
    (letter,) = await broker.dead_letters()
    assert letter.code == "INTERNAL"


async def test_an_event_that_ended_no_attempt_is_given_up_unrun(broker: MemoryBroker) -> None:
    """An event whose attempts were all begun and never ended, as when it kills its process, is not run again."""
    await broker.publish([made("killer")])
    for _ in range(QUICK.attempts):
        member = await broker.subscribe(GROUP, ["echo.made"])
        await (await member.next()).attempt()
        await member.close()
    listener = Listener()
    async with running(consumer(broker, listener)):
        await nothing_waits(broker)
    assert listener.attempts == []
    (letter,) = await broker.dead_letters()
    assert letter.attempts == QUICK.attempts + 1


async def test_effects_happen_once(broker: MemoryBroker, database: Database) -> None:
    """What the handler changed is committed with the inbox row; a failed attempt and a duplicate leave nothing."""

    async def handle(message: EchoMade, call: Call) -> None:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect VALUES (:text)", {"text": message.text})
        if len(listener.attempts) == 1:
            raise Unavailable("not yet")

    listener = Listener(handle)
    sent = made("hello")
    await broker.publish([sent])
    async with running(consumer(broker, listener, database=database)):
        await nothing_waits(broker)
        await broker.publish([sent], group=GROUP)
        await nothing_waits(broker)
    assert listener.attempts == ["hello"] * 3
    assert await effects(database) == ["hello"]


async def test_what_was_processed_is_not_run_again(broker: MemoryBroker, database: Database) -> None:
    """An event that comes again because its acknowledgement was lost does not reach the handler."""
    await broker.publish([made("hello")])
    first = await broker.subscribe(GROUP, ["echo.made"])
    await (await first.next()).attempt()
    await first.close()
    async with database.transaction() as tx:
        assert await record(tx, GROUP, (await published(broker)).id)
    listener = Listener()
    async with running(consumer(broker, listener, database=database)):
        await nothing_waits(broker)
    assert listener.attempts == []


async def test_a_former_holder_of_the_partition_commits_nothing(broker: MemoryBroker, database: Database) -> None:
    """A handler that went on while its partition changed hands has no effect once the new holder has committed."""
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def slow(message: EchoMade, call: Call) -> None:
        if message.text == "first":
            waiting.set()
            await go_on.wait()
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect VALUES (:text)", {"text": f"{message.text} by the former"})

    async def quick(message: EchoMade, call: Call) -> None:
        if message.text == "first":
            raise InvalidArgument("given up, so that the inbox does not know it")
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect VALUES (:text)", {"text": message.text})

    key = next(each for each in map(str, range(100)) if partition_of(each) == PARTITIONS - 1)
    await broker.publish([made("first", key), made("second", key)])
    former = consumer(broker, Listener(slow), database=database)
    await former.start()
    await waiting.wait()
    # the memory broker hands the upper half of the partitions on at once, as if the leases of these had run out
    async with running(consumer(broker, Listener(quick), database=database)):
        await nothing_waits(broker)
        go_on.set()
        await former.drain(2.0)
        await former.stop()
    assert await effects(database) == ["second"]


async def test_a_drain_gives_back_uncounted(broker: MemoryBroker, database: Database) -> None:
    """What a drain cancels comes again as if it had never been begun."""
    begun = asyncio.Event()

    async def hang(message: EchoMade, call: Call) -> None:
        begun.set()
        await asyncio.sleep(60)

    await broker.publish([made("hello")])
    for _ in range(QUICK.attempts):
        begun.clear()
        stopping = consumer(broker, Listener(hang), database=database)
        await stopping.start()
        await begun.wait()
        await stopping.drain(0.01)
        await stopping.stop()
    listener = Listener()
    async with running(consumer(broker, listener, database=database)):
        await nothing_waits(broker)
    assert listener.attempts == ["hello"]
    assert await broker.dead_letters() == []


async def test_a_database_that_is_away_burns_no_attempts(broker: MemoryBroker, tmp_path: Path) -> None:
    """While the database is away no failure counts, though one attempt is all there is; then everything is done."""
    async with opened(tmp_path / "listener.db") as database:
        pass

    async def handle(message: EchoMade, call: Call) -> None:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect VALUES (:text)", {"text": message.text})

    outcomes, once = Outcomes(), replace(QUICK, attempts=1)
    await broker.publish([made(str(number)) for number in range(5)])
    async with running(consumer(broker, Listener(handle), database=database, outcomes=outcomes, policy=once)):
        await until(lambda: len(outcomes.codes) > 7)
        assert "OK" not in outcomes.codes
        await database.start()
        await nothing_waits(broker, 15.0)
        assert sorted(await effects(database)) == list("01234")
    await database.stop()
    assert await broker.dead_letters() == []


async def test_a_handler_that_takes_too_long_is_tried_again(broker: MemoryBroker) -> None:
    """A handler is cancelled at the operation's timeout; after the last attempt its event is a dead letter."""

    async def hang(message: EchoMade, call: Call) -> None:
        await asyncio.sleep(60)

    listener, outcomes = Listener(hang), Outcomes()
    await broker.publish([made("hello")])
    async with running(consumer(broker, listener, outcomes=outcomes, timeout=timedelta(milliseconds=50))):
        await nothing_waits(broker)
    assert outcomes.codes == ["DEADLINE_EXCEEDED"] * QUICK.attempts
    (letter,) = await broker.dead_letters()
    assert letter.code == "DEADLINE_EXCEEDED"


async def test_a_dead_letter_is_replayed(broker: MemoryBroker, database: Database) -> None:
    """A replayed event reaches the group that gave it up, with fresh attempts, and its letter is gone."""
    broken = True

    async def handle(message: EchoMade, call: Call) -> None:
        if broken:
            raise RuntimeError("it breaks")
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect VALUES (:text)", {"text": message.text})

    listener = Listener(handle)
    await broker.publish([made("hello")])
    async with running(consumer(broker, listener, database=database)):
        await nothing_waits(broker)
        (letter,) = await broker.dead_letters()
        await dead_letters.replay(broker, letter.id)
        await nothing_waits(broker)
        (letter,) = await broker.dead_letters()
        assert letter.envelope.replays == 1
        assert len(listener.attempts) == 2 * QUICK.attempts
        broken = False
        await dead_letters.replay(broker, letter.id)
        await nothing_waits(broker)
    assert await broker.dead_letters() == []
    assert await effects(database) == ["hello"]


async def test_a_dead_letter_is_discarded(broker: MemoryBroker) -> None:
    """A discarded letter is gone, and asking for it again says so."""
    await broker.publish([replace(made("broken"), data=b"\xff\xff")])
    async with running(consumer(broker, Listener())):
        await nothing_waits(broker)
    (letter,) = await broker.dead_letters()
    assert await dead_letters.show(broker, letter.id) == letter
    await dead_letters.discard(broker, letter.id)
    with pytest.raises(dead_letters.UnknownLetter, match=letter.id):
        await dead_letters.show(broker, letter.id)


async def test_partitions_are_consumed_side_by_side(broker: MemoryBroker) -> None:
    """An event that takes long holds up its own partition only."""
    release = asyncio.Event()

    async def handle(message: EchoMade, call: Call) -> None:
        if message.text == "0":
            await release.wait()

    listener = Listener(handle)
    await broker.publish([made(str(number)) for number in range(20)])
    async with running(consumer(broker, listener)):
        await until(lambda: len(listener.attempts) > 15)
        release.set()
        await nothing_waits(broker)
    assert sorted(listener.attempts) == sorted(map(str, range(20)))
