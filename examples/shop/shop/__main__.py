"""The shop in one process: starts, places an order over REST, reads it back over gRPC, then serves until Ctrl-C."""

import asyncio
import json
import signal
import sys
import urllib.request
from time import perf_counter

from pydantic import ValidationError

from interlock import Error, Settings, in_thread
from interlock.server import Address, StartError, serving
from interlock.settings import explain
from shop.gen.api.order.v1.order_rpc import OrderServiceClient
from shop.orders import make

ORDER = {
    "customer_id": "c-1",
    "items": [
        {"product_id": "p-cup", "quantity": 2, "unit_price": {"currency_code": "EUR", "units": 12, "nanos": 500000000}},
        {"product_id": "p-tea", "quantity": 1, "unit_price": {"currency_code": "EUR", "units": 8}},
    ],
    "shipping_address": {"street": "1 Harbour Road", "city": "Bergen", "postal_code": "5003", "country_code": "NO"},
    "payment_method": {"card_token": "tok-visa"},
}


async def main() -> int:
    """Run the shop; the exit code is 0 after Ctrl-C, 1 if it could not start."""
    started = perf_counter()
    try:
        settings = Settings()
        async with serving(make(), host=settings.host, port=settings.port) as address:
            say(f"serving after {perf_counter() - started:.2f} s")
            await first_order(address)
            print(urls(address), flush=True)
            await interrupted()
            say("stopping: calls in flight may end")
    except ValidationError as wrong:
        return refuse(explain(wrong))
    except (StartError, Error, OSError) as error:
        return refuse(str(error))
    return 0


async def first_order(address: Address) -> None:
    """Place an order over REST and read it back over gRPC, showing both."""
    begun = perf_counter()
    status, reply = await in_thread(post, f"{address.url}/api/v1/orders", ORDER)
    say(f"POST /api/v1/orders -> {status} in {(perf_counter() - begun) * 1000:.0f} ms")
    print(json.dumps(reply, indent=2))
    async with OrderServiceClient(str(address)) as orders:
        begun = perf_counter()
        order = await orders.get_order(order_id=reply["data"]["id"])
        say(f"api.order.v1.OrderService/GetOrder over gRPC in {(perf_counter() - begun) * 1000:.0f} ms")
    total = order.total
    assert total is not None
    print(f"  {order.id} of {order.customer_id}: {order.status.name}, ", end="")
    print(f"{len(order.items)} items, {total.units}.{total.nanos // 10_000_000:02} {total.currency_code}")


def post(url: str, body: object) -> tuple[int, dict[str, dict[str, str]]]:
    """POST JSON; return status and body."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, json.load(answer)


def urls(address: Address) -> str:
    """Return what to try next."""
    return f"""
  REST      {address.url}/api/v1/orders
  gRPC      {address}  (reflection is on)
  OpenAPI   {address.url}/openapi.json
  health    {address.url}/health

  curl {address.url}/api/v1/orders

Ctrl-C stops."""


async def interrupted() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await stop.wait()


def say(text: str) -> None:
    """Print one step."""
    print(f"• {text}", flush=True)


def refuse(text: str) -> int:
    """Say why the shop does not run."""
    print(f"shop: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
