"""The shop in one process: starts, takes an order through the gateway until it is confirmed, serves until Ctrl-C."""

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from time import perf_counter
from uuid import uuid4

from pydantic import ValidationError

from interlock import Error, in_thread
from interlock.platform import Running, run_here
from interlock.security.keys import ensure_keys
from interlock.security.tokens import Issuer
from interlock.server import StartError
from interlock.settings import explain
from shop.config import ShopSettings
from shop.gen.api.order.v1.order_pb import Order, OrderStatus
from shop.gen.api.order.v1.order_rpc import OrderServiceClient
from shop.platform import platform

ORDER = {
    "customer_id": "c-1",
    "items": [
        {"product_id": "p-cup", "quantity": 2, "unit_price": {"currency_code": "EUR", "units": 12, "nanos": 500000000}},
        {"product_id": "p-tea", "quantity": 1, "unit_price": {"currency_code": "EUR", "units": 8}},
    ],
    "shipping_address": {"street": "1 Harbour Road", "city": "Bergen", "postal_code": "5003", "country_code": "NO"},
    "payment_method": {"card_token": "tok-visa"},
}
BEGUN = perf_counter()


async def main() -> int:
    """Run the shop; the exit code is 0 after Ctrl-C, 1 if it could not start or the first order went wrong."""
    os.environ.setdefault("INTERLOCK_LOG_LEVEL", "warning")
    try:
        settings = ShopSettings()
        keys = ensure_keys(settings.keys)
        issuer = Issuer(keys=keys, name=settings.token_issuer, audience=settings.token_audience)
        token = issuer.mint("demo", ["customer"])
        async with run_here(platform, host=settings.host, port=settings.port) as running:
            say(f"gateway and {len(running.services)} services serve")
            await first_order(running, token)
            print(what_to_try(running, token), flush=True)
            await interrupted()
            say("stopping: calls in flight may end")
    except ValidationError as wrong:
        return refuse(explain(wrong))
    except (StartError, Error, OSError) as error:
        return refuse(str(error))
    return 0


async def first_order(running: Running, token: str) -> None:
    """Place an order over REST, and follow it over gRPC until it is confirmed."""
    status, reply = await in_thread(post, f"{running.gateway.url}/api/v1/orders", ORDER, token)
    order_id = reply["data"]["id"]
    say(f"POST /api/v1/orders -> {status}: {order_id} is PENDING")
    print(json.dumps(reply, indent=2))
    order = await confirmed(running, order_id, token)
    total = order.total
    assert total is not None
    say(
        f"api.order.v1.OrderService/GetOrder over gRPC: {order.id} is {order.status.name}, "
        f"{len(order.items)} items, {total.units}.{total.nanos // 10_000_000:02} {total.currency_code}"
    )


async def confirmed(running: Running, order_id: str, token: str) -> Order:
    """Watch an order until it is settled, and read it."""
    async with OrderServiceClient(str(running.gateway)) as orders:
        known = orders.using(metadata={"authorization": f"Bearer {token}"}, timeout=30)
        async with known.watch_order_status(order_id=order_id) as changes:
            async for change in changes:
                if change.status != OrderStatus.PENDING:
                    break
        return await known.get_order(order_id=order_id)


def post(url: str, body: object, token: str) -> tuple[int, dict[str, dict[str, str]]]:
    """POST JSON with an idempotency key; return status and body."""
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {token}",
        "idempotency-key": str(uuid4()),
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        raise StartError(f"the first order was refused: {refused.read().decode()}") from refused


def what_to_try(running: Running, token: str) -> str:
    """Return the URLs, a token, and lines to try."""
    url = running.gateway.url
    return f"""
  REST      {url}/api/v1/orders
  gRPC      {running.gateway}  (reflection is on)
  OpenAPI   {url}/openapi.json
  health    {url}/health

  export TOKEN={token}

  curl -s {url}/api/v1/orders -H "authorization: Bearer $TOKEN"
  curl -s {url}/api/v1/stocks/p-cup -H "authorization: Bearer $TOKEN"
  curl -s {url}/api/v1/orders

Ctrl-C stops."""


async def interrupted() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await stop.wait()


def say(text: str) -> None:
    """Print one step with its time since the start."""
    print(f"{perf_counter() - BEGUN:6.2f} s  {text}", flush=True)


def refuse(text: str) -> int:
    """Say why the shop does not run."""
    print(f"shop: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
