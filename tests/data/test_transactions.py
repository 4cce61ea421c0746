"""Transactions: what commits, what is undone, what runs again, on both engines."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from interlock.call import Call, Cancellation, Direction, Reply
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Kind
from interlock.data import Conflict, Database, Transaction
from interlock.data.unit import delist, enlist, unit_of_work
from interlock.errors import AlreadyExists, NotFound, Unavailable
from tests.data.calls import KEYED, new_call, run
from tests.data.databases import Clock
from tests.sample.gen.sample.v1.sample_pb import Thing

metadata = MetaData()
things = Table("things", metadata, Column("id", String(50), primary_key=True), Column("count", Integer, nullable=False))


@pytest.fixture
async def database(database_url: str, clock: Clock) -> Any:
    async with Database(database_url, metadata=metadata, clock=clock) as started:
        yield started


async def add(tx: Transaction, name: str, count: int = 0) -> None:
    await tx.execute(insert(things).values(id=name, count=count))


async def names(database: Database) -> list[str]:
    async with database.transaction(read_only=True) as tx:
        return [row.id for row in await tx.execute(select(things.c.id).order_by(things.c.id))]


async def count_of(database: Database, name: str) -> int:
    async with database.transaction(read_only=True) as tx:
        return int((await tx.execute(select(things.c.count).where(things.c.id == name))).scalar_one())


async def test_a_block_commits_at_its_end(database: Database) -> None:
    """What a block wrote is there afterwards, and hooks ran around the commit in their order."""
    seen: list[str] = []

    async def before(tx: Transaction) -> None:
        seen.append("before")
        await add(tx, "by hook")

    async def after() -> None:
        seen.append("after")
        assert await names(database) == ["a", "by hook"]

    async with database.transaction() as tx:
        await add(tx, "a")
        tx.after_commit(after)
        tx.before_commit(before)
        tx.before_commit(before)
        assert not seen
    assert seen == ["before", "after"]


async def test_an_exception_undoes_a_block(database: Database) -> None:
    """A block that raises leaves nothing behind, and runs no hook."""
    seen: list[str] = []

    async def hook() -> None:
        seen.append("after")

    async def fail(tx: Transaction) -> None:
        await add(tx, "a")
        tx.after_commit(hook)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.run(fail)
    assert await names(database) == []
    assert not seen


async def test_a_failing_before_hook_undoes_a_failing_after_hook_does_not(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook before the commit can refuse it; one after the commit is only logged, and the next one still runs."""
    seen: list[str] = []

    async def refuse(_tx: Transaction) -> None:
        raise NotFound("refused")

    async def fail() -> None:
        raise ValueError("too late")

    async def later() -> None:
        seen.append("later")

    async def refused(tx: Transaction) -> None:
        await add(tx, "a")
        tx.before_commit(refuse)

    with pytest.raises(NotFound):
        await database.run(refused)
    async with database.transaction() as tx:
        await add(tx, "b")
        tx.after_commit(fail)
        tx.after_commit(later)
    assert await names(database) == ["b"]
    assert seen == ["later"]
    assert "after its transaction was committed" in caplog.text


async def test_a_nested_block_joins_and_undoes_only_itself(database: Database) -> None:
    """A block inside a block is part of its transaction; if it fails, the outer one goes on without it."""
    seen: list[str] = []

    async def hook() -> None:
        seen.append("inner")

    async def fail(inner: Transaction) -> None:
        assert inner is outer
        inner.after_commit(hook)
        await add(inner, "b")
        await add(inner, "a")

    async with database.transaction() as outer:
        await add(outer, "a")
        with pytest.raises(IntegrityError):
            await database.run(fail)
        async with database.transaction() as inner:
            await add(inner, "c")
    assert await names(database) == ["a", "c"]
    assert not seen


async def test_a_passed_over_failure_is_not_taken_for_success(database: Database) -> None:
    """Where a failed statement has ended the transaction, its commit says so instead of losing the rest silently."""
    failed = False
    try:
        async with database.transaction() as tx:
            await add(tx, "a")
            with suppress(IntegrityError):
                await add(tx, "a")
    except Exception:
        failed = True
    assert failed == database.is_postgresql
    assert await names(database) == ([] if failed else ["a"])


async def test_writers_queue(database: Database) -> None:
    """Fifty writers at once to one row lose no update: those that collide run again."""
    async with database.transaction() as tx:
        await add(tx, "a")

    async def count_up(tx: Transaction) -> None:
        current = (await tx.execute(select(things.c.count))).scalar_one()
        await tx.execute(update(things).values(count=current + 1))

    async def insist() -> None:
        for _ in range(20):
            try:
                return await database.run(count_up)
            except Conflict:
                continue
        raise AssertionError("starved")

    await asyncio.gather(*(insist() for _ in range(50)))
    assert await count_of(database, "a") == 50


async def _conflict_with(database: Database, tx: Transaction) -> None:
    """Have another transaction change what `tx` has read, and `tx` change it too."""
    await tx.execute(select(things.c.count))

    async def other() -> None:
        async with database.transaction() as rival:
            await rival.execute(update(things).values(count=things.c.count + 10))

    if not database.is_postgresql:  # a writer is alone there: nothing can come in between
        raise Conflict("as PostgreSQL would")
    await asyncio.create_task(other(), context=Context())
    await tx.execute(update(things).values(count=things.c.count + 1))


async def test_a_conflict_outside_of_a_call_is_aborted(database: Database) -> None:
    """A transaction of its own that can't be ordered is undone and raises Conflict, which is ABORTED."""
    async with database.transaction() as tx:
        await add(tx, "a")

    async def collide() -> None:
        async with database.transaction() as tx:
            await add(tx, "b")
            await _conflict_with(database, tx)

    with pytest.raises(Conflict):
        await collide()
    assert await names(database) == ["a"]


async def test_a_call_is_one_transaction(database: Database) -> None:
    """The blocks of a KEYED call share one transaction, sub-tasks' too, and it commits after the handler returned."""
    transactions = []

    async def part(name: str) -> None:
        async with database.transaction() as tx:
            transactions.append(tx)
            await add(tx, name)
            await asyncio.sleep(0)
            await add(tx, name + name)

    async def handler(call: Call) -> Reply:
        await part("a")
        async with asyncio.TaskGroup() as group:
            for name in "bcd":
                group.create_task(part(name))
        if database.is_postgresql:
            assert await asyncio.create_task(names(database), context=Context()) == []
        return Thing()

    await run(handler, new_call())
    assert len(set(map(id, transactions))) == 1
    assert await names(database) == ["a", "aa", "b", "bb", "c", "cc", "d", "dd"]


@pytest.mark.parametrize("ends_by", ["error", "cancel", "swallowed cancel", "refused commit"])
async def test_all_or_nothing(database: Database, ends_by: str) -> None:
    """A KEYED call that ends badly, in whichever way, leaves nothing of any of its blocks."""
    call = new_call()

    async def refuse(_tx: Transaction) -> None:
        raise NotFound("refused")

    async def handler(_call: Call) -> Reply:
        async with database.transaction() as tx:
            await add(tx, "a")
            if ends_by == "refused commit":
                tx.before_commit(refuse)
        async with database.transaction() as tx:
            await add(tx, "b")
        if ends_by == "error":
            raise NotFound("gone")
        if "cancel" in ends_by:
            call.cancel(Cancellation.CLIENT_GONE)
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                if ends_by == "cancel":
                    raise
        return Thing()

    async def as_front() -> Reply:
        call.task = asyncio.current_task()
        return await run(handler, call)

    expected: type[BaseException] = asyncio.CancelledError if "cancel" in ends_by else NotFound
    with pytest.raises(expected):
        await asyncio.create_task(as_front())
    assert await names(database) == []


async def test_a_cancel_during_the_commit_lets_it_end(database: Database) -> None:
    """A call cancelled while it commits has its effect whole."""
    committing = asyncio.Event()

    async def slow(_tx: Transaction) -> None:
        committing.set()
        await asyncio.sleep(0.05)

    async def handler(_call: Call) -> Reply:
        async with database.transaction() as tx:
            await add(tx, "a")
            tx.before_commit(slow)
        return Thing()

    task = asyncio.create_task(run(handler, new_call()))
    await committing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names(database) == ["a"]


async def test_a_conflict_runs_the_handler_again(database: Database) -> None:
    """A handler that hits a conflict runs again with its request and reply metadata as they were."""
    async with database.transaction() as tx:
        await add(tx, "a")
    runs = 0

    async def handler(call: Call) -> Reply:
        nonlocal runs
        runs += 1
        assert call.request.name == "wanted"
        assert call.reply_headers.get_all("x-run") == []
        call.request.name = "changed"
        call.reply_headers.add("x-run", str(runs))
        async with database.transaction() as tx:
            await add(tx, f"run {runs}")
            if runs < 3:
                await _conflict_with(database, tx)
        return Thing()

    call = new_call("wanted")
    await run(handler, call)
    assert runs == 3
    assert call.reply_headers.get_all("x-run") == ["3"]
    assert await names(database) == ["a", "run 3"]


async def test_a_translated_conflict_runs_the_handler_again_too(database: Database) -> None:
    """A handler that turns a conflict into an error of its own is run again all the same."""
    async with database.transaction() as tx:
        await add(tx, "a")
    runs = 0

    async def handler(_call: Call) -> Reply:
        nonlocal runs
        runs += 1
        try:
            async with database.transaction() as tx:
                if runs == 1:
                    await _conflict_with(database, tx)
        except Exception as error:
            raise NotFound("not what happened") from error
        return Thing()

    await run(handler, new_call())
    assert runs == 2


async def test_endless_conflicts_end(database: Database) -> None:
    """A handler that meets a conflict each time is given up, as ABORTED."""
    runs = 0

    async def handler(_call: Call) -> Reply:
        nonlocal runs
        runs += 1
        raise Conflict("again")

    with pytest.raises(Conflict, match="too many"):
        await run(handler, new_call())
    assert 1 < runs < 20


async def test_a_failed_block_that_is_handled_leaves_the_rest(database: Database) -> None:
    """A handler may catch what a block raises: that block is undone, the others commit, whichever comes first."""

    async def taken(name: str) -> None:
        try:
            async with database.transaction() as tx:
                await add(tx, f"beside {name}")
                await add(tx, name)
        except IntegrityError as error:
            raise AlreadyExists(name) from error

    async def handler(_call: Call) -> Reply:
        with pytest.raises(AlreadyExists):
            await taken("old")
        await taken("new")
        with pytest.raises(AlreadyExists):
            await taken("old")
        return Thing()

    async with database.transaction() as tx:
        await add(tx, "old")
    await run(handler, new_call())
    assert await names(database) == ["beside new", "new", "old"]


async def test_what_outlives_its_call_gets_no_part_of_it(database: Database) -> None:
    """A task that a handler leaves behind can't write into a transaction that is over."""
    left: list[asyncio.Task[None]] = []
    proceed = asyncio.Event()

    async def late() -> None:
        await proceed.wait()
        async with database.transaction():
            pass

    async def handler(_call: Call) -> Reply:
        left.append(asyncio.create_task(late()))
        return Thing()

    await run(handler, new_call())
    proceed.set()
    with pytest.raises(RuntimeError, match="detached"):
        await left[0]


async def test_enlisted_hooks_run_in_the_transaction(database: Database) -> None:
    """What a layer enlisted is committed with the handler's work, or without any; what it raises undoes both."""

    def noting(name: str, error: Exception | None = None) -> Callable[[Transaction, Reply], Any]:
        async def note(tx: Transaction, reply: Reply) -> None:
            assert isinstance(reply, Thing)
            await add(tx, name)
            if error is not None:
                raise error

        return note

    async def idle(_call: Call) -> Reply:
        return Thing()

    async def busy(_call: Call) -> Reply:
        async with database.transaction() as tx:
            await add(tx, "work")
        return Thing()

    token = enlist(database, noting("refused", NotFound("no")))
    with pytest.raises(NotFound):
        await run(busy, new_call())
    delist(token)
    assert await names(database) == []

    token = enlist(database, noting("idle"))
    await run(idle, new_call())
    delist(token)
    token = enlist(database, noting("busy"))
    await run(busy, new_call())
    delist(token)
    assert await names(database) == ["busy", "idle", "work"]


def test_the_unit_is_for_keyed_and_consumed_calls() -> None:
    """Other operations do without: their transactions end with their blocks."""
    safe = replace(KEYED, idempotency=Idempotency.SAFE)
    stream = replace(KEYED, kind=Kind.SERVER_STREAM)
    assert unit_of_work()(KEYED) is not None
    assert unit_of_work()(safe) is None
    assert unit_of_work()(stream) is None
    assert unit_of_work(Direction.CONSUMED)(safe) is not None


async def test_a_reader_can_not_write(database: Database) -> None:
    """A read-only transaction refuses to write, and sees one state throughout."""
    async with database.transaction(read_only=True) as tx:
        await tx.execute(select(things))
        await asyncio.create_task(_add_apart(database, "a"), context=Context())
        assert (await tx.execute(select(things))).all() == []
    with pytest.raises(Exception, match=r"read-?\s?only"):
        async with database.transaction(read_only=True) as tx:
            await add(tx, "b")
    assert await names(database) == ["a"]


async def _add_apart(database: Database, name: str) -> None:
    async with database.transaction(durable=False) as tx:
        await add(tx, name)


async def test_a_cancelled_statement_stops_at_once(database: Database) -> None:
    """A statement whose call is cancelled does not hold the database."""
    endless = (
        "SELECT pg_sleep(60)"
        if database.is_postgresql
        else "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    )

    async def stuck() -> None:
        async with database.transaction() as tx:
            await tx.execute(endless)

    task = asyncio.create_task(stuck())
    await asyncio.sleep(0.1)
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
        await _add_apart(database, "a")
    assert await names(database) == ["a"]


async def test_a_database_that_is_away_is_unavailable(database: Database) -> None:
    """A pool with nothing left is UNAVAILABLE, after its limit."""
    small = Database(
        database._url.render_as_string(hide_password=False), pool_size=1, busy_timeout=timedelta(seconds=0.1)
    )
    async with small, small.transaction():
        with pytest.raises(Unavailable):
            await asyncio.create_task(_add_apart(small, "a"), context=Context())
