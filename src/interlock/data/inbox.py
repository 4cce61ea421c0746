"""SQL of the inbox: which events a consumer has begun and which it is done with, so that duplicates have no effect.

The way of one event, for the room that consumes:

    token = enlist(database, hook)                            # interlock.data.unit: runs in the call's transaction
    ...the chain with `unit_of_work(Direction.CONSUMED)` runs the handler; `hook` is
        async def hook(tx, reply):
            held, new = await note(tx, consumer, event_id, lease, fencing)
            if not held or not new:
                raise …                                       # rolls back; acknowledge it unless the lease is lost

`note` at the end of the transaction, not at its start, keeps the handler's own block the first one, which needs no
savepoint, and shortens what the row is locked for.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import Transaction

DAY = 86_400.0

_NOW = "coalesce(CAST({} AS float8), extract(epoch FROM clock_timestamp())::float8)"

_RECORD = (
    "INSERT INTO interlock_inbox (consumer, event_id, attempts, touched_at, processed_at) VALUES ($1, $2, 1, {0}, {0}) "
    "ON CONFLICT (consumer, event_id) DO UPDATE SET touched_at = excluded.touched_at, "
    "processed_at = excluded.processed_at WHERE interlock_inbox.processed_at IS NULL RETURNING 1"
)
_FENCE = "SELECT fencing FROM interlock_fences WHERE name = {}"
_NOTE = (  # all constants
    f"WITH held AS ({_FENCE.format('$4')} FOR SHARE), noted AS ({_RECORD.format(_NOW.format('$3'))}) "  # noqa: S608
    "SELECT (SELECT fencing FROM held), EXISTS (SELECT 1 FROM noted)"
)
_NOTE_SQLITE = f"{_RECORD.format('$3').removesuffix('1')}({_FENCE.format('$4')})"
_RECORD_ALL = _RECORD.replace("VALUES ($1, $2, 1, {0}, {0})", "SELECT $1, value, 1, {0}, {0} FROM {1}")
_NOTE_ALL = (  # all constants
    f"WITH held AS ({_FENCE.format('$4')} FOR SHARE), "  # noqa: S608
    f"noted AS ({_RECORD_ALL.format(_NOW.format('$3'), 'unnest($2::text[]) AS value')}) "
    "SELECT (SELECT fencing FROM held), (SELECT count(*) FROM noted)"
)
_NOTE_ALL_SQLITE = f"{_RECORD_ALL.format('$3', 'json_each($2) WHERE true').removesuffix('1')}({_FENCE.format('$4')})"
_RAISE = (
    "INSERT INTO interlock_fences (name, fencing) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET "
    "fencing = excluded.fencing WHERE interlock_fences.fencing <= excluded.fencing RETURNING 1"
)
_ATTEMPT = (
    "INSERT INTO interlock_inbox (consumer, event_id, attempts, touched_at, processed_at) VALUES ($1, $2, 1, {}, NULL) "
    "ON CONFLICT (consumer, event_id) DO UPDATE SET attempts = interlock_inbox.attempts + 1, "
    "touched_at = excluded.touched_at WHERE interlock_inbox.processed_at IS NULL RETURNING attempts"
)
_UNCOUNT = "UPDATE interlock_inbox SET attempts = attempts - 1 WHERE consumer = $1 AND event_id = $2 AND attempts > 0"
_SEEN = "SELECT processed_at FROM interlock_inbox WHERE consumer = $1 AND event_id = $2"
_PURGE = (
    "DELETE FROM interlock_inbox WHERE (consumer, event_id) IN "
    "(SELECT consumer, event_id FROM interlock_inbox WHERE touched_at < {} - $2 LIMIT $3) RETURNING 1"
)


async def note(tx: "Transaction", consumer: str, event_id: str, lease: str, fencing: int) -> tuple[bool, bool]:
    """Hold the transaction against the lease and note the event as processed, in one round trip; see `fence`, `record`.

    Return whether the lease holds, and whether the event is new. Where either is False nothing may be committed.
    """
    database = tx.database
    if database.is_postgresql:
        ((known, new),) = await tx.fetch((_NOTE, (consumer, event_id, database.time, lease)))
    else:  # writers queue, so nobody comes in between
        rows = await tx.fetch((_NOTE_SQLITE, (consumer, event_id, database.time, lease)))
        new = bool(rows)
        known = rows[0][0] if rows else None
    if known is not None and known >= fencing:
        return bool(known == fencing), bool(new)
    if not new:  # nothing will be committed, so nobody need be kept out
        return True, False
    return bool(await tx.fetch((_RAISE, (lease, fencing)))), bool(new)


async def note_all(tx: "Transaction", consumer: str, event_ids: Sequence[str], lease: str, fencing: int) -> bool:
    """Note several events of one lease, as `note` does one; False if the lease is lost or any of them is not new."""
    database = tx.database
    if database.is_postgresql:
        given = (consumer, list(event_ids), database.time, lease)
        ((known, new),) = await tx.fetch((_NOTE_ALL, given))
    else:
        rows = await tx.fetch((_NOTE_ALL_SQLITE, (consumer, json.dumps(list(event_ids)), database.time, lease)))
        new = len(rows)
        known = rows[0][0] if rows else None
    if new != len(event_ids) or (known is not None and known > fencing):
        return False
    return known == fencing or bool(await tx.fetch((_RAISE, (lease, fencing))))


async def attempt(database: "Database", consumer: str, event_id: str) -> int:
    """Count an attempt, in a transaction of its own, and return its number, from 1; 0 if the event was processed."""

    async def work(tx: "Transaction") -> int:
        rows = await tx.fetch((_ATTEMPT.format(_now(database, "$3")), (consumer, event_id, database.time)))
        return int(rows[0][0]) if rows else 0

    # it guards against handlers that kill the process; what only a power cut loses need not be waited for
    return await database.run(work, durable=False)


async def uncount(database: "Database", consumer: str, event_id: str) -> None:
    """Take back an attempt that was neither a success nor a failure: the event was given back by a drain."""

    async def work(tx: "Transaction") -> None:
        await tx.fetch((_UNCOUNT, (consumer, event_id)))

    await database.run(work, durable=False)


async def record(tx: "Transaction", consumer: str, event_id: str) -> bool:
    """Note in the transaction that the event is processed; False if it was before, and nothing may be done again."""
    database = tx.database
    rows = await tx.fetch((_RECORD.format(_now(database, "$3")), (consumer, event_id, database.time)))
    return bool(rows)


async def seen(database: "Database", consumer: str, event_id: str) -> bool:
    """Tell whether the event was processed."""
    async with database.transaction(read_only=True) as tx:
        rows = await tx.fetch((_SEEN, (consumer, event_id)))
    return bool(rows) and rows[0][0] is not None


async def fence(tx: "Transaction", name: str, fencing: int) -> bool:
    """Hold the transaction against a lease kept elsewhere: False if a later holder of `name` has written already.

    What holds until the commit: no later holder writes in between.
    """
    query = _FENCE.format("$1") + (" FOR SHARE" if tx.database.is_postgresql else "")
    rows = await tx.fetch((query, (name,)))
    if rows and rows[0][0] >= fencing:
        return bool(rows[0][0] == fencing)
    return bool(await tx.fetch((_RAISE, (name, fencing))))


async def purge(database: "Database", *, age: float = 7 * DAY, limit: int = 1000) -> int:
    """Remove up to `limit` rows not touched for `age` seconds, and return how many; call it until it returns 0.

    A duplicate that comes later than `age` has its effect again, so it must be longer than any broker keeps events.
    """

    async def work(tx: "Transaction") -> int:
        return len(await tx.fetch((_PURGE.format(_now(database, "$1")), (database.time, age, limit))))

    return await database.run(work, durable=False)


def _now(database: "Database", parameter: str) -> str:
    return _NOW.format(parameter) if database.is_postgresql else parameter
