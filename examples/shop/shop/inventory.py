"""The inventory service: stock, and reservations for orders. Stock + reserved stays what it was."""

from collections.abc import Iterable

from protobuf.wkt.google.protobuf.timestamp_pb import Timestamp
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, select

from interlock import App, Call, FailedPrecondition, NotFound
from interlock.data import Database, Transaction
from shop.config import ShopSettings
from shop.gen.api.inventory.v1.events_pb import InventoryRejected, InventoryReserved
from shop.gen.api.inventory.v1.inventory_pb import (
    CheckAvailabilityRequest,
    CheckAvailabilityResponse,
    GetReservationRequest,
    GetStockRequest,
    ReleaseItemsRequest,
    Reservation,
    ReservationStatus,
    ReserveItemsRequest,
    Stock,
    StockItem,
)
from shop.gen.api.inventory.v1.inventory_rpc import InventoryService
from shop.gen.api.order.v1.events_pb import OrderCancelled, OrderCreated

metadata = MetaData()
stocks = Table(
    "stocks",
    metadata,
    Column("product_id", String, primary_key=True),
    Column("available", Integer, nullable=False),
    Column("reserved", Integer, nullable=False),
)
reservations = Table(
    "reservations",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
SEED = {"p-cup": 100_000, "p-tea": 100_000, "p-rare": 1}


class Inventory(InventoryService):
    """Sets items aside for orders and gives them back."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def check_availability(self, request: CheckAvailabilityRequest, call: Call) -> CheckAvailabilityResponse:
        async with self.database.transaction(read_only=True) as tx:
            missing = await self.missing(tx, request.items)
        return CheckAvailabilityResponse(available=not missing, missing=missing)

    async def reserve_items(self, request: ReserveItemsRequest, call: Call) -> Reservation:
        async with self.database.transaction() as tx:
            held = await self.reservation(tx, request.order_id)
            if held is None:
                if missing := await self.missing(tx, request.items):
                    raise FailedPrecondition(f"not in stock: {', '.join(missing)}", reason="OUT_OF_STOCK")
                held = await self.hold(tx, request.order_id, request.items)
        return held

    async def release_items(self, request: ReleaseItemsRequest, call: Call) -> Reservation:
        async with self.database.transaction() as tx:
            released = await self.release(tx, request.order_id)
        if released is None:
            raise NotFound(f"nothing is reserved for order {request.order_id!r}")
        return released

    async def get_reservation(self, request: GetReservationRequest, call: Call) -> Reservation:
        async with self.database.transaction(read_only=True) as tx:
            found = await self.reservation(tx, request.order_id)
        if found is None:
            raise NotFound(f"nothing is reserved for order {request.order_id!r}")
        return found

    async def get_stock(self, request: GetStockRequest, call: Call) -> Stock:
        async with self.database.transaction(read_only=True) as tx:
            row = (await tx.execute(select(stocks).where(stocks.c.product_id == request.product_id))).first()
        if row is None:
            raise NotFound(f"no product {request.product_id!r}")
        return Stock(product_id=row.product_id, available=row.available, reserved=row.reserved)

    async def on_order_created(self, event: OrderCreated, call: Call) -> None:
        items = [StockItem(product_id=each.product_id, quantity=each.quantity) for each in event.items]
        now = Timestamp.now()
        async with self.database.transaction() as tx:
            if missing := await self.missing(tx, items):
                await tx.publish(InventoryRejected(order_id=event.order_id, missing=missing, rejected_at=now))
                return
            await self.hold(tx, event.order_id, items)
            reserved = InventoryReserved(
                order_id=event.order_id,
                customer_id=event.customer_id,
                items=items,
                amount=event.amount,
                reserved_at=now,
            )
            await tx.publish(reserved)

    async def on_order_cancelled(self, event: OrderCancelled, call: Call) -> None:
        async with self.database.transaction() as tx:
            await self.release(tx, event.order_id)

    async def missing(self, tx: Transaction, items: Iterable[StockItem]) -> list[str]:
        """Return the products of which there is too little."""
        wanted = {each.product_id: each.quantity for each in items}
        rows = await tx.execute(select(stocks).where(stocks.c.product_id.in_(wanted)))
        available = {row.product_id: row.available for row in rows}
        return sorted(product for product, quantity in wanted.items() if available.get(product, 0) < quantity)

    async def hold(self, tx: Transaction, order_id: str, items: Iterable[StockItem]) -> Reservation:
        """Set items aside; there must be enough of them."""
        held = Reservation(
            order_id=order_id, items=list(items), status=ReservationStatus.HELD, created_at=Timestamp.now()
        )
        for each in held.items:
            await self.move(tx, each.product_id, each.quantity)
        await tx.execute(reservations.insert().values(order_id=order_id, body=held.to_binary()))
        return held

    async def release(self, tx: Transaction, order_id: str) -> Reservation | None:
        """Give back what is set aside for an order; None if nothing ever was."""
        found = await self.reservation(tx, order_id)
        if found is None or found.status == ReservationStatus.RELEASED:
            return found
        for each in found.items:
            await self.move(tx, each.product_id, -each.quantity)
        found.status = ReservationStatus.RELEASED
        same = reservations.c.order_id == order_id
        await tx.execute(reservations.update().where(same).values(body=found.to_binary()))
        return found

    async def move(self, tx: Transaction, product_id: str, quantity: int) -> None:
        """Move a quantity from available to reserved."""
        same = stocks.c.product_id == product_id
        changed = {"available": stocks.c.available - quantity, "reserved": stocks.c.reserved + quantity}
        await tx.execute(stocks.update().where(same).values(changed))

    async def reservation(self, tx: Transaction, order_id: str) -> Reservation | None:
        """Return the reservation of an order."""
        row = (await tx.execute(select(reservations.c.body).where(reservations.c.order_id == order_id))).first()
        return None if row is None else Reservation.from_binary(row.body)

    async def seed(self) -> None:
        """Fill the shelves, once."""
        async with self.database.transaction() as tx:
            known = {row.product_id for row in await tx.execute(select(stocks.c.product_id))}
            for product, count in SEED.items():
                if product not in known:
                    await tx.execute(stocks.insert().values(product_id=product, available=count, reserved=0))


def make(settings: ShopSettings | None = None) -> App:
    """Make the inventory service."""
    settings = settings or ShopSettings(service_name="inventory")
    database = settings.database("inventory", metadata)
    handlers = Inventory(database)
    return App(handlers, database=database, settings=settings, on_start=[handlers.seed])
