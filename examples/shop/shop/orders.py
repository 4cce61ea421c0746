"""The order service."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from uuid import uuid4

from protobuf.wkt.google.protobuf.empty_pb import Empty
from protobuf.wkt.google.protobuf.field_mask_pb import FieldMask
from protobuf.wkt.google.protobuf.timestamp_pb import Timestamp

from interlock import AlreadyExists, App, Call, FailedPrecondition, InvalidArgument, NotFound, Violation, apply_mask
from interlock.settings import Settings
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
    Money,
    Order,
    OrderItem,
    OrderStatus,
    OrderStatusChange,
    UpdateOrderRequest,
    UpdateOrderStatusRequest,
    WatchOrderStatusRequest,
)
from shop.gen.api.order.v1.order_rpc import OrderService
from shop.store import OrderStore

NANOS = 1_000_000_000
DEFAULT_PAGE, LARGEST_PAGE = 50, 1000
NEXT = {
    OrderStatus.PENDING: {OrderStatus.CONFIRMED, OrderStatus.CANCELLED},
    OrderStatus.CONFIRMED: {OrderStatus.SHIPPED, OrderStatus.CANCELLED},
    OrderStatus.SHIPPED: {OrderStatus.DELIVERED},
}


class Orders(OrderService):
    """Takes orders and keeps them."""

    def __init__(self, store: OrderStore) -> None:
        self.store = store

    async def create_order(self, request: CreateOrderRequest, call: Call) -> Order:
        now = Timestamp.now()
        order = Order(
            id=f"o-{uuid4().hex[:16]}",
            customer_id=request.customer_id,
            items=request.items,
            shipping_address=request.shipping_address,
            payment_method=request.payment_method,
            total=total(request.items),
            status=OrderStatus.PENDING,
            created_at=now,
            updated_at=now,
        )
        await self.store.insert(order)
        return order

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

        return await self.store.change(wanted.id, change, etag=wanted.etag)

    async def update_order_status(self, request: UpdateOrderStatusRequest, call: Call) -> Order:
        def change(order: Order) -> None:
            if request.status not in NEXT.get(order.status, ()):
                raise FailedPrecondition(
                    f"an order that is {order.status.name} can't become {request.status.name}",
                    reason="STATUS_NOT_REACHABLE",
                )
            order.status = request.status

        return await self.store.change(request.order_id, change)

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

        await self.store.change(request.order_id, change)
        return item

    async def delete_order_item(self, request: DeleteOrderItemRequest, call: Call) -> Empty:
        def change(order: Order) -> None:
            require_pending(order)
            at = position(order, request.product_id)
            if len(order.items) == 1:
                raise FailedPrecondition("an order keeps at least one item; delete the order", reason="LAST_ITEM")
            del order.items[at]
            order.total = total(order.items)

        await self.store.change(request.order_id, change)
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


def make() -> App:
    """Make the order service; `var/orders.db` keeps its orders."""
    store = OrderStore(Path("var/orders.db"))
    return App(
        Orders(store),
        settings=Settings(),
        checks={"database": store.check},
        on_start=[store.open],
        on_stop=[store.close],
    )
