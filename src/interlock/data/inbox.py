"""SQL of the inbox: which events a consumer has begun and which it is done with, so that duplicates have no effect.

The way of one event, for the room that consumes:

    number = await attempt(database, consumer, event_id)      # 0: it was processed before, acknowledge it
    token = enlist(database, hook)                            # interlock.data.unit: runs in the call's transaction
    ...the chain with `unit_of_work(Direction.CONSUMED)` runs the handler; `hook` is
        async def hook(tx, reply):
            if not await record(tx, consumer, event_id):
                raise SeenBefore                              # rolls back; acknowledge it

`record` at the end of the transaction, not at its start, keeps the handler's own block the first one, which needs no
savepoint, and shortens what the row is locked for.
"""

from typing import TYPE_CHECKING

from sqlalchemy import delete, literal, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from interlock.data.tables import fences, inbox

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import Transaction

DAY = 86_400.0


async def attempt(database: "Database", consumer: str, event_id: str) -> int:
    """Count an attempt, in a transaction of its own, and return its number, from 1; 0 if the event was processed."""
    dialect = postgresql if database.is_postgresql else sqlite
    query = dialect.insert(inbox).values(
        consumer=consumer, event_id=event_id, attempts=1, touched_at=database.now(), processed_at=None
    )
    query = query.on_conflict_do_update(
        index_elements=[inbox.c.consumer, inbox.c.event_id],
        set_={"attempts": inbox.c.attempts + 1, "touched_at": query.excluded.touched_at},
        where=inbox.c.processed_at.is_(None),
    ).returning(inbox.c.attempts)

    async def work(tx: "Transaction") -> int:
        return int((await tx.execute(query)).scalar_one_or_none() or 0)

    # it guards against handlers that kill the process; what only a power cut loses need not be waited for
    return await database.run(work, durable=False)


async def uncount(database: "Database", consumer: str, event_id: str) -> None:
    """Take back an attempt that was neither a success nor a failure: the event was given back by a drain."""
    query = (
        update(inbox)
        .where(inbox.c.consumer == consumer, inbox.c.event_id == event_id, inbox.c.attempts > 0)
        .values(attempts=inbox.c.attempts - 1)
    )

    async def work(tx: "Transaction") -> None:
        await tx.execute(query)

    await database.run(work, durable=False)


async def record(tx: "Transaction", consumer: str, event_id: str) -> bool:
    """Note in the transaction that the event is processed; False if it was before, and nothing may be done again."""
    dialect = postgresql if tx.database.is_postgresql else sqlite
    now = tx.database.now()
    query = dialect.insert(inbox).values(
        consumer=consumer, event_id=event_id, attempts=1, touched_at=now, processed_at=now
    )
    query = query.on_conflict_do_update(
        index_elements=[inbox.c.consumer, inbox.c.event_id],
        set_={"touched_at": query.excluded.touched_at, "processed_at": query.excluded.processed_at},
        where=inbox.c.processed_at.is_(None),
    ).returning(literal(1))
    return (await tx.execute(query)).scalar_one_or_none() is not None


async def seen(database: "Database", consumer: str, event_id: str) -> bool:
    """Tell whether the event was processed."""
    query = select(inbox.c.processed_at).where(inbox.c.consumer == consumer, inbox.c.event_id == event_id)
    async with database.transaction(read_only=True) as tx:
        return (await tx.execute(query)).scalar_one_or_none() is not None


async def fence(tx: "Transaction", name: str, fencing: int) -> bool:
    """Hold the transaction against a lease kept elsewhere: False if a later holder of `name` has written already.

    What holds until the commit: no later holder writes in between.
    """
    query = select(fences.c.fencing).where(fences.c.name == name).with_for_update(read=True)
    known = (await tx.execute(query)).scalar_one_or_none()
    if known is not None and known >= fencing:
        return bool(known == fencing)
    dialect = postgresql if tx.database.is_postgresql else sqlite
    change = dialect.insert(fences).values(name=name, fencing=fencing)
    change = change.on_conflict_do_update(
        index_elements=[fences.c.name],
        set_={"fencing": change.excluded.fencing},
        where=fences.c.fencing <= fencing,
    ).returning(literal(1))
    return (await tx.execute(change)).scalar_one_or_none() is not None


async def purge(database: "Database", *, age: float = 7 * DAY, limit: int = 1000) -> int:
    """Remove up to `limit` rows not touched for `age` seconds, and return how many; call it until it returns 0.

    A duplicate that comes later than `age` has its effect again, so it must be longer than any broker keeps events.
    """
    old = (
        select(inbox.c.consumer, inbox.c.event_id)
        .where(inbox.c.touched_at < database.now() - literal(age))
        .limit(limit)
    )

    async def work(tx: "Transaction") -> int:
        rows = [tuple(row) for row in await tx.execute(old)]
        if rows:
            await tx.execute(delete(inbox).where(tuple_(inbox.c.consumer, inbox.c.event_id).in_(rows)))
        return len(rows)

    return await database.run(work, durable=False)
