"""The outbox: what waits, in which order, who may send it."""

import asyncio
from contextvars import Context
from dataclasses import replace

import pytest

from interlock.data import Database, Transaction, outbox
from interlock.data.outbox import OutboxRow
from tests.data.databases import Clock


def row(number: int, key: str = "k") -> OutboxRow:
    return OutboxRow(
        id=f"e-{number}", type="thing.made", partition_key=key, data=bytes([number]), attributes={"source": "tests"}
    )


async def put(database: Database, *rows: OutboxRow) -> None:
    async with database.transaction() as tx:
        for each in rows:
            await outbox.insert(tx, each)


async def waiting(database: Database, **options: object) -> list[str]:
    return [each.id for each in await outbox.pending(database, 100, **options)]  # type: ignore[arg-type]


async def test_rows_wait_in_order_until_they_are_removed(database: Database) -> None:
    """Rows come oldest first, whole, and stay until they are removed."""
    await put(database, row(1), row(2, "other"), row(3))
    (first, *_) = await outbox.pending(database, 1)
    assert (first.data, first.attributes, first.partition_key) == (b"\1", {"source": "tests"}, "k")
    assert await waiting(database) == ["e-1", "e-2", "e-3"]
    assert await waiting(database, excluding=["k"]) == ["e-2"]
    await outbox.remove(database, ["e-1", "e-2", "gone already"])
    assert await waiting(database) == ["e-3"]
    assert await outbox.waiting(database) == 1


async def test_large_rows_come_a_few_at_a_time(database: Database) -> None:
    """However many wait, what is read at once is bounded by its size; one that is larger still comes alone."""
    large = [replace(row(number), data=bytes(outbox.BATCH_BYTES // 2 + 1)) for number in range(3)]
    await put(database, *large, replace(row(3), data=bytes(outbox.BATCH_BYTES + 1)), row(4))
    for expected in (["e-0", "e-1"], ["e-2", "e-3"], ["e-4"]):
        assert await waiting(database) == expected
        await outbox.remove(database, expected)


async def test_a_transaction_undone_leaves_no_row_and_rings_no_bell(database: Database) -> None:
    """An event exists only if its transaction commits, and the bell rings once for each that did."""
    heard = database.outbox_bell.heard

    async def undone(tx: Transaction) -> None:
        await outbox.insert(tx, row(1))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.run(undone)
    assert await waiting(database) == []
    assert database.outbox_bell.heard == heard
    await put(database, row(1), row(2))
    assert database.outbox_bell.heard == heard + 1


async def test_a_late_commit_is_not_skipped(database: Database) -> None:
    """A row whose transaction began first and committed last is sent too, though later rows were removed before."""
    if not database.is_postgresql:
        return  # one writer at a time: nothing commits late
    async with database.transaction() as tx:
        await outbox.store(tx, [row(1)])
        await asyncio.create_task(put(database, row(2)), context=Context())
        assert await asyncio.create_task(waiting(database), context=Context()) == ["e-2"]
        await asyncio.create_task(outbox.remove(database, ["e-2"]), context=Context())
    assert await waiting(database) == ["e-1"]


async def test_rows_of_one_key_follow_the_order_of_their_commits(database: Database) -> None:
    """Of two transactions that wait for each other, the one that commits later has the later row, whoever began."""
    async with database.transaction() as tx:
        await tx.execute("CREATE TABLE shared (n INTEGER)")
        await tx.execute("INSERT INTO shared VALUES (0)")
    order: list[str] = []

    async def change(number: int) -> None:
        async def work(tx: Transaction) -> None:
            await outbox.insert(tx, row(number))  # published before what it is about is changed
            await asyncio.sleep(0.01 * (5 - number))
            await tx.execute("UPDATE shared SET n = n + 1")
            tx.after_commit(lambda: noted(number))

        await database.run(work)

    async def noted(number: int) -> None:
        order.append(f"e-{number}")

    await asyncio.gather(*(change(number) for number in range(5)))
    assert sorted(await waiting(database)) == sorted(order)
    async with database.transaction(read_only=True) as tx:
        assert (await tx.execute("SELECT n FROM shared")).scalar_one() == 5
    assert await waiting(database) == order


async def test_shards_part_the_rows(database: Database) -> None:
    """Every row belongs to one shard, by its key alone, whatever the key is."""
    keys = ["a", "b", "order-1", "order-2", "ü", "日", "🙂", " ", "x'", "7"]
    await put(database, *(row(number, key) for number, key in enumerate(keys)))
    parts = [{each.id for each in await outbox.pending(database, 100, shards=[n])} for n in range(outbox.SHARDS)]
    assert sum(map(len, parts)) == len(keys)
    assert len(set.union(*parts)) == len(keys)
    assert await outbox.pending(database, 100, shards=[]) == []


async def test_a_lease_has_one_owner_at_a_time(database: Database, clock: Clock) -> None:
    """A lease is taken only when it ran out or was given back, and its number grows as it changes hands."""
    assert await outbox.acquire_lease(database, "relay", "a", 10) == 1
    assert await outbox.acquire_lease(database, "relay", "b", 10) is None
    assert await outbox.acquire_lease(database, "relay", "a", 10) == 1
    clock.now += 9
    assert await outbox.renew(database, "relay", "a", 1, 10)
    clock.now += 9
    assert await outbox.acquire_lease(database, "relay", "b", 10) is None
    clock.now += 2
    assert await outbox.acquire_lease(database, "relay", "b", 10) == 2
    assert not await outbox.renew(database, "relay", "a", 1, 10)
    await outbox.release(database, "relay", "a", 1)
    assert await outbox.acquire_lease(database, "relay", "c", 10) is None
    await outbox.release(database, "relay", "b", 2)
    assert await outbox.acquire_lease(database, "relay", "c", 10) == 3


async def test_of_many_who_want_a_lease_one_gets_it(database: Database) -> None:
    """A lease asked for by several at once goes to one."""
    got = await asyncio.gather(*(outbox.acquire_lease(database, "relay", f"o-{n}", 10) for n in range(8)))
    assert sorted(each is not None for each in got) == [False] * 7 + [True]


async def test_another_process_rings_the_bell(database: Database, database_url: str) -> None:
    """On PostgreSQL a commit elsewhere is heard at once; on SQLite those who wait look again by themselves."""
    if not database.is_postgresql:
        return
    await outbox.listen(database)
    assert await database.outbox_bell.wait(0, timeout=5)  # connected
    heard = database.outbox_bell.heard
    async with Database(database_url) as other:
        await put(other, row(1))
    assert await database.outbox_bell.wait(heard, timeout=5)


async def test_a_bell_rung_before_the_wait_is_heard(database: Database) -> None:
    """Between a look and a wait no ring is lost, and a wait for nothing ends at its limit."""
    bell = database.outbox_bell
    heard = bell.heard
    await bell.ring()
    assert await bell.wait(heard, timeout=5)
    assert not await bell.wait(bell.heard, timeout=0.01)
    waiting_for = asyncio.create_task(bell.wait(bell.heard, timeout=5))
    await asyncio.sleep(0)
    await bell.ring()
    assert await waiting_for
