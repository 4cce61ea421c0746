"""SQL of the outbox: events stored in the transaction that caused them, taken out by one relay at a time.

A row stays until its event was sent, so nothing depends on sequence numbers appearing in order: a transaction that
commits late adds its rows to what is still there. Rows of one key come in the order in which they were committed,
since transactions that follow each other take growing positions, and those that change the same thing can't overlap.

A relay's loop (`database.outbox_bell` rings after each commit that added rows, in this process; on PostgreSQL, after
`await listen(database)`, for other processes' commits too; on SQLite those are found by looking, so wait ≤ 1 s):

    fencing = await acquire_lease(database, "outbox", owner, seconds=10)
    heard = database.outbox_bell.heard
    rows = await pending(database, 500)
    ...send them in order, holding back the rest of a key whose event failed...
    await remove(database, [row.id for row in sent])
    if not rows:
        await database.outbox_bell.wait(heard, timeout=1.0)
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import case, delete, func, literal, or_, select, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects import postgresql, sqlite

from interlock.data.tables import leases, outbox

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import Transaction

CHANNEL = "interlock_outbox"
"""What PostgreSQL notifies when rows were added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One event that waits to be sent; `position` and `created_at` (epoch seconds) are set by the database."""

    id: str
    type: str
    partition_key: str
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    position: int = 0
    created_at: float = 0.0


async def insert(tx: "Transaction", row: OutboxRow) -> None:
    """Store `row` in the transaction; once it is committed the bell rings."""
    await insert_all(tx, [row])


async def insert_all(tx: "Transaction", rows: Sequence[OutboxRow]) -> None:
    """Store `rows`, in order, in one statement."""
    database = tx.database
    now = database.now()
    values = [
        {
            "id": row.id,
            "type": row.type,
            "partition_key": row.partition_key,
            "data": row.data,
            "attributes": json.dumps(dict(row.attributes), separators=(",", ":")),
            "created_at": now,
        }
        for row in rows
    ]
    await tx.execute(plain_insert(outbox).values(values))
    if database.is_postgresql:
        tx.before_commit(_notify)
    tx.after_commit(database.outbox_bell.ring)


async def _notify(tx: "Transaction") -> None:
    await tx.execute(select(func.pg_notify(CHANNEL, "")))


async def pending(database: "Database", limit: int, *, excluding: Collection[str] = ()) -> list[OutboxRow]:
    """Return up to `limit` unsent rows, oldest first; rows of the keys in `excluding` are left out."""
    query = select(outbox).order_by(outbox.c.position).limit(limit)
    if excluding:
        query = query.where(outbox.c.partition_key.not_in(list(excluding)))
    async with database.transaction(read_only=True) as tx:
        found = await tx.execute(query)
    return [
        OutboxRow(
            id=row.id,
            type=row.type,
            partition_key=row.partition_key,
            data=row.data,
            attributes=json.loads(row.attributes),
            position=row.position,
            created_at=row.created_at,
        )
        for row in found
    ]


async def remove(database: "Database", ids: Sequence[str]) -> None:
    """Remove rows that were sent, by their `id`; those that are gone already do not matter."""
    if not ids:
        return

    async def work(tx: "Transaction") -> None:
        for start in range(0, len(ids), 500):  # within SQLite's and asyncpg's number of parameters
            await tx.execute(delete(outbox).where(outbox.c.id.in_(ids[start : start + 500])))

    # a removal lost with the power means an event sent twice, which consumers bear
    await database.run(work, durable=False)


async def waiting(database: "Database") -> int:
    """Return how many rows are not sent yet, counting no further than 10,000."""
    some = select(outbox.c.position).limit(10_000).subquery()
    async with database.transaction(read_only=True) as tx:
        return int((await tx.execute(select(func.count()).select_from(some))).scalar_one())


async def acquire_lease(database: "Database", name: str, owner: str, seconds: float) -> int | None:
    """Take the lease `name` for `seconds` and return its fencing number; None while another owner holds it.

    An owner that holds it already keeps its number and has the time extended.
    """
    now = database.now()
    dialect = postgresql if database.is_postgresql else sqlite
    query = dialect.insert(leases).values(name=name, owner=owner, fencing=1, expires_at=now + literal(seconds))
    same = leases.c.owner == owner
    query = query.on_conflict_do_update(
        index_elements=[leases.c.name],
        set_={
            "owner": owner,
            "fencing": case((same, leases.c.fencing), else_=leases.c.fencing + 1),
            "expires_at": query.excluded.expires_at,
        },
        where=or_(same, leases.c.expires_at <= now),
    ).returning(leases.c.fencing)

    async def work(tx: "Transaction") -> int | None:
        return (await tx.execute(query)).scalar_one_or_none()

    return await database.run(work, durable=False)


async def renew(database: "Database", name: str, owner: str, fencing: int, seconds: float) -> bool:
    """Hold the lease for `seconds` from now; False if it has another owner, or had one in between."""
    query = (
        update(leases)
        .where(leases.c.name == name, leases.c.owner == owner, leases.c.fencing == fencing)
        .values(expires_at=database.now() + literal(seconds))
    )

    async def work(tx: "Transaction") -> bool:
        return (await tx.execute(query)).rowcount == 1

    return await database.run(work, durable=False)


async def release(database: "Database", name: str, owner: str, fencing: int) -> None:
    """Give the lease back, so that another may take it at once; nothing happens if it is no longer held."""
    query = (
        update(leases)
        .where(leases.c.name == name, leases.c.owner == owner, leases.c.fencing == fencing)
        .values(owner="", expires_at=0.0)
    )

    async def work(tx: "Transaction") -> None:
        await tx.execute(query)

    await database.run(work, durable=False)


async def listen(database: "Database") -> None:
    """Have the bell ring for commits of other processes too, on PostgreSQL; elsewhere nothing. Ends with `stop`."""
    await database.listen(CHANNEL)
