"""Orders in SQLite: one row an order, the message itself in it, a version that every change counts up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
from protobuf.wkt.google.protobuf.timestamp_pb import Timestamp

from interlock import EtagMismatch, NotFound
from shop.gen.api.order.v1.order_pb import Order

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY,
    created_ns INTEGER NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_newest ON orders (created_ns DESC, id DESC);
"""
_LOOK_AGAIN = 0.5


class OrderStore:
    """Reads and writes orders; `open` before use. Raises NotFound and EtagMismatch as callers should see them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Open the file, and make it and its table where they are missing."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._db = await aiosqlite.connect(self._path, isolation_level=None)
        await self._db.execute("PRAGMA journal_mode=WAL")
        await self._db.execute("PRAGMA busy_timeout=5000")
        await self._db.executescript(_SCHEMA)

    async def close(self) -> None:
        """Close the file."""
        await self._db.close()

    async def check(self) -> None:
        """Raise if the database does not answer."""
        await self._one("SELECT 1")

    async def insert(self, order: Order) -> None:
        """Add a new order."""
        created = order.created_at.to_nanos() if order.created_at else 0
        async with self._transaction() as db:
            order.etag = "1"
            await db.execute("INSERT INTO orders VALUES (?, ?, 1, ?)", (order.id, created, order.to_binary()))

    async def get(self, order_id: str) -> Order:
        """Return the order of that id."""
        row = await self._one("SELECT body FROM orders WHERE id = ?", order_id)
        if row is None:
            raise NotFound(f"no order {order_id!r}")
        return Order.from_binary(row[0])

    async def change(self, order_id: str, change: Callable[[Order], None], *, etag: str = "") -> Order:
        """Apply `change` to an order and store it; EtagMismatch if `etag` is given and no longer the order's."""
        async with self._transaction() as db:
            order = await self.get(order_id)
            if etag and etag != order.etag:
                raise EtagMismatch("the order was changed in the meantime; read it again")
            change(order)
            version = int(order.etag) + 1
            order.etag = str(version)
            order.updated_at = Timestamp.now()
            body = order.to_binary()
            await db.execute("UPDATE orders SET version = ?, body = ? WHERE id = ?", (version, body, order_id))
        return order

    async def delete(self, order_id: str) -> None:
        """Remove the order of that id."""
        async with self._transaction() as db:
            cursor = await db.execute("DELETE FROM orders WHERE id = ?", (order_id,))
            if cursor.rowcount == 0:
                raise NotFound(f"no order {order_id!r}")

    async def page(self, size: int, after: tuple[int, str] | None) -> tuple[list[Order], int]:
        """Return up to `size` orders, newest first, behind the position `after`, and how many orders there are."""
        created, order_id = after or (1 << 62, "")
        rows = await self._db.execute_fetchall(
            "SELECT body FROM orders WHERE (created_ns, id) < (?, ?) ORDER BY created_ns DESC, id DESC LIMIT ?",
            (created, order_id, size),
        )
        total = await self._one("SELECT count(*) FROM orders")
        return [Order.from_binary(row[0]) for row in rows], total[0] if total else 0

    async def versions(self, order_id: str) -> AsyncIterator[Order]:
        """Yield the order now and after each change that is seen, until it is removed; NotFound if it is not there."""
        order = await self.get(order_id)
        while True:
            yield order
            seen = order.etag
            while order.etag == seen:
                await self._something_changed()
                try:
                    order = await self.get(order_id)
                except NotFound:
                    return

    async def _something_changed(self) -> None:
        """Wait for a change of this process, or a while: other workers write to the same file."""
        try:
            await asyncio.wait_for(self._changed.wait(), _LOOK_AGAIN)
        except TimeoutError:
            return

    async def _one(self, query: str, *values: object) -> aiosqlite.Row | None:
        async with self._db.execute(query, values) as cursor:
            return await cursor.fetchone()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._writing:
            await self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                await self._db.rollback()
                raise
            await self._db.commit()
        self._changed.set()
        self._changed = asyncio.Event()
