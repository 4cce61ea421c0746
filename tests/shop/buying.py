"""What the tests of the whole shop do as its users: order, wait, look at stock and payments."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from uuid import uuid4

import httpx2

from interlock import DeadlineExceeded, Unavailable
from interlock.testing import ServedPlatform, until
from shop.gen.api.inventory.v1.inventory_rpc import InventoryServiceClient
from shop.gen.api.order.v1.order_pb import Order, OrderStatus
from shop.gen.api.order.v1.order_rpc import OrderServiceClient
from shop.gen.api.payment.v1.payment_rpc import PaymentServiceClient

T = TypeVar("T")
SEED = 100_000
BODY = {
    "customer_id": "c-1",
    "items": [{"product_id": "p-cup", "quantity": 2, "unit_price": {"currency_code": "EUR", "units": 12}}],
    "shipping_address": {"street": "1 Harbour Road", "city": "Bergen", "country_code": "NO"},
    "payment_method": {"card_token": "tok-visa"},
}
BUYERS = 8
AWAY = (500, 503, 504)
"""What the gateway answers while a service is away, or too busy for the contract's timeout."""


class Buyer:
    """An operator of the shop, through its gateway."""

    def __init__(self, served: ServedPlatform) -> None:
        self.served = served
        self.http = served.http("operator")
        self.orders = served.client(OrderServiceClient, "operator")
        self.inventory = served.client(InventoryServiceClient, "operator")
        self.payments = served.client(PaymentServiceClient, "operator")
        self.provider = served.client(PaymentServiceClient, "operator", at="payments")  # not for callers from outside

    async def order(self, **changed: object) -> httpx2.Response:
        """Place an order over REST, again with a key of its own where the machine was too busy; return the answer."""

        async def place() -> httpx2.Response | None:
            header = {"idempotency-key": str(uuid4())}
            answer = await self.http.post("/api/v1/orders", json=BODY | changed, headers=header)
            return None if answer.status_code in AWAY else answer

        return await told(place)

    async def settled(self, order_id: str, limit: float = 60.0) -> OrderStatus:
        """Wait until an order is no longer PENDING; return its status."""

        async def outcome() -> OrderStatus | None:
            status = (await self.orders.get_order(order_id=order_id)).status
            return None if status == OrderStatus.PENDING else status

        return await told(outcome, limit)

    async def place(self, count: int, placed: list[str]) -> None:
        """Place so many orders, by several customers at a time, and note the ids of those that were taken.

        One that is refused, or whose answer is lost, is sent again with the same key, as a client does.
        """
        await asyncio.gather(*(self._buy(count // BUYERS, placed) for _ in range(BUYERS)))

    async def _buy(self, count: int, placed: list[str]) -> None:
        http = self.served.http("customer", subject=f"buyer {uuid4()}")  # a rate limit each
        for _ in range(count):
            header = {"idempotency-key": str(uuid4())}
            while (answer := await http.post("/api/v1/orders", json=BODY, headers=header)).status_code != 201:
                assert answer.status_code in (*AWAY, 409), answer.text  # 409: the first one is still under way
                await asyncio.sleep(0.5)
            placed.append(answer.json()["data"]["id"])

    async def all_final(self, limit: float) -> list[Order]:
        """Wait until no order is PENDING, also none whose answer was lost; return them."""
        final = (OrderStatus.CONFIRMED, OrderStatus.CANCELLED)

        async def none_pending() -> list[Order] | None:
            orders = [each async for each in self.orders.list_orders(page_size=1000)]
            return orders if all(each.status in final for each in orders) else None

        return await told(none_pending, limit, pause=0.25)


async def told(ask: Callable[[], Awaitable[T | None]], limit: float = 60.0, pause: float = 0.05) -> T:
    """Ask until there is an answer: a service may be away, or too busy for the contract's timeout."""

    async def asked() -> tuple[T] | None:
        with suppress(Unavailable, DeadlineExceeded):
            answer = await ask()
            return None if answer is None else (answer,)
        return None

    return (await until(asked, limit, pause=pause))[0]
