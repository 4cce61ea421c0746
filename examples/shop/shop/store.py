"""Orders in a database: one row an order, the message itself in it, a version that every change counts up."""

import asyncio
from collections.abc import AsyncIterator, Callable

from protobuf.wkt.google.protobuf.timestamp_pb import Timestamp
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, func, select, tuple_

from interlock import EtagMismatch, NotFound
from interlock.data import Database, Transaction
from shop.gen.api.order.v1.order_pb import Order

metadata = MetaData()
orders = Table(
    "orders",
    metadata,
    Column("id", String, primary_key=True),
    Column("created_ns", BigInteger, nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
LOOK_AGAIN = 0.5


class OrderStore:
    """Reads and writes orders. Raises NotFound and EtagMismatch as callers should see them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = asyncio.Event()

    async def insert(self, tx: Transaction, order: Order) -> None:
        """Add a new order."""
        order.etag = "1"
        created = order.created_at.to_nanos() if order.created_at else 0
        row = {"id": order.id, "created_ns": created, "version": 1, "body": order.to_binary()}
        await tx.execute(orders.insert().values(row))
        self._tell(tx)

    async def get(self, order_id: str) -> Order:
        """Return the order of that id."""
        async with self._database.transaction(read_only=True) as tx:
            return await self._get(tx, order_id)

    async def _get(self, tx: Transaction, order_id: str) -> Order:
        row = (await tx.execute(select(orders.c.body).where(orders.c.id == order_id))).first()
        if row is None:
            raise NotFound(f"no order {order_id!r}")
        return Order.from_binary(row.body)

    async def change(self, tx: Transaction, order_id: str, change: Callable[[Order], None], *, etag: str = "") -> Order:
        """Apply `change` to an order and store it; EtagMismatch if `etag` is given and no longer the order's."""
        order = await self._get(tx, order_id)
        if etag and etag != order.etag:
            raise EtagMismatch("the order was changed in the meantime; read it again")
        change(order)
        version = int(order.etag)
        order.etag = str(version + 1)
        order.updated_at = Timestamp.now()
        same = (orders.c.id == order_id) & (orders.c.version == version)
        changed = await tx.execute(orders.update().where(same).values(version=version + 1, body=order.to_binary()))
        if changed.rowcount == 0:
            raise EtagMismatch("the order was changed in the meantime; read it again")
        self._tell(tx)
        return order

    async def delete(self, order_id: str) -> None:
        """Remove the order of that id."""
        async with self._database.transaction() as tx:
            if (await tx.execute(orders.delete().where(orders.c.id == order_id))).rowcount == 0:
                raise NotFound(f"no order {order_id!r}")
            self._tell(tx)

    async def page(self, size: int, after: tuple[int, str] | None) -> tuple[list[Order], int]:
        """Return up to `size` orders, newest first, behind the position `after`, and how many orders there are."""
        position = tuple_(orders.c.created_ns, orders.c.id)
        query = select(orders.c.body).order_by(orders.c.created_ns.desc(), orders.c.id.desc()).limit(size)
        if after is not None:
            query = query.where(position < after)
        async with self._database.transaction(read_only=True) as tx:
            rows = (await tx.execute(query)).all()
            total = (await tx.execute(select(func.count()).select_from(orders))).scalar_one()
        return [Order.from_binary(row.body) for row in rows], total

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

    def _tell(self, tx: Transaction) -> None:
        async def tell() -> None:
            self._changed.set()
            self._changed = asyncio.Event()

        tx.after_commit(tell)

    async def _something_changed(self) -> None:
        """Wait for a change of this process, or a while: other workers write to the same database."""
        try:
            await asyncio.wait_for(self._changed.wait(), LOOK_AGAIN)
        except TimeoutError:
            return
