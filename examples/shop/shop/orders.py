"""The order service."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterable
from uuid import uuid4

from protobuf.wkt.google.protobuf.empty_pb import Empty
from protobuf.wkt.google.protobuf.field_mask_pb import FieldMask
from protobuf.wkt.google.protobuf.timestamp_pb import Timestamp

from interlock import AlreadyExists, App, Call, FailedPrecondition, InvalidArgument, NotFound, Violation, apply_mask
from interlock.data import Database, Transaction
from shop.config import ShopSettings
from shop.gen.api.customer.v1.customer_rpc import CustomerServiceClient
from shop.gen.api.inventory.v1.events_pb import InventoryRejected
from shop.gen.api.inventory.v1.inventory_pb import StockItem
from shop.gen.api.inventory.v1.inventory_rpc import InventoryServiceClient
from shop.gen.api.money.v1.money_pb import Money
from shop.gen.api.order.v1.events_pb import OrderCancelled, OrderConfirmed, OrderCreated
from shop.gen.api.order.v1.order_pb import (
    CreateOrderItemRequest,
    CreateOrderRequest,
    DeleteOrderItemRequest,
    DeleteOrderRequest,
    GetOrderItemRequest,
    GetOrderRequest,
    ListOrderItemsRequest,
    ListOrderItemsResponse,
    ListOrdersRequest,
    ListOrdersResponse,
    Order,
    OrderItem,
    OrderStatus,
    OrderStatusChange,
    UpdateOrderRequest,
    UpdateOrderStatusRequest,
    WatchOrderStatusRequest,
)
from shop.gen.api.order.v1.order_rpc import OrderService
from shop.gen.api.payment.v1.events_pb import PaymentCompleted, PaymentFailed
from shop.store import OrderStore, metadata

NANOS = 1_000_000_000
DEFAULT_PAGE, LARGEST_PAGE = 50, 1000
NEXT = {
    OrderStatus.PENDING: {OrderStatus.CONFIRMED, OrderStatus.CANCELLED},
    OrderStatus.CONFIRMED: {OrderStatus.SHIPPED, OrderStatus.CANCELLED},
    OrderStatus.SHIPPED: {OrderStatus.DELIVERED},
}


class Orders(OrderService):
    """Takes orders and keeps them; what becomes of one is told by events of inventory and payments."""

    def __init__(self, database: Database, customers: CustomerServiceClient, inventory: InventoryServiceClient) -> None:
        self.database = database
        self.store = OrderStore(database)
        self.customers = customers
        self.inventory = inventory

    async def create_order(self, request: CreateOrderRequest, call: Call) -> Order:
        cost = total(request.items)
        await self.require_customer(request.customer_id)
        await self.require_stock(request.items)
        now = Timestamp.now()
        order = Order(
            id=f"o-{uuid4().hex[:16]}",
            customer_id=request.customer_id,
            items=request.items,
            shipping_address=request.shipping_address,
            payment_method=request.payment_method,
            total=cost,
            status=OrderStatus.PENDING,
            created_at=now,
            updated_at=now,
        )
        async with self.database.transaction() as tx:
            await self.store.insert(tx, order)
            created = OrderCreated(
                order_id=order.id, customer_id=order.customer_id, amount=cost, items=order.items, created_at=now
            )
            await tx.publish(created)
        return order

    async def require_customer(self, customer_id: str) -> None:
        """Refuse a customer that nobody knows."""
        try:
            await self.customers.get_customer(customer_id=customer_id)
        except NotFound as unknown:
            violation = Violation(field="customer_id", description="no such customer")
            raise InvalidArgument("unknown customer", violations=[violation]) from unknown

    async def require_stock(self, items: Iterable[OrderItem]) -> None:
        """Refuse what is not in stock now; only the reservation, later, is binding."""
        wanted = [StockItem(product_id=each.product_id, quantity=each.quantity) for each in items]
        stock = await self.inventory.check_availability(items=wanted)
        if not stock.available:
            raise FailedPrecondition(f"not in stock: {', '.join(stock.missing)}", reason="OUT_OF_STOCK")

    async def on_payment_completed(self, event: PaymentCompleted, call: Call) -> None:
        async with self.database.transaction() as tx:
            if await self.settle(tx, event.order_id, OrderStatus.CONFIRMED):
                await tx.publish(OrderConfirmed(order_id=event.order_id, confirmed_at=Timestamp.now()))

    async def on_payment_failed(self, event: PaymentFailed, call: Call) -> None:
        await self.call_off(event.order_id, event.failure)

    async def on_inventory_rejected(self, event: InventoryRejected, call: Call) -> None:
        await self.call_off(event.order_id, f"not in stock: {', '.join(event.missing)}")

    async def call_off(self, order_id: str, reason: str) -> None:
        """Cancel an order and tell the others."""
        async with self.database.transaction() as tx:
            if await self.settle(tx, order_id, OrderStatus.CANCELLED):
                await tx.publish(OrderCancelled(order_id=order_id, reason=reason, cancelled_at=Timestamp.now()))

    async def settle(self, tx: Transaction, order_id: str, status: OrderStatus) -> bool:
        """Move a PENDING order to its outcome; False for one that is gone or settled already."""

        def change(order: Order) -> None:
            require_pending(order)
            order.status = status

        try:
            await self.store.change(tx, order_id, change)
        except (NotFound, FailedPrecondition):
            return False
        return True

    async def get_order(self, request: GetOrderRequest, call: Call) -> Order:
        return await self.store.get(request.order_id)

    async def list_orders(self, request: ListOrdersRequest, call: Call) -> ListOrdersResponse:
        size = min(request.page_size or DEFAULT_PAGE, LARGEST_PAGE)
        orders, count = await self.store.page(size + 1, read_token(request.page_token))
        more = len(orders) > size
        orders = orders[:size]
        return ListOrdersResponse(
            orders=orders, next_page_token=write_token(orders[-1]) if more else "", total_size=count
        )

    async def update_order(self, request: UpdateOrderRequest, call: Call) -> Order:
        wanted = request.order or Order()

        def change(order: Order) -> None:
            require_pending(order)
            kept = Order(id=order.id, status=order.status, etag=order.etag, created_at=order.created_at)
            apply_mask(order, wanted, request.update_mask)
            apply_mask(order, kept, FieldMask(paths=["id", "status", "etag", "created_at"]))
            order.total = total(order.items)

        async with self.database.transaction() as tx:
            return await self.store.change(tx, wanted.id, change, etag=wanted.etag)

    async def update_order_status(self, request: UpdateOrderStatusRequest, call: Call) -> Order:
        def change(order: Order) -> None:
            if request.status not in NEXT.get(order.status, ()):
                raise FailedPrecondition(
                    f"an order that is {order.status.name} can't become {request.status.name}",
                    reason="STATUS_NOT_REACHABLE",
                )
            order.status = request.status

        async with self.database.transaction() as tx:
            return await self.store.change(tx, request.order_id, change)

    async def delete_order(self, request: DeleteOrderRequest, call: Call) -> Empty:
        await self.store.delete(request.order_id)
        return Empty()

    async def list_order_items(self, request: ListOrderItemsRequest, call: Call) -> ListOrderItemsResponse:
        items = (await self.store.get(request.order_id)).items
        start = read_offset(request.page_token)
        end = start + (request.page_size or len(items))
        return ListOrderItemsResponse(
            items=items[start:end], next_page_token=str(end) if end < len(items) else "", total_size=len(items)
        )

    async def get_order_item(self, request: GetOrderItemRequest, call: Call) -> OrderItem:
        order = await self.store.get(request.order_id)
        return order.items[position(order, request.product_id)]

    async def create_order_item(self, request: CreateOrderItemRequest, call: Call) -> OrderItem:
        item = request.item or OrderItem()

        def change(order: Order) -> None:
            require_pending(order)
            if any(each.product_id == item.product_id for each in order.items):
                raise AlreadyExists(f"the order has {item.product_id!r} already")
            order.items.append(item)
            order.total = total(order.items)

        async with self.database.transaction() as tx:
            await self.store.change(tx, request.order_id, change)
        return item

    async def delete_order_item(self, request: DeleteOrderItemRequest, call: Call) -> Empty:
        def change(order: Order) -> None:
            require_pending(order)
            at = position(order, request.product_id)
            if len(order.items) == 1:
                raise FailedPrecondition("an order keeps at least one item; delete the order", reason="LAST_ITEM")
            del order.items[at]
            order.total = total(order.items)

        async with self.database.transaction() as tx:
            await self.store.change(tx, request.order_id, change)
        return Empty()

    async def watch_order_status(
        self, request: WatchOrderStatusRequest, call: Call
    ) -> AsyncIterator[OrderStatusChange]:
        last = OrderStatus.UNSPECIFIED
        async for order in self.store.versions(request.order_id):
            if order.status != last:
                last = order.status
                yield OrderStatusChange(order_id=order.id, status=last, changed_at=order.updated_at)
            if last not in NEXT:
                return


def total(items: Iterable[OrderItem]) -> Money:
    """Return the sum over all items; InvalidArgument if they are not all of one currency."""
    priced = [(item, item.unit_price or Money()) for item in items]
    currencies = {price.currency_code for _, price in priced}
    if len(currencies) > 1:
        violation = Violation(field="items", description=f"one currency, not {', '.join(sorted(currencies))}")
        raise InvalidArgument("the items have prices in several currencies", violations=[violation])
    nanos = sum((price.units * NANOS + price.nanos) * item.quantity for item, price in priced)
    return Money(currency_code=currencies.pop() if currencies else "", units=nanos // NANOS, nanos=nanos % NANOS)


def require_pending(order: Order) -> None:
    """Refuse a change to an order that is no longer PENDING."""
    if order.status != OrderStatus.PENDING:
        raise FailedPrecondition(f"the order is {order.status.name}", reason="ORDER_NOT_PENDING")


def position(order: Order, product_id: str) -> int:
    """Return where the product stands in the order; NotFound if it does not."""
    for index, item in enumerate(order.items):
        if item.product_id == product_id:
            return index
    raise NotFound(f"order {order.id!r} has no {product_id!r}")


def write_token(last: Order) -> str:
    """Return the page token for what follows `last`."""
    created = last.created_at.to_nanos() if last.created_at else 0
    return urlsafe_b64encode(f"{created}:{last.id}".encode()).decode().rstrip("=")


def read_token(token: str) -> tuple[int, str] | None:
    """Return the position in a page token, None for an empty one."""
    if not token:
        return None
    try:
        created, _, order_id = urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().partition(":")
        return int(created), order_id
    except ValueError as broken:
        raise _bad_token() from broken


def read_offset(token: str) -> int:
    """Return the position in the page token of a short list."""
    if token and not (token.isascii() and token.isdigit() and len(token) < 9):
        raise _bad_token()
    return int(token or 0)


def _bad_token() -> InvalidArgument:
    violation = Violation(field="page_token", description="not a token that this service gave")
    return InvalidArgument("invalid page token", violations=[violation])


def make(settings: ShopSettings | None = None) -> App:
    """Make the order service."""
    settings = settings or ShopSettings(service_name="orders")
    database = settings.database("orders", metadata)
    credentials = settings.credentials()
    customers = CustomerServiceClient(settings.upstream("customers"), credentials=credentials)
    inventory = InventoryServiceClient(settings.upstream("inventory"), credentials=credentials)
    orders = Orders(database, customers, inventory)
    return App(orders, database=database, settings=settings, on_stop=[customers.close, inventory.close])
