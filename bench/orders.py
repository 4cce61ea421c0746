"""`python -m bench.orders`: orders through the gateway of the shop until they are confirmed, a process each service.

Open loop: every order goes out when its time has come, whether those before it are confirmed or not. The time of one
runs from when it should have gone out until GetOrder, asked again and again, says CONFIRMED.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

import httpx2

from bench import report
from bench.figures import Goal, Section
from interlock import Error
from interlock.testing import Keyring, NoServer, ServedPlatform, Surroundings, platform_running, postgresql_databases
from interlock.testing.nats_server import nats_server
from shop.gen.api.order.v1.order_pb import OrderStatus
from shop.gen.api.order.v1.order_rpc import OrderServiceClient
from shop.platform import platform

RESULTS = Path(__file__).parent / "results/orders.json"
EMBEDDED, ENGINES = "SQLite + embedded", "PostgreSQL + NATS"
WARM = 50
LIMIT = 50
"""Orders of one buyer; the contract lets nobody place more than a hundred a minute."""
PATIENCE = 30.0
"""Seconds after which an order that is not confirmed counts as lost."""
BODY = {
    "customer_id": "c-1",
    "items": [{"product_id": "p-cup", "quantity": 1, "unit_price": {"currency_code": "EUR", "units": 12}}],
    "shipping_address": {"street": "1 Harbour Road", "city": "Bergen", "country_code": "NO"},
    "payment_method": {"card_token": "tok-visa"},
}


async def measure(backends: Sequence[str], orders: int, rate: float) -> Section:
    """Place `orders` at `rate` a second on each backend; return their figures."""
    section = Section(
        "orders",
        f"{orders:,} orders through the gateway to CONFIRMED, gateway and four services a process each",
        f"open loop, {rate:g} orders/s; the services, the load and the engines share {os.cpu_count()} cores",
    )
    for backend in backends:
        try:
            async with _shop(backend) as shop:
                await _buy(shop, WARM, rate)
                seconds, failed = await _buy(shop, orders, rate)
        except NoServer as reason:
            section.missing[backend] = str(reason)
            continue
        cuts = [each * 1000 for each in quantiles(seconds, n=100)]
        section.add(backend, "median", "ms", [cuts[49]])
        section.add(backend, "P95", "ms", [cuts[94]], Goal(250, at_most=True))
        section.add(backend, "P99", "ms", [cuts[98]])
        section.add(backend, "not confirmed", "", [sum(failed.values())], Goal(0, at_most=True))
        for error, times in failed.items():
            section.missing[f"{backend}, {times} x"] = error
    return section


@asynccontextmanager
async def _shop(backend: str) -> AsyncIterator[ServedPlatform]:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings: dict[str, object] = {"trace_ratio": "0.01", "log_level": "error"}
        if backend == ENGINES:
            settings["database_url"] = await stack.enter_async_context(postgresql_databases([*platform.services]))
            settings["broker"] = stack.enter_context(nats_server())
        surroundings = Surroundings(directory=directory, keys=Keyring(directory / "keys"))
        yield await stack.enter_async_context(platform_running(platform, surroundings, split=True, **settings))


async def _buy(shop: ServedPlatform, orders: int, rate: float) -> tuple[list[float], Counter[str]]:
    """Return the seconds that each confirmed order took, and what became of the others."""
    buyers = [shop.http("operator", subject=f"buyer-{number}") for number in range(1 + orders // LIMIT)]
    client = shop.client(OrderServiceClient, "operator")
    seconds: list[float] = []
    failed: Counter[str] = Counter()
    began = time.perf_counter()

    async def one(number: int) -> None:
        due = began + number / rate
        await asyncio.sleep(due - time.perf_counter())
        try:
            async with asyncio.timeout(PATIENCE):
                status = await _confirmed(buyers[number % len(buyers)], client)
        except (Error, httpx2.HTTPError, TimeoutError) as error:
            failed[f"{type(error).__name__}: {error}"] += 1
        else:
            if status == "CONFIRMED":
                seconds.append(time.perf_counter() - due)
            else:
                failed[status] += 1

    await asyncio.gather(*(one(number) for number in range(orders)))
    return seconds, failed


async def _confirmed(http: httpx2.AsyncClient, client: OrderServiceClient) -> str:
    """Place an order and return what it is in the end: CONFIRMED, one day."""
    answer = await http.post("/api/v1/orders", json=BODY, headers={"idempotency-key": str(uuid4())})
    if answer.status_code != 201:
        return f"status {answer.status_code}: {answer.text[:200]}"
    order_id = answer.json()["data"]["id"]
    status = OrderStatus.PENDING
    while status == OrderStatus.PENDING:
        await asyncio.sleep(0.01)  # as a caller would, who is not told
        status = (await client.get_order(order_id=order_id)).status
    return status.name


def main() -> int:
    """Measure, print and keep the figures; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--orders", type=int, default=1000, metavar="N", help="how many (default: 1000)")
    parser.add_argument("--rate", type=float, default=20.0, metavar="R", help="how many a second (default: 20)")
    parser.add_argument("--on", choices=("embedded", "engines"), help="one of the two backends (default: both)")
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    given = parser.parse_args()
    backends = {"embedded": [EMBEDDED], "engines": [ENGINES], None: [EMBEDDED, ENGINES]}[given.on]
    section = asyncio.run(measure(backends, given.orders, given.rate))
    report.show(section, report.console())
    if not given.dry:
        report.write([section], RESULTS)
    return int(any(figure.met is False for figure in section.figures))


if __name__ == "__main__":
    sys.exit(main())
