"""The inbox: attempts counted, duplicates seen, old holders of a lease kept out."""

import asyncio
from contextvars import Context

import pytest

from interlock.data import Conflict, Database, Transaction, inbox
from tests.data.databases import Clock


async def record(database: Database, event_id: str, consumer: str = "c") -> bool:
    async with database.transaction() as tx:
        return await inbox.record(tx, consumer, event_id)


async def test_attempts_count_until_the_event_is_processed(database: Database) -> None:
    """Each attempt has its number, one taken back is not counted, and after the event is processed there is none."""
    assert await inbox.attempt(database, "c", "e") == 1
    assert await inbox.attempt(database, "c", "e") == 2
    await inbox.uncount(database, "c", "e")
    assert await inbox.attempt(database, "c", "e") == 2
    assert await inbox.attempt(database, "other", "e") == 1
    assert not await inbox.seen(database, "c", "e")
    assert await record(database, "e")
    assert await inbox.seen(database, "c", "e")
    assert await inbox.attempt(database, "c", "e") == 0
    assert await inbox.attempt(database, "other", "e") == 2


async def test_an_event_is_recorded_once(database: Database) -> None:
    """Of two that process an event, also at the same time, one is told that it was first."""
    assert await record(database, "e")
    assert not await record(database, "e")
    assert await record(database, "e", consumer="other")

    async def apart(number: int) -> bool:
        while True:
            try:
                return await record(database, "raced")
            except Conflict:
                await asyncio.sleep(0.001 * number)

    assert sorted(await asyncio.gather(*(apart(n) for n in range(6)))) == [False] * 5 + [True]


async def test_several_events_are_noted_at_once(database: Database) -> None:
    """All are new, or the caller is told to undo it; and only the latest holder of the lease may note any."""

    async def noted(fencing: int, *events: str) -> bool:
        async def note(tx: Transaction) -> None:
            if not await inbox.note_all(tx, "c", events, "lease", fencing):
                raise KeyError

        try:
            await database.run(note)
        except KeyError:
            return False
        return True

    assert await noted(3, "a", "b", "c")
    assert [await inbox.seen(database, "c", each) for each in "abcd"] == [True, True, True, False]
    assert not await noted(3, "d", "b")
    assert not await inbox.seen(database, "c", "d")
    assert not await noted(2, "d", "e")
    assert await noted(4, "d", "e")
    assert not await noted(3, "f")
    assert not await inbox.seen(database, "c", "f")


async def test_an_undone_transaction_records_nothing(database: Database) -> None:
    """An event whose transaction is undone is still to be processed."""

    async def undone(tx: Transaction) -> None:
        assert await inbox.record(tx, "c", "e")
        raise KeyError

    with pytest.raises(KeyError):
        await database.run(undone)
    assert await record(database, "e")


async def test_a_fence_keeps_an_old_holder_out(database: Database) -> None:
    """Once a later holder has written, an earlier one is told so; and none writes in between."""
    async with database.transaction() as tx:
        assert await inbox.fence(tx, "p-1", 3)
    async with database.transaction() as tx:
        assert await inbox.fence(tx, "p-1", 3)
        assert await inbox.fence(tx, "p-2", 1)
        assert not await inbox.fence(tx, "p-1", 2)
        assert await inbox.fence(tx, "p-1", 4)
        assert not await inbox.fence(tx, "p-1", 3)


async def test_a_later_holder_waits_for_the_one_that_commits(database: Database) -> None:
    """A later holder can't pass an earlier one between its check and its commit."""

    async def later() -> None:
        async with database.transaction() as tx:
            assert await inbox.fence(tx, "p-1", 4)

    async with database.transaction() as tx:
        assert await inbox.fence(tx, "p-1", 3)
    async with database.transaction() as tx:
        assert await inbox.fence(tx, "p-1", 3)
        task = asyncio.create_task(later(), context=Context())
        done, _ = await asyncio.wait((task,), timeout=0.05)
        assert not done
    await task


async def test_old_rows_are_purged(database: Database, clock: Clock) -> None:
    """Rows not touched for long go, others stay, pair by pair."""
    await record(database, "old")
    await record(database, "both")
    clock.now += 100
    await record(database, "both", consumer="other")
    await inbox.attempt(database, "other", "old")
    assert await inbox.purge(database, age=50) == 2
    assert await inbox.purge(database, age=50) == 0
    assert not await inbox.seen(database, "c", "both")
    assert await inbox.seen(database, "other", "both")
    assert await inbox.attempt(database, "other", "old") == 2
