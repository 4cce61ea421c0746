"""The whole platform, as the standard's end-to-end test has it: one process and split, embedded and on real engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from secrets import token_hex

import pytest
import pytest_asyncio

from interlock import Unimplemented
from interlock.testing import Keyring, NoServer, Surroundings, platform_running, postgresql_databases, until
from shop.gen.api.inventory.v1.inventory_pb import ReservationStatus
from shop.gen.api.order.v1.order_pb import OrderStatus
from shop.gen.api.payment.v1.payment_pb import PaymentStatus, ProviderRule
from shop.platform import platform
from tests.observability.receiver import Collector, collecting
from tests.shop.buying import SEED, Buyer, told

pytestmark = pytest.mark.asyncio(loop_scope="module")

EMBEDDED, ENGINES = "embedded", "PostgreSQL and NATS"
SHAPES = [(split, backend) for backend in (EMBEDDED, ENGINES) for split in (False, True)]
ORDERS = 200
FINAL_WITHIN = 60.0
"""Seconds after a service is started again in which everything is settled."""


@dataclass
class Running:
    """A shop at work, somebody who buys there, and the collector that its traces go to."""

    buyer: Buyer
    traces: Collector
    split: bool
    backend: str


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=SHAPES,
    ids=[f"{'split' if split else 'one process'}, {backend}" for split, backend in SHAPES],
)  # fmt: skip
async def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, keys: Keyring
) -> AsyncIterator[Running]:
    """The shop, started once for the tests of each shape."""
    split, backend = request.param
    surroundings = Surroundings(directory=tmp_path_factory.mktemp("shop"), keys=keys)
    async with AsyncExitStack() as stack:
        collector = stack.enter_context(collecting())
        # only what a caller wants sampled is: 200 orders are not what the collector is for
        settings = {"otlp_endpoint": collector.url, "trace_ratio": "0", "log_level": "error"}
        if backend == ENGINES:
            try:
                settings["database_url"] = await stack.enter_async_context(postgresql_databases([*platform.services]))
            except NoServer as reason:
                pytest.skip(f"NOT TESTED on {ENGINES}: {reason}")
            settings["broker"] = request.getfixturevalue("nats_url")
        served = await stack.enter_async_context(platform_running(platform, surroundings, split=split, **settings))
        yield Running(Buyer(served), collector, split, backend)


async def test_an_order_becomes_confirmed(shop: Running) -> None:
    """Order CONFIRMED by GetOrder, reservation by GetReservation, payment COMPLETED by GetPayment."""
    buyer = shop.buyer
    placed = await buyer.order()
    assert placed.status_code == 201, placed.text
    order_id = placed.json()["data"]["id"]
    assert await buyer.settled(order_id) == OrderStatus.CONFIRMED
    assert (await told(lambda: buyer.orders.get_order(order_id=order_id))).status == OrderStatus.CONFIRMED
    assert (await told(lambda: buyer.inventory.get_reservation(order_id=order_id))).status == ReservationStatus.HELD
    assert (await told(lambda: buyer.payments.get_payment(order_id=order_id))).status == PaymentStatus.COMPLETED


async def test_a_failed_payment_gives_the_stock_back(shop: Running) -> None:
    """The order ends CANCELLED, the reservation released, the stock as before."""
    buyer = shop.buyer
    before = await told(lambda: buyer.inventory.get_stock(product_id="p-tea"))
    rule = ProviderRule(customer_id="c-2", refuse=True)
    await told(lambda: buyer.provider.set_provider_rule(rule=rule))
    tea = {"product_id": "p-tea", "quantity": 3, "unit_price": {"currency_code": "EUR", "units": 4}}
    order_id = (await buyer.order(customer_id="c-2", items=[tea])).json()["data"]["id"]
    assert await buyer.settled(order_id) == OrderStatus.CANCELLED
    assert (await told(lambda: buyer.payments.get_payment(order_id=order_id))).status == PaymentStatus.FAILED

    async def released() -> bool:
        return (
            await told(lambda: buyer.inventory.get_reservation(order_id=order_id))
        ).status == ReservationStatus.RELEASED

    await until(released, 30)
    assert await told(lambda: buyer.inventory.get_stock(product_id="p-tea")) == before


async def test_one_order_is_one_trace(shop: Running) -> None:
    """Gateway, four services, outbox, broker and consumers: one tree, whose id the caller is told."""
    traces = shop.traces
    trace_id, span_id = token_hex(16), token_hex(8)
    shop.buyer.http.headers["traceparent"] = f"00-{trace_id}-{span_id}-01"
    placed = await shop.buyer.order()
    del shop.buyer.http.headers["traceparent"]
    told_back = placed.headers.get_list("traceresponse")
    await shop.buyer.settled(placed.json()["data"]["id"])

    def found() -> set[tuple[str, str, str]]:
        return {(each.service, each.kind, each.name) for each in traces.spans if each.trace_id == trace_id}

    wanted = {
        ("gateway", "SERVER", "POST /api/v1/orders"),
        ("gateway", "CLIENT", "api.order.v1.OrderService/CreateOrder"),
        ("orders", "SERVER", "api.order.v1.OrderService/CreateOrder"),
        ("orders", "CLIENT", "api.customer.v1.CustomerService/GetCustomer"),
        ("customers", "SERVER", "api.customer.v1.CustomerService/GetCustomer"),
        ("orders", "CLIENT", "api.inventory.v1.InventoryService/CheckAvailability"),
        ("inventory", "SERVER", "api.inventory.v1.InventoryService/CheckAvailability"),
        ("orders", "PRODUCER", "publish order.created"),
        ("inventory", "CONSUMER", "process order.created"),
        ("inventory", "PRODUCER", "publish inventory.reserved"),
        ("payments", "CONSUMER", "process inventory.reserved"),
        ("payments", "PRODUCER", "publish payment.completed"),
        ("orders", "CONSUMER", "process payment.completed"),
        ("orders", "PRODUCER", "publish order.confirmed"),
    }
    await until(lambda: wanted <= found(), 30)
    spans = [each for each in traces.spans if each.trace_id == trace_id]
    known = {each.span_id for each in spans}
    assert len(known) == len(spans)
    roots = [each for each in spans if each.parent_id not in known]
    assert [(each.service, each.kind, each.parent_id) for each in roots] == [("gateway", "SERVER", span_id)]
    assert told_back == [f"00-{trace_id}-{roots[0].span_id}-01"]
    assert not any(each.failed for each in spans)


async def test_the_gateway_shows_only_what_is_external(shop: Running) -> None:
    """Internal operations are unknown at the gateway, its document covers all services, and no token is 401."""
    buyer = shop.buyer
    with pytest.raises(Unimplemented):
        await buyer.payments.set_provider_rule(rule=ProviderRule(customer_id="c-1", refuse=True))
    document = (await buyer.http.get("/openapi.json")).json()
    assert {"/api/v1/orders", "/api/v1/customers", "/api/v1/payments/{order_id}"} <= document["paths"].keys()
    assert not any("updateStatus" in path for path in document["paths"])
    assert (await buyer.http.get("/api/v1/orders", headers={"authorization": "Bearer no"})).status_code == 401
    refused = await buyer.order(customer_id="c-nobody")
    assert (refused.status_code, refused.json()["error"]["details"][0]["field"]) == (400, "customer_id")


@pytest.mark.timeout(400)
async def test_any_service_may_be_killed(shop: Running) -> None:
    """Each service, killed with -9 in the middle of 200 orders and started again, leaves nothing half done.

    On the real engines one of them is: what differs there is below the services. In one process none can be.
    """
    if not shop.split:
        with pytest.raises(RuntimeError, match="split=True"):
            await shop.buyer.served.kill("orders")
        return
    for victim in ("payments", "inventory", "orders") if shop.backend == EMBEDDED else ("payments",):
        await kill_amid_orders(shop.buyer, victim)


async def kill_amid_orders(buyer: Buyer, victim: str) -> None:
    """Kill a service while orders are placed, start it again, and see that all are final and the sums agree."""
    before = len(await buyer.all_final(FINAL_WITHIN))
    placed: list[str] = []
    async with asyncio.TaskGroup() as group:
        placing = group.create_task(buyer.place(ORDERS, placed))
        await until(lambda: len(placed) >= ORDERS // 4 or placing.done(), 60)
        await buyer.served.kill(victim)
        assert not placing.done()
        started = asyncio.get_running_loop().time()
        await buyer.served.restart(victim)
    orders = await buyer.all_final(FINAL_WITHIN - (asyncio.get_running_loop().time() - started))
    assert len(orders) == before + ORDERS
    confirmed = [each.id for each in orders if each.status == OrderStatus.CONFIRMED]
    assert set(placed) <= set(confirmed)
    stock = await told(lambda: buyer.inventory.get_stock(product_id="p-cup"))
    assert stock.available + stock.reserved == SEED
    assert stock.reserved == 2 * len(confirmed)
    for each in confirmed:
        payment = await told(partial(buyer.payments.get_payment, order_id=each))
        assert payment.status == PaymentStatus.COMPLETED
