"""The embedded broker's SQL: each function is a work on its file, run inside a transaction."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from interlock.events.broker import PARTITIONS, DeadLetter, fair_share
from interlock.events.envelope import Envelope, from_attributes, to_attributes
from interlock.stamps import uuid7

_ROW = "VALUES (?, ?, ?, ?, ?, ?, ?)"


def identity(db: sqlite3.Connection) -> str:
    """Return what names this file, made up when it is new: leases of another file must not be taken for its own."""
    if db.execute("SELECT count(*) FROM broker").fetchone()[0] == 0:
        db.execute("INSERT INTO broker VALUES (?)", (uuid7(),))
    return str(db.execute("SELECT id FROM broker").fetchone()[0])


def store(db: sqlite3.Connection, messages: Sequence[tuple[Any, ...]]) -> None:
    """Insert messages in order; one for all groups whose id is there already is left out."""
    db.executemany(
        f"INSERT OR IGNORE INTO message (id, type, partition, only_group, attributes, data, stored) {_ROW}",
        messages,
    )


def fetch(
    db: sqlite3.Connection, group: str, types: Sequence[str], asked: Sequence[tuple[int, int, int]], seen: int
) -> tuple[int, list[list[tuple[int, Envelope, int, float]]]]:
    """Return the number of the newest message, and for each (partition, scanned, free) what comes next there.

    Nothing is looked up while the newest message is still the one `seen` last.
    """
    head = db.execute("SELECT coalesce(max(seq), 0) FROM message").fetchone()[0]
    if head == seen:
        return head, [[] for _ in asked]
    marks = ", ".join("?" * len(types))
    query = (
        "SELECT m.seq, m.attributes, m.data, coalesce(d.attempts, 0), coalesce(d.due, 0) FROM message m "  # noqa: S608
        "LEFT JOIN delivery d ON d.grp = ? AND d.partition = m.partition AND d.seq = m.seq "
        "WHERE m.partition = ? AND m.seq > ? AND m.only_group IN ('', ?) AND coalesce(d.settled, 0) = 0 "
        f"AND m.type IN ({marks}) ORDER BY m.seq LIMIT ?"
    )
    found = []
    for partition, scanned, free in asked:
        rows = db.execute(query, (group, partition, scanned, group, *types, free))
        found.append(
            [(seq, from_attributes(json.loads(given), data), attempts, due) for seq, given, data, attempts, due in rows]
        )
    return head, found


def claim(
    db: sqlite3.Connection, group: str, owner: str, idle: Mapping[int, int], times: tuple[float, float]
) -> dict[int, tuple[int, int]]:
    """Renew the leases of `owner`, give up or take partitions towards its share; return (fence, position) of each held.

    `idle` are the held partitions that may be given up, with their positions, which are stored; `times` are now and
    when the leases end.
    """
    lapsed = "NOT (expires BETWEEN :now AND :until)"  # the upper bound heals a clock that was set back
    time = {"now": times[0], "until": times[1], "grp": group, "owner": owner}
    db.execute("INSERT OR REPLACE INTO member VALUES (:grp, :owner, :until)", time)
    db.execute(f"DELETE FROM member WHERE grp = :grp AND {lapsed}", time)  # noqa: S608
    db.executemany(
        "INSERT OR IGNORE INTO lane VALUES (?, ?, 0, '', 0, 0)", [(group, number) for number in range(PARTITIONS)]
    )
    db.execute("UPDATE lane SET expires = :until WHERE grp = :grp AND owner = :owner", time)
    db.executemany(
        "UPDATE lane SET position = max(position, ?) WHERE grp = ? AND partition = ? AND owner = ?",
        [(position, group, partition, owner) for partition, position in idle.items()],
    )
    share = fair_share(db.execute("SELECT count(*) FROM member WHERE grp = :grp", time).fetchone()[0])
    held = [row[0] for row in db.execute("SELECT partition FROM lane WHERE grp = :grp AND owner = :owner", time)]
    surplus = [partition for partition in held if partition in idle][: max(0, len(held) - share)]
    db.executemany(
        "UPDATE lane SET owner = '', expires = 0 WHERE grp = ? AND partition = ?", [(group, each) for each in surplus]
    )
    db.execute(
        "UPDATE lane SET owner = :owner, fence = fence + 1, expires = :until WHERE grp = :grp AND partition IN "  # noqa: S608
        f"(SELECT partition FROM lane WHERE grp = :grp AND (owner = '' OR {lapsed}) LIMIT :wanted)",
        {**time, "wanted": max(0, share - len(held))},
    )
    mine = db.execute("SELECT partition, fence, position FROM lane WHERE grp = :grp AND owner = :owner", time)
    return {partition: (fence, position) for partition, fence, position in mine}


def leave(db: sqlite3.Connection, group: str, owner: str) -> None:
    """Give up every partition of `owner`, and its membership."""
    db.execute("UPDATE lane SET owner = '', expires = 0 WHERE grp = ? AND owner = ?", (group, owner))
    db.execute("DELETE FROM member WHERE grp = ? AND owner = ?", (group, owner))


def holds(db: sqlite3.Connection, of: tuple[str, int], owner: str, fence: int) -> bool:
    """Tell whether a partition of a group is still leased to `owner` under that number."""
    held = db.execute("SELECT owner, fence FROM lane WHERE grp = ? AND partition = ?", of).fetchone()
    return bool(held == (owner, fence))


def count_attempt(db: sqlite3.Connection, of: tuple[str, int], seq: int) -> int:
    """Record one more attempt and return how many there are."""
    return int(
        db.execute(
            "INSERT INTO delivery (grp, partition, seq, attempts) VALUES (?, ?, ?, 1) "
            "ON CONFLICT DO UPDATE SET attempts = attempts + 1 RETURNING attempts",
            (*of, seq),
        ).fetchone()[0]
    )


def forgive(db: sqlite3.Connection, of: tuple[str, int], seq: int) -> int:
    """Take the last attempt back."""
    where = "WHERE grp = ? AND partition = ? AND seq = ? AND attempts > 0"
    return db.execute(f"UPDATE delivery SET attempts = attempts - 1 {where}", (*of, seq)).rowcount  # noqa: S608


def postpone(db: sqlite3.Connection, of: tuple[str, int], seq: int, due: float) -> int:
    """Have a message wait until `due`."""
    upsert = "INSERT INTO delivery (grp, partition, seq, due) VALUES (?, ?, ?, ?)"
    return db.execute(f"{upsert} ON CONFLICT DO UPDATE SET due = excluded.due", (*of, seq, due)).rowcount


def settle(db: sqlite3.Connection, of: tuple[str, int], numbers: Sequence[int], position: int) -> int:
    """Settle messages; everything up to `position` is settled then."""
    db.execute("UPDATE lane SET position = max(position, ?) WHERE grp = ? AND partition = ?", (position, *of))
    upsert = "INSERT INTO delivery (grp, partition, seq, settled) VALUES (?, ?, ?, 1)"
    db.executemany(f"{upsert} ON CONFLICT DO UPDATE SET settled = 1", [(*of, seq) for seq in numbers if seq > position])
    gone = "DELETE FROM delivery WHERE grp = ? AND partition = ? AND seq <= ?"
    return db.execute(gone, (*of, position)).rowcount


def lag(db: sqlite3.Connection, group: str, types: Sequence[str]) -> int:
    """Count the messages that a group has not settled."""
    marks = ", ".join("?" * len(types))
    query = (
        "SELECT count(*) FROM message m LEFT JOIN lane l ON l.grp = ? AND l.partition = m.partition "  # noqa: S608
        "LEFT JOIN delivery d ON d.grp = ? AND d.partition = m.partition AND d.seq = m.seq "
        "WHERE m.seq > coalesce(l.position, 0) AND coalesce(d.settled, 0) = 0 "
        f"AND m.only_group IN ('', ?) AND m.type IN ({marks})"
    )
    return int(db.execute(query, (group, group, group, *types)).fetchone()[0])


def prune(db: sqlite3.Connection, settled: float, unread: float) -> None:
    """Drop some of the messages stored before `settled` that every group is done with, or before `unread` at all."""
    db.execute(
        "DELETE FROM message WHERE seq IN (SELECT m.seq FROM message m WHERE m.stored < ? OR (m.stored < ? "
        "AND m.seq <= (SELECT min(position) FROM lane WHERE partition = m.partition)) ORDER BY m.seq LIMIT 5000)",
        (unread, settled),
    )


def bury(db: sqlite3.Connection, letter: DeadLetter) -> None:
    """Keep a dead letter."""
    attributes = json.dumps(to_attributes(letter.envelope))
    given = (letter.id, letter.group, attributes, letter.envelope.data, letter.code, letter.cause)
    more = (letter.attempts, letter.at.isoformat(), letter.traceparent)
    db.execute("INSERT OR REPLACE INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*given, *more))


def dead_letters(db: sqlite3.Connection, group: str, limit: int, after: str) -> list[DeadLetter]:
    """Return dead letters by id."""
    query = "SELECT * FROM dead_letter WHERE id > ? AND (? = '' OR grp = ?) ORDER BY id LIMIT ?"
    return [_letter(row) for row in db.execute(query, (after, group, group, limit))]


def count_dead_letters(db: sqlite3.Connection, group: str) -> int:
    """Count the dead letters of a group."""
    return int(db.execute("SELECT count(*) FROM dead_letter WHERE grp = ?", (group,)).fetchone()[0])


def dead_letter(db: sqlite3.Connection, letter_id: str) -> DeadLetter | None:
    """Return one dead letter."""
    row = db.execute("SELECT * FROM dead_letter WHERE id = ?", (letter_id,)).fetchone()
    return _letter(row) if row is not None else None


def remove_dead_letter(db: sqlite3.Connection, letter_id: str) -> bool:
    """Remove one dead letter."""
    return db.execute("DELETE FROM dead_letter WHERE id = ?", (letter_id,)).rowcount > 0


def _letter(row: Sequence[Any]) -> DeadLetter:
    _, group, attributes, data, code, cause, attempts, at, traceparent = row
    return DeadLetter(
        group=group,
        envelope=from_attributes(json.loads(attributes), data),
        code=code,
        cause=cause,
        attempts=attempts,
        at=datetime.fromisoformat(at),
        traceparent=traceparent,
    )
