"""Events that share a transaction: all or nothing, in order, each with attempts of its own."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from interlock.call import Call, Cancellation, current_call
from interlock.data import Conflict, Database
from interlock.data.transaction import Transaction
from interlock.errors import Unavailable
from interlock.events.arrival import arrival
from interlock.events.broker import Broker
from interlock.events.brokers.embedded import EmbeddedBroker
from interlock.events.brokers.memory import MemoryBroker
from interlock.events.pace import Pace
from tests.data.databases import database_url
from tests.events.batches import EVENTS, GUILTY, KEYS, STEPS, Batch, Fault, broker_of, opened
from tests.events.listening import QUICK, Listener, consumer, made, nothing_waits, running
from tests.sample.gen.sample.v1.sample_pb import EchoMade
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_LISTENER
from tests.waiting import until

__all__ = ["database_url"]

GROUP = SAMPLE_LISTENER.name


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    broker = MemoryBroker()
    yield broker
    await broker.stop()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


def commits(database: Database) -> list[object]:
    """Return a list that grows with each commit."""
    found: list[object] = []
    database.measure = lambda _seconds, statement: found.append(statement) if statement == "COMMIT" else None
    return found


async def all_once(batch: Batch) -> None:
    """Each event had its effect, published its event and is noted, once, and in its key's order."""
    effects, events, noted = await batch.found()
    assert Counter(effects) == Counter(f"{batch.step}:{number}" for number in range(EVENTS)), batch.step
    for key in range(2):
        assert [each for each in effects if int(each[-1]) % 2 == key] == [
            f"{batch.step}:{number}" for number in range(key, EVENTS, 2)
        ], batch.step
    assert events == effects, batch.step
    assert noted == sorted(each.id for each in batch.sent), batch.step


async def test_events_that_wait_share_a_transaction(database: Database, broker: MemoryBroker) -> None:
    """Eight events that wait are run once each, in order, and committed at once, with what they published."""
    batch = Batch(database)
    committed = commits(database)
    await broker.publish(batch.sent)
    await batch.consume(broker)
    assert len(committed) == 1
    assert batch.ran == [f":{number}" for number in range(EVENTS)]
    await all_once(batch)


async def test_batches_grow_by_themselves(database: Database, broker: MemoryBroker) -> None:
    """A consumer begins with events alone, and takes more together while that goes well."""

    async def handle(message: EchoMade, call: Call) -> None:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect (text) VALUES (:text)", {"text": message.text})

    committed = commits(database)
    await broker.publish([made(str(number), KEYS[0]) for number in range(100)])
    async with running(consumer(broker, Listener(handle), database=database, batch=32)):
        await nothing_waits(broker, 20.0)
    async with database.transaction(read_only=True) as tx:
        found = await tx.execute("SELECT text FROM effect ORDER BY number")
    assert list(found.scalars()) == [str(number) for number in range(100)]
    assert len(committed) < 60


async def cancel(_batch: Batch, call: Call, _tx: Transaction | None) -> None:
    """Have the service drain, as far as this call can tell."""
    call.cancel(Cancellation.DRAIN)
    await asyncio.sleep(0)


async def fail(_batch: Batch, _call: Call, _tx: Transaction | None) -> None:
    """Break."""
    raise RuntimeError("as if")


async def clash(batch: Batch, _call: Call, tx: Transaction | None) -> None:
    """Meet a transaction that can't be ordered before ours: a real one on PostgreSQL, SQLite has none."""
    if not batch.database.is_postgresql:
        raise Conflict("as if")
    import asyncpg  # type: ignore[import-untyped]  # published without types

    url = batch.database._url.set(drivername="postgresql").render_as_string(hide_password=False)
    other = await asyncpg.connect(url)
    await other.execute("UPDATE clash SET number = number + 1")
    await other.close()
    if tx is not None:
        await tx.execute("UPDATE clash SET number = number + 1")
        return
    async with batch.database.transaction() as joined:
        await joined.execute("UPDATE clash SET number = number + 1")


@pytest.mark.parametrize("fault", [cancel, clash, fail], ids=["cancelled", "clashing", "failing"])
async def test_a_fault_at_any_step_leaves_all_or_nothing(database: Database, fault: Fault) -> None:
    """Whatever one of eight meets, at whichever step: in the end each is there once, and its key's order is kept."""
    for step in STEPS:
        broker = MemoryBroker()
        batch = Batch(database, step, fault)
        await broker.publish(batch.sent)
        await batch.consume(broker)
        assert batch.fault is None, step
        await all_once(batch)
        assert not broker.letters()
        await broker.stop()


async def test_a_crash_at_any_step_leaves_all_or_nothing(database_url: str, tmp_path: Path) -> None:
    """Killed amid eight events, all of them are there or none; another process then does the rest."""
    async with opened(database_url):
        pass
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.events.batches", database_url, str(tmp_path)
    )
    assert await process.wait() == 0
    async with opened(database_url) as database:
        batches = [Batch(database, step) for step in STEPS]
        for batch in batches:
            effects, events, noted = await batch.found()
            assert len(effects) == len(events) == len(noted) == (EVENTS if batch.step == "committed" else 0), batch.step

        async def go_on(batch: Batch) -> None:
            broker = broker_of(tmp_path, batch.step)
            await broker.start()
            await batch.consume(broker)
            await broker.stop()
            await all_once(batch)

        await asyncio.gather(*map(go_on, batches))


async def test_poison_has_its_own_attempts(database: Database, broker: MemoryBroker) -> None:
    """One of 32 fails always: it is a dead letter after its attempts, its key waits, the others are there once."""
    texts = [str(number) for number in range(32)]

    async def handle(message: EchoMade, call: Call) -> None:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect (text) VALUES (:text)", {"text": message.text})
        if message.text == "17":
            raise Unavailable("as if")

    listener = Listener(handle)
    together = consumer(broker, listener, database=database, batch=32)
    together.paces["echo.made"] = Pace(32, size=32)
    await broker.publish([made(text, KEYS[int(text) % 2]) for text in texts])
    async with running(together):
        await nothing_waits(broker, 20.0)
    (letter,) = broker.letters()
    assert (letter.envelope.partition_key, letter.code, letter.attempts) == (KEYS[1], "UNAVAILABLE", QUICK.attempts)
    assert listener.attempts.count("17") == QUICK.attempts + 1  # what fails in company is not believed
    async with database.transaction(read_only=True) as tx:
        found = list((await tx.execute("SELECT text FROM effect ORDER BY number")).scalars())
    for key in range(2):
        assert [each for each in found if int(each) % 2 == key] == [
            each for each in texts if int(each) % 2 == key and each != "17"
        ]
    last_of_poison = len(listener.attempts) - 1 - listener.attempts[::-1].index("17")
    assert "19" not in listener.attempts[:last_of_poison]


async def test_who_fails_only_alone_holds_back_its_key(database: Database, broker: MemoryBroker) -> None:
    """An event that fails when it runs again is tried again before those of its key that ran behind it in company."""

    async def handle(message: EchoMade, call: Call) -> None:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect (text) VALUES (:text)", {"text": message.text})
        runs = listener.attempts.count(message.text)
        if (message.text, runs) in (("0", 2), ("3", 1)):
            raise Unavailable("as if")

    listener = Listener(handle)
    together = consumer(broker, listener, database=database, batch=32)
    together.paces["echo.made"] = Pace(32, size=32, hold=5.0)
    await broker.publish([made(str(number), KEYS[number % 2]) for number in range(6)])
    async with running(together):
        await nothing_waits(broker)
    async with database.transaction(read_only=True) as tx:
        found = list((await tx.execute("SELECT text FROM effect ORDER BY number")).scalars())
    assert [each for each in found if each in "024"] == ["0", "2", "4"]
    assert [each for each in found if each in "135"] == ["1", "3", "5"]
    assert listener.attempts[:8] == ["0", "1", "2", "3", "0", "1", "3", "5"]
    assert not broker.letters()


async def test_who_uses_no_transaction_is_not_run_again(database: Database, broker: MemoryBroker) -> None:
    """A neighbour's failure repeats no handler that left nothing in the transaction; it is noted all the same."""

    async def handle(message: EchoMade, call: Call) -> None:
        if message.text == "bad":
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO effect (text) VALUES ('bad')")
            if listener.attempts.count("bad") < 3:
                raise Unavailable("as if")

    listener = Listener(handle)
    together = consumer(broker, listener, database=database, batch=32)
    together.paces["echo.made"] = Pace(32, size=32)
    sent = [made("good", KEYS[0]), made("bad", KEYS[1]), made("late", KEYS[0])]
    await broker.publish(sent)
    async with running(together):
        await nothing_waits(broker)
    assert Counter(listener.attempts) == {"good": 1, "bad": 3, "late": 1}
    async with database.transaction(read_only=True) as tx:
        noted = await tx.execute("SELECT count(*) FROM interlock_inbox WHERE processed_at IS NOT NULL")
    assert noted.scalar_one() == 3


async def test_a_duplicate_beside_others_has_no_effect(database: Database, broker: MemoryBroker) -> None:
    """An event that came twice is found among others, which are there once like itself."""
    batch = Batch(database)
    await broker.publish(batch.sent[:4])
    await batch.consume(broker)
    await broker.publish(batch.sent[2:4], group=GROUP)
    await broker.publish(batch.sent[4:])
    await broker.publish(batch.sent[6:], group=GROUP)  # twice in one batch
    await batch.consume(broker)
    await all_once(batch)


async def test_a_block_that_failed_and_was_caught_begins_anew(database: Database, broker: MemoryBroker) -> None:
    """A handler that catches its block's failure and opens another does what it would alone; its neighbours too."""

    async def handle(message: EchoMade, call: Call) -> None:
        if message.text == "1":
            with suppress(ZeroDivisionError):
                async with database.transaction() as tx:
                    await tx.execute("INSERT INTO effect (text) VALUES ('never')")
                    raise ZeroDivisionError
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect (text) VALUES (:text)", {"text": message.text})

    together = consumer(broker, Listener(handle), database=database, batch=32)
    together.paces["echo.made"] = Pace(32, size=32)
    await broker.publish([made(str(number), KEYS[0]) for number in range(3)])
    async with running(together):
        await nothing_waits(broker)
    async with database.transaction(read_only=True) as tx:
        found = await tx.execute("SELECT text FROM effect ORDER BY number")
    assert list(found.scalars()) == ["0", "1", "2"]


@pytest.mark.parametrize("inside", [False, True], ids=["before its block", "in its block"])
async def test_a_slow_handler_holds_up_nobody_in_front(database: Database, broker: MemoryBroker, inside: bool) -> None:
    """Events in front of one that takes long are committed and settled soon; it ends all the same, once."""
    go_on = asyncio.Event()

    async def wait(message: EchoMade) -> None:
        if message.text == "2":
            await go_on.wait()

    async def handle(message: EchoMade, call: Call) -> None:
        if not inside:
            await wait(message)
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect (text) VALUES (:text)", {"text": message.text})
            if inside:
                await wait(message)

    async def found() -> list[str]:
        async with database.transaction(read_only=True) as tx:
            return list((await tx.execute("SELECT text FROM effect ORDER BY number")).scalars())

    listener = Listener(handle)
    together = consumer(broker, listener, database=database, batch=32)
    together.paces["echo.made"] = Pace(32, size=32)
    await broker.publish([made(str(number), KEYS[0]) for number in range(4)])
    async with running(together):
        async with asyncio.timeout(10):
            while await found() != ["0", "1"] or await broker.lag(GROUP, ["echo.made"]) != 2:  # noqa: ASYNC110 - nobody rings
                await asyncio.sleep(0.01)
        go_on.set()
        await nothing_waits(broker)
    assert await found() == ["0", "1", "2", "3"]
    assert listener.attempts.count("2") == (2 if inside else 1)


@pytest.mark.parametrize("kind", ["memory", "embedded"])
async def test_a_drain_amid_a_batch_gives_back_uncounted(database: Database, tmp_path: Path, kind: str) -> None:
    """What is done stays done, what hangs and what was not begun comes again, with no attempt counted."""
    broker: Broker = MemoryBroker() if kind == "memory" else EmbeddedBroker(tmp_path / "broker.db")
    await broker.start()
    hangs = asyncio.Event()
    tried: list[int] = []

    async def handle(message: EchoMade, call: Call) -> None:
        tried.append(arrival(call).attempts)
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect (text) VALUES (:text)", {"text": message.text})
        if message.text == "2" and stopping:
            hangs.set()
            await asyncio.sleep(60)

    stopping = True
    await broker.publish([made(str(number), KEYS[0]) for number in range(5)])
    for _ in range(QUICK.attempts + 1):
        hangs.clear()
        together = consumer(broker, Listener(handle), database=database, batch=32)
        together.paces["echo.made"] = Pace(32, size=32)
        await together.start()
        await hangs.wait()
        await together.drain(0.01)
        await together.stop()
    stopping = False
    tried.clear()
    async with running(consumer(broker, Listener(handle), database=database, batch=32)):
        await nothing_waits(broker)
    async with database.transaction(read_only=True) as tx:
        found = await tx.execute("SELECT text FROM effect ORDER BY number")
    assert list(found.scalars()) == ["0", "1", "2", "3", "4"]
    assert set(tried) == {1}
    assert not await broker.dead_letters()
    await broker.stop()


async def test_a_cancel_amid_the_commit_changes_nothing(database: Database, broker: MemoryBroker) -> None:
    """Once the commit has begun, a call that is cancelled is committed with the others, of which none runs again.

    It is given back itself, and found to be done when it comes again.
    """
    batch = Batch(database, "noted", cancel)
    await broker.publish(batch.sent)
    await batch.consume(broker)
    assert batch.fault is None
    guilty = f"noted:{GUILTY}"
    assert sorted(batch.ran) == sorted([*(f"noted:{number}" for number in range(EVENTS)), guilty])
    await all_once(batch)


async def test_hooks_belong_to_their_event(database: Database, broker: MemoryBroker) -> None:
    """Each event's hooks run for it, before and behind the commit that it shares, the latter knowing its call."""
    before: list[str] = []
    behind: list[str | None] = []

    async def seen(tx: Transaction) -> None:
        before.append((await tx.execute("SELECT text FROM effect ORDER BY number DESC")).scalars().first() or "")

    async def done() -> None:
        call = current_call.get()
        behind.append(call.request.text if call is not None else None)

    async def handle(message: EchoMade, call: Call) -> None:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect (text) VALUES (:text)", {"text": message.text})
            tx.before_commit(seen)
            tx.after_commit(done)

    together = consumer(broker, Listener(handle), database=database, batch=32)
    together.paces["echo.made"] = Pace(32, size=32, hold=5.0)
    committed = commits(database)
    await broker.publish([made(str(number), KEYS[0]) for number in range(3)])
    async with running(together):
        await nothing_waits(broker)
    assert len(committed) == 1
    assert before == ["0", "1", "2"]
    assert sorted(map(str, behind)) == ["0", "1", "2"]


async def test_two_consumers_share_the_work(database: Database, broker: MemoryBroker) -> None:
    """Two members with batches of their own, one of which leaves amid the work: each effect once, keys in order."""

    async def handle(message: EchoMade, call: Call) -> None:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO effect (text) VALUES (:text)", {"text": message.text})

    one, two = Listener(handle), Listener(handle)
    sent = [made(f"{key}:{number:02}", f"key-{key}") for number in range(20) for key in range(12)]
    await broker.publish(sent[:120])
    async with running(consumer(broker, one, database=database, batch=32)):
        await until(lambda: len(one.attempts) > 20)
        async with running(consumer(broker, two, database=database, batch=32)):
            await broker.publish(sent[120:])
            await until(lambda: len(two.attempts) > 20)
        await nothing_waits(broker, 20.0)
    async with database.transaction(read_only=True) as tx:
        found = list((await tx.execute("SELECT text FROM effect ORDER BY number")).scalars())
    assert Counter(found) == Counter(f"{key}:{number:02}" for number in range(20) for key in range(12))
    for key in range(12):
        mine = [each for each in found if each.startswith(f"{key}:")]
        assert mine == sorted(mine)


def test_the_guilty_one_stands_amid_the_others() -> None:
    """The faults of this module hit an event with others in front of it and behind it."""
    assert 0 < GUILTY < EVENTS - 1
