"""The shop's order service, over RPC in process and over REST on a real port."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal
from uuid import uuid4

import httpx2
import pytest
from protobuf import Oneof
from protobuf.wkt.google.protobuf.field_mask_pb import FieldMask

from interlock import (
    AlreadyExists,
    EtagMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from interlock.security.credentials import BearerToken
from interlock.server import serving
from shop.gen.api.money.v1.money_pb import Money
from shop.gen.api.order.v1.order_pb import Address, Order, OrderItem, OrderStatus, PaymentMethod
from shop.gen.api.order.v1.order_rpc import OrderServiceClient
from tests.shop.conftest import Shop

TOKEN: Oneof[Literal["card_token"], str] = Oneof(field="card_token", value="tok-visa")
CARD = PaymentMethod(method=TOKEN)
HOME = Address(street="1 Harbour Road", city="Bergen", postal_code="5003", country_code="NO")
BODY = {
    "customer_id": "c-1",
    "items": [{"product_id": "p-cup", "quantity": 2, "unit_price": {"currency_code": "EUR", "units": 12}}],
    "shipping_address": {"street": "1 Harbour Road", "city": "Bergen", "country_code": "NO"},
    "payment_method": {"card_token": "tok-visa"},
}


def item(product: str, quantity: int = 1, units: int = 10, currency: str = "EUR") -> OrderItem:
    """Return an item of an order."""
    return OrderItem(
        product_id=product, quantity=quantity, unit_price=Money(currency_code=currency, units=units, nanos=500_000_000)
    )


@pytest.fixture
async def orders(shop: Shop) -> AsyncIterator[OrderServiceClient]:
    """A client in process, with an operator's token."""
    async with shop.orders, OrderServiceClient(shop.orders, credentials=BearerToken(shop.token("operator"))) as client:
        yield client


@pytest.fixture
async def http(shop: Shop) -> AsyncIterator[httpx2.AsyncClient]:
    """A plain HTTP client on a real port, with an operator's token."""
    headers = {"authorization": f"Bearer {shop.token('operator')}"}
    async with (
        serving(shop.orders) as address,
        httpx2.AsyncClient(base_url=f"{address.url}/api/v1", headers=headers) as client,
    ):
        yield client


def key() -> dict[str, str]:
    """Return the header of a fresh idempotency key."""
    return {"idempotency-key": str(uuid4())}


async def place(orders: OrderServiceClient, *items: OrderItem) -> Order:
    """Place an order."""
    return await orders.create_order(
        customer_id="c-1", items=list(items) or [item("p-cup", 2)], shipping_address=HOME, payment_method=CARD
    )


async def test_an_order_starts_pending_with_its_total(orders: OrderServiceClient) -> None:
    """Creating an order gives it an id, the status PENDING, an etag and the sum over its items."""
    order = await place(orders, item("p-cup", 3, 10), item("p-tea", 1, 4))
    assert order.id
    assert order.etag
    assert order.status == OrderStatus.PENDING
    assert order.total == Money(currency_code="EUR", units=36, nanos=0)
    assert await orders.get_order(order_id=order.id) == order


async def test_wrong_orders_are_refused_by_field(orders: OrderServiceClient) -> None:
    """Rules of the contract and of the shop name the field at fault."""
    for items, field in (
        ([item("p-cup", 0)], "items[0].quantity"),
        ([], "items"),
        ([item("p-cup"), item("p-cup")], "items"),
        ([item("p-cup"), item("p-tea", currency="NOK")], "items"),
    ):
        with pytest.raises(InvalidArgument) as raised:
            await orders.create_order(customer_id="c-1", items=items, shipping_address=HOME, payment_method=CARD)
        assert raised.value.violations[0].field == field


async def test_the_list_goes_newest_first_page_by_page(orders: OrderServiceClient) -> None:
    """Iterating gives every order once; the first page has the count."""
    placed = [(await place(orders)).id for _ in range(7)]
    assert [each.id async for each in orders.list_orders(page_size=3)] == placed[::-1]
    assert [len(page.orders) async for page in orders.list_orders(page_size=3).pages()] == [3, 3, 1]
    assert (await orders.list_orders(page_size=3)).total_size == 7
    with pytest.raises(InvalidArgument, match="page token"):
        await orders.list_orders(page_token="not-ours")


async def test_an_update_by_mask_leaves_the_rest(orders: OrderServiceClient) -> None:
    """Only the fields of the mask change, the total follows, the etag moves on."""
    order = await place(orders)
    wanted = Order(id=order.id, customer_id="nobody", shipping_address=Address(city="Oslo", country_code="NO"))
    changed = await orders.update_order(order=wanted, update_mask=FieldMask(paths=["shipping_address.city"]))
    assert changed.shipping_address is not None
    assert (changed.shipping_address.city, changed.shipping_address.street) == ("Oslo", "1 Harbour Road")
    assert changed.customer_id == "c-1"
    assert changed.etag != order.etag
    with pytest.raises(InvalidArgument, match="update mask"):
        await orders.update_order(order=wanted, update_mask=FieldMask(paths=["colour"]))


async def test_a_stale_etag_is_refused(orders: OrderServiceClient) -> None:
    """Whoever read the order before somebody else's change must read it again."""
    order = await place(orders)
    await orders.update_order(order=Order(id=order.id, items=[item("p-tea")]), update_mask=FieldMask(paths=["items"]))
    with pytest.raises(EtagMismatch):
        await orders.update_order(order=order)


async def test_an_order_walks_through_its_life(orders: OrderServiceClient) -> None:
    """Only the next status can be reached; what is no longer pending can't be changed."""
    order = await place(orders)
    with pytest.raises(FailedPrecondition) as raised:
        await orders.update_order_status(order_id=order.id, status=OrderStatus.DELIVERED)
    assert raised.value.reason == "STATUS_NOT_REACHABLE"
    for status in (OrderStatus.CONFIRMED, OrderStatus.SHIPPED, OrderStatus.DELIVERED):
        assert (await orders.update_order_status(order_id=order.id, status=status)).status == status
    with pytest.raises(FailedPrecondition) as raised:
        await orders.create_order_item(order_id=order.id, item=item("p-tea"))
    assert raised.value.reason == "ORDER_NOT_PENDING"


async def test_items_come_and_go(orders: OrderServiceClient) -> None:
    """Items are a collection of their own, each product once, never empty."""
    order = await place(orders, item("p-cup"))
    await orders.create_order_item(order_id=order.id, item=item("p-tea", 2))
    with pytest.raises(AlreadyExists):
        await orders.create_order_item(order_id=order.id, item=item("p-tea"))
    assert [each.product_id async for each in orders.list_order_items(order_id=order.id, page_size=1)] == [
        "p-cup",
        "p-tea",
    ]
    assert (await orders.get_order_item(order_id=order.id, product_id="p-tea")).quantity == 2
    await orders.delete_order_item(order_id=order.id, product_id="p-cup")
    with pytest.raises(FailedPrecondition, match="at least one"):
        await orders.delete_order_item(order_id=order.id, product_id="p-tea")
    with pytest.raises(NotFound, match="p-cup"):
        await orders.get_order_item(order_id=order.id, product_id="p-cup")


async def test_watching_tells_every_change_until_the_end(orders: OrderServiceClient) -> None:
    """A watcher sees the status now, each change, and the end of the stream with the end of the order."""
    order = await place(orders)
    seen: list[OrderStatus] = []
    looking = asyncio.Event()

    async def watch() -> None:
        async with orders.watch_order_status(order_id=order.id) as changes:
            async for change in changes:
                seen.append(change.status)
                looking.set()

    watching = asyncio.create_task(watch())
    for status in (OrderStatus.CONFIRMED, OrderStatus.CANCELLED):
        await asyncio.wait_for(looking.wait(), 5)
        looking.clear()
        await orders.update_order_status(order_id=order.id, status=status)
    await asyncio.wait_for(watching, 5)
    assert seen == [OrderStatus.PENDING, OrderStatus.CONFIRMED, OrderStatus.CANCELLED]


async def test_rest_creates_reads_and_lists(http: httpx2.AsyncClient) -> None:
    """POST answers 201 with the place of what it made; GET there gives the same; the list has an envelope."""
    made = await http.post("/orders", json=BODY, headers=key())
    assert made.status_code == 201
    order = made.json()["data"]
    assert made.headers["location"] == f"/api/v1/orders/{order['id']}"
    assert made.json()["meta"]["version"] == "1.0"
    read = await http.get(f"/orders/{order['id']}")
    assert (read.status_code, read.json()["data"]) == (200, order)
    listed = (await http.get("/orders", params={"page_size": 1})).json()
    assert listed["data"] == [order]
    assert listed["meta"]["total_size"] == 1
    items = (await http.get(f"/orders/{order['id']}/items")).json()
    assert [each["product_id"] for each in items["data"]] == ["p-cup"]


async def test_rest_puts_patches_and_deletes(http: httpx2.AsyncClient) -> None:
    """PUT repeats, PATCH touches only its keys, DELETE is 204 and then 404."""
    order = (await http.post("/orders", json=BODY, headers=key())).json()["data"]
    path = f"/orders/{order['id']}"
    patched = await http.patch(path, json={"shipping_address": {"city": "Oslo"}})
    assert patched.status_code == 200
    assert patched.json()["data"]["shipping_address"]["city"] == "Oslo"
    assert patched.json()["data"]["shipping_address"]["street"] == "1 Harbour Road"
    whole = {key: value for key, value in patched.json()["data"].items() if key != "etag"}
    for _ in range(2):
        put = await http.put(path, json=whole | {"customer_id": "c-9"})
        assert put.status_code == 200
        assert put.json()["data"]["customer_id"] == "c-9"
        assert put.json()["data"]["shipping_address"]["city"] == "Oslo"
    assert (await http.put("/orders/o-none", json=whole | {"id": "o-none"})).status_code == 404
    assert (await http.put(path, json={"customer_id": "c-9"})).status_code == 400
    stale = await http.put(path, json=whole | {"etag": "1"})
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "ETAG_MISMATCH")
    gone = await http.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await http.delete(path)).status_code == 404


async def test_rest_moves_an_order_on_by_a_custom_verb(http: httpx2.AsyncClient) -> None:
    """`:updateStatus` takes the next status by name."""
    order = (await http.post("/orders", json=BODY, headers=key())).json()["data"]
    moved = await http.post(f"/orders/{order['id']}:updateStatus", json={"status": "ORDER_STATUS_CONFIRMED"})
    assert moved.json()["data"]["status"] == "ORDER_STATUS_CONFIRMED"
    refused = await http.post(f"/orders/{order['id']}:updateStatus", json={"status": "ORDER_STATUS_PENDING"})
    assert (refused.status_code, refused.json()["error"]["reason"]) == (400, "STATUS_NOT_REACHABLE")


async def test_an_unknown_customer_and_a_short_stock_are_refused(orders: OrderServiceClient) -> None:
    """The order service asks its neighbours before it takes an order."""
    with pytest.raises(InvalidArgument) as unknown:
        await orders.create_order(
            customer_id="c-nobody", items=[item("p-cup")], shipping_address=HOME, payment_method=CARD
        )
    assert [each.field for each in unknown.value.violations] == ["customer_id"]
    with pytest.raises(FailedPrecondition, match="p-rare") as short:
        await place(orders, item("p-rare", 2))
    assert short.value.reason == "OUT_OF_STOCK"


async def test_one_key_makes_one_order(http: httpx2.AsyncClient) -> None:
    """The second request with a key gets the first one's answer; another body is refused, and so is no key."""
    header = key()
    first = await http.post("/orders", json=BODY, headers=header)
    again = await http.post("/orders", json=BODY, headers=header)
    assert again.status_code == 201
    assert again.json()["data"] == first.json()["data"]
    assert again.headers["idempotency-replayed"] == "true"
    assert (await http.get("/orders")).json()["meta"]["total_size"] == 1
    other = await http.post("/orders", json=BODY | {"customer_id": "c-2"}, headers=header)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "KEY_REUSED")
    assert (await http.post("/orders", json=BODY)).status_code == 400


async def test_who_may_do_what_is_decided_by_roles(shop: Shop) -> None:
    """No token is 401, a role without the permission 403, and both before the body is looked at."""
    async with serving(shop.orders) as address, httpx2.AsyncClient(base_url=f"{address.url}/api/v1") as http:
        assert (await http.post("/orders", content=b"{")).status_code == 401
        customer = {"authorization": f"Bearer {shop.token('customer')}"}
        moved = await http.post("/orders/o-1:updateStatus", content=b"{", headers=customer)
        assert moved.status_code == 415  # a customer may update orders, and is told of what is wrong with the body
        nobody = {"authorization": f"Bearer {shop.token('nobody')}"}
        refused = await http.get("/orders", headers=nobody)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "PERMISSION_DENIED")
