"""SQL of the outbox: events stored in the transaction that caused them, taken out by one relay at a time.

A row stays until its event was sent, so nothing depends on sequence numbers appearing in order: a transaction that
commits late adds its rows to what is still there. Rows of one key come in the order in which they were committed,
since transactions that follow each other take growing positions, and those that change the same thing can't overlap.

Relays share the outbox by shards: a row belongs to one by the last letter of its key, and each shard is leased to one
relay at a time. A relay's loop for a shard (`database.outbox_bell` rings after each commit that added rows, in this
process and, after `await listen(database)`, in others; one whose process died in between is found by looking, so wait
≤ 1 s):

    fencing = await acquire_lease(database, shard_name(0), owner, seconds=10)
    heard = database.outbox_bell.heard
    rows = await pending(database, 500, shards={0})
    ...send them in order, holding back the rest of a key whose event failed...
    await remove(database, [row.id for row in sent])
    if not rows:
        await database.outbox_bell.wait(heard, timeout=1.0)
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import case, literal, or_, update
from sqlalchemy.dialects import postgresql, sqlite

from interlock.data.tables import leases

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import Transaction

SHARDS = 4
"""Among how many relays the outbox of one database is shared at most; a power of two."""

_INSERT = (
    "INSERT INTO interlock_outbox (id, type, partition_key, data, attributes, created_at) "
    "VALUES ($1, $2, $3, $4, $5, {})"
)
_NOW = "coalesce(CAST($6 AS float8), extract(epoch FROM clock_timestamp())::float8)"
BATCH_BYTES = 8 << 20
"""Data above which no further row is read in one go: large events must not fill the memory of those who send them."""

_PENDING = (
    "SELECT id, type, partition_key, data, attributes, position, created_at FROM interlock_outbox "
    "WHERE {0} AND position <= ("
    "SELECT max(position) FROM (SELECT position, sum(size) OVER (ORDER BY position) - size AS size_before FROM ("
    "SELECT position, length(data) AS size FROM interlock_outbox WHERE {0} ORDER BY position LIMIT $1"
    ") AS first) AS sized WHERE size_before < {1}) ORDER BY position"
)
_BUT = "partition_key NOT IN (SELECT value FROM json_each($2))"
_SHARD = {
    True: "(ascii(right(partition_key, 1)) & {})",
    False: "(coalesce(unicode(substr(partition_key, -1)), 0) & {})",
}
_MEMBERS = "SELECT count(*) FROM interlock_leases WHERE name LIKE 'relay/%' AND expires_at > {}"
_FORGET = "DELETE FROM interlock_leases WHERE name LIKE 'relay/%' AND expires_at <= {}"
_REMOVE = "DELETE FROM interlock_outbox WHERE id IN (SELECT value FROM json_each($1))"
_WAITING = (
    "SELECT count(*), min(created_at) FROM "
    "(SELECT created_at FROM interlock_outbox ORDER BY position LIMIT 10000) AS oldest"
)


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
    """Store `row` right before the transaction commits; once it is committed the bell rings.

    So positions of transactions that wait for each other follow the order of their commits.
    """
    tx.events.append(row)


async def store(tx: "Transaction", rows: Sequence[OutboxRow]) -> None:
    """Store `rows` now, in order."""
    database = tx.database
    now = database.time
    values = [
        (
            row.id,
            row.type,
            row.partition_key,
            row.data,
            json.dumps(dict(row.attributes), separators=(",", ":")),
            now,
        )
        for row in rows
    ]
    await tx.store(_INSERT.format(_NOW if database.is_postgresql else "$6"), values)
    tx.after_commit(database.news)


async def pending(
    database: "Database", limit: int, *, excluding: Collection[str] = (), shards: Collection[int] = range(SHARDS)
) -> list[OutboxRow]:
    """Return up to `limit` unsent rows of `shards`, oldest first; rows of the keys in `excluding` are left out.

    Fewer where their data is large: what begins behind BATCH_BYTES is left for the next time.
    """
    where: list[str] = ["1 = 1"]
    values: list[object] = [limit]
    if len(shards) < SHARDS:
        numbers = ", ".join(str(int(each)) for each in shards) or "-1"
        where.append(f"{_SHARD[database.is_postgresql].format(SHARDS - 1)} IN ({numbers})")
    if excluding:
        where.append(_listed(database, _BUT))
        values.append(_list(database, excluding))
    statement = (_PENDING.format(" AND ".join(where), BATCH_BYTES), values)
    async with database.transaction(read_only=True) as tx:
        found = await tx.fetch(statement)
    return [
        OutboxRow(
            id=id_,
            type=type_,
            partition_key=key,
            data=data,
            attributes=json.loads(attributes),
            position=position,
            created_at=created_at,
        )
        for id_, type_, key, data, attributes, position, created_at in found
    ]


async def remove(database: "Database", ids: Sequence[str]) -> None:
    """Remove rows that were sent, by their `id`; those that are gone already do not matter."""
    if not ids:
        return

    async def work(tx: "Transaction") -> None:
        await tx.fetch((_listed(database, _REMOVE), (_list(database, ids),)))

    # a removal lost with the power means an event sent twice, which consumers bear
    await database.run(work, durable=False)


async def waiting(database: "Database") -> int:
    """Return how many rows are not sent yet, counting no further than 10,000."""
    return (await backlog(database))[0]


async def backlog(database: "Database") -> tuple[int, float]:
    """Return how many rows are not sent yet, 10,000 at most, and when the first was stored (0.0 if there is none)."""
    async with database.transaction(read_only=True) as tx:
        ((count, oldest),) = await tx.fetch((_WAITING, ()))
    return int(count), float(oldest or 0.0)


def _listed(database: "Database", sql: str) -> str:
    """Return `sql` with PostgreSQL's way to say: one of these."""
    if not database.is_postgresql:
        return sql
    return sql.replace("json_each($1)", "unnest($1::text[]) AS value").replace(
        "json_each($2)", "unnest($2::text[]) AS value"
    )


def _list(database: "Database", values: Collection[str]) -> object:
    return list(values) if database.is_postgresql else json.dumps(list(values))


def shard_name(shard: int) -> str:
    """Return the name of a shard's lease."""
    return f"outbox/{shard}"


async def attend(database: "Database", owner: str, seconds: float) -> int:
    """Say that the relay `owner` lives, for `seconds`, and return how many do."""
    await acquire_lease(database, f"relay/{owner}", owner, seconds)
    now = _NOW.replace("$6", "$1") if database.is_postgresql else "$1"

    async def work(tx: "Transaction") -> int:
        await tx.fetch((_FORGET.format(now), (database.time,)))
        return int((await tx.fetch((_MEMBERS.format(now), (database.time,))))[0][0])

    return await database.run(work, durable=False)


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
    """Have the bell ring for commits of other processes too. Ends with the database's `stop`."""
    await database.listen()
