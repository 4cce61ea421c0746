"""A tour of the shop: it starts, takes an order through the gateway until it is confirmed, and serves until Ctrl-C."""

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from interlock import BearerToken, Error, in_thread
from interlock.platform import Running, interruption, run_here
from interlock.security.keys import ensure_keys
from interlock.security.tokens import Issuer
from interlock.server import Address, StartError
from interlock.settings import explain
from shop.config import ShopSettings
from shop.gen.api.inventory.v1.inventory_rpc import InventoryServiceClient
from shop.gen.api.order.v1.order_pb import Order, OrderStatus
from shop.gen.api.order.v1.order_rpc import OrderServiceClient
from shop.gen.api.payment.v1.payment_rpc import PaymentServiceClient
from shop.platform import platform
from shop.steps import refuse, say

ORDER = {
    "customer_id": "c-1",
    "items": [
        {"product_id": "p-cup", "quantity": 2, "unit_price": {"currency_code": "EUR", "units": 12, "nanos": 500000000}},
        {"product_id": "p-tea", "quantity": 1, "unit_price": {"currency_code": "EUR", "units": 8}},
    ],
    "shipping_address": {"street": "1 Harbour Road", "city": "Bergen", "postal_code": "5003", "country_code": "NO"},
    "payment_method": {"card_token": "tok-visa"},
}
PATIENCE = 30.0
"""Seconds until the first order must be settled."""


def tour() -> int:
    """Run the shop; the exit code is 0 after Ctrl-C, 1 if it could not start or the first order went wrong."""
    os.environ.setdefault("INTERLOCK_LOG_LEVEL", "error")
    try:
        asyncio.run(_tour())
    except ValidationError as wrong:
        return refuse(explain(wrong))
    except TimeoutError:
        return refuse(f"the first order was not settled within {PATIENCE:g} s")
    except (StartError, Error, OSError) as error:
        return refuse(str(error))
    say("stopped")
    return 0


async def _tour() -> None:
    settings = ShopSettings()
    keys = ensure_keys(settings.keys)
    say(f"keys that sign tokens: {settings.keys}")
    token = Issuer(keys=keys, name=settings.token_issuer, audience=settings.token_audience).mint("demo", ["customer"])
    async with run_here(platform, host=settings.host, port=settings.port, told=serves) as running:
        async with asyncio.timeout(PATIENCE):
            await first_order(running, token)
        stop = interruption()
        print(what_to_try(running, token, settings.keys.resolve()), flush=True)
        await stop.wait()
        say("stopping: calls in flight may end")


def serves(name: str, address: Address) -> None:
    """Tell that a service answers."""
    say(f"{name:<9} serves gRPC and REST on {address}")


async def first_order(running: Running, token: str) -> None:
    """Place an order over REST, and follow it over gRPC through stock and payment."""
    reply, headers = await in_thread(post, f"{running.gateway.url}/api/v1/orders", ORDER, token)
    placed = reply["data"]
    say(f"POST /api/v1/orders   201: {placed['id']} is {placed['status'].removeprefix('ORDER_STATUS_')}")
    target, shown = str(running.gateway), BearerToken(token)
    async with (
        OrderServiceClient(target, credentials=shown) as orders,
        InventoryServiceClient(target, credentials=shown) as inventory,
        PaymentServiceClient(target, credentials=shown) as payments,
    ):
        order = await settled(orders, placed["id"])
        total = order.total
        assert total is not None
        cost = f"{total.units}.{total.nanos // 10_000_000:02} {total.currency_code}"
        say(f"GetOrder (gRPC)       {order.id} is {order.status.name}: {len(order.items)} items, {cost}")
        held = await inventory.get_reservation(order_id=order.id)
        paid = await payments.get_payment(order_id=order.id)
        say(f"GetReservation        {held.status.name}")
        say(f"GetPayment            {paid.status.name}")
    say(f"all of it is one trace: {headers['traceresponse'].split('-')[1]}")


async def settled(orders: OrderServiceClient, order_id: str) -> Order:
    """Read an order until it is no longer PENDING."""
    while (order := await orders.get_order(order_id=order_id)).status == OrderStatus.PENDING:  # noqa: ASYNC110 - it is elsewhere
        await asyncio.sleep(0.05)
    return order


def post(url: str, body: object, token: str) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """POST JSON with an idempotency key; return body and headers."""
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {token}",
        "idempotency-key": str(uuid4()),
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer), {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as refused:
        raise StartError(f"the first order was refused: {refused.read().decode()}") from refused


def what_to_try(running: Running, token: str, keys: Path) -> str:
    """Return the URLs, a token, how others are made, and lines to try."""
    url = running.gateway.url
    command = Path(os.path.abspath(sys.executable)).with_name("interlock")  # noqa: PTH100 - resolve() leaves the venv
    make = f"{command} keys token --keys {keys} --subject me --role"
    return f"""
  REST      {url}/api/v1/orders
  gRPC      {running.gateway}  (reflection is on)
  OpenAPI   {url}/openapi.json
  try it    {url}/docs
  health    {url}/health

In another terminal, a token of a customer:

  export TOKEN={token}

and three things to try: list the orders, look at the stock, and be refused without the token:

  curl -s {url}/api/v1/orders -H "authorization: Bearer $TOKEN"
  curl -s {url}/api/v1/stocks/p-cup -H "authorization: Bearer $TOKEN"
  curl -s {url}/api/v1/orders

Roles differ. Tokens of an operator and of a service, and who of the three may take in a customer (403, 201, 403):

  export OPERATOR=$({make} operator)
  export SERVICE=$({make} service)
  for EACH in $TOKEN $OPERATOR $SERVICE; do curl -s -o /dev/null -w '%{{http_code}}\\n' {url}/api/v1/customers \\
    -H "authorization: Bearer $EACH" -H 'content-type: application/json' -d '{{"name": "Ada", "email": "a@b.example"}}'
  done

Ctrl-C stops."""
