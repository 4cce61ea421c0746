"""The reference call: GetOrder of the shop, an id in, an order of three items with their prices out, built in memory.

Every server that is measured builds the same message with the same code.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from interlock.call import Call
from interlock.errors import Unimplemented
from shop.gen.api.money.v1.money_pb import Money
from shop.gen.api.order.v1.order_pb import (
    GetOrderRequest,
    Order,
    OrderItem,
    OrderStatus,
    OrderStatusChange,
    WatchOrderStatusRequest,
)
from shop.gen.api.order.v1.order_rpc import OrderService

ORDER_ID = "o-5f0c2d9e1b7a4c38"
UNARY = "/api.order.v1.OrderService/GetOrder"
STREAM = "/api.order.v1.OrderService/WatchOrderStatus"
REST = "/api/v1/orders/"
STREAM_LENGTH = 1000


def order(order_id: str) -> Order:
    """Build the reply of the reference call."""
    return Order(
        id=order_id,
        customer_id="c-1",
        items=[
            OrderItem(
                product_id="p-cup", quantity=2, unit_price=Money(currency_code="EUR", units=12, nanos=500_000_000)
            ),
            OrderItem(
                product_id="p-pot", quantity=1, unit_price=Money(currency_code="EUR", units=34, nanos=900_000_000)
            ),
            OrderItem(
                product_id="p-tea", quantity=5, unit_price=Money(currency_code="EUR", units=7, nanos=250_000_000)
            ),
        ],
        total=Money(currency_code="EUR", units=96, nanos=150_000_000),
        status=OrderStatus.CONFIRMED,
        etag="1",
    )


def changes(order_id: str) -> Iterator[OrderStatusChange]:
    """Build the replies of the reference stream."""
    for _ in range(STREAM_LENGTH):
        yield OrderStatusChange(order_id=order_id, status=OrderStatus.CONFIRMED)


async def _get_order(_self: Any, request: GetOrderRequest, _call: Call) -> Order:
    return order(request.order_id)


async def _watch_order_status(
    _self: Any, request: WatchOrderStatusRequest, _call: Call
) -> AsyncIterator[OrderStatusChange]:
    for change in changes(request.order_id):
        yield change


async def _not_measured(_self: Any, _request: Any, _call: Call) -> Any:
    raise Unimplemented("the benchmarks do not need it")


def handler() -> OrderService:
    """Return the handlers as Interlock serves them."""
    methods: dict[str, Any] = dict.fromkeys(OrderService.__abstractmethods__, _not_measured)
    methods |= {"get_order": _get_order, "watch_order_status": _watch_order_status}
    made: OrderService = type("ReferenceOrders", (OrderService,), methods)()
    return made
