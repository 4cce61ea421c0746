"""Every metric that a rule or a panel asks for is one that a running service shows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import yaml

from interlock import App
from interlock.contract.find import find_image
from interlock.contract.load import load
from interlock.deploy import Deployment, alerts, dashboards, read_deployment
from interlock.server import serving
from interlock.testing import Keyring, Surroundings
from shop import customers, inventory, orders, store
from shop.config import ShopSettings
from shop.gen.api.customer.v1.customer_rpc import CustomerServiceClient
from shop.gen.api.inventory.v1.inventory_rpc import InventoryServiceClient

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop"
SELECTED = re.compile(r"(?<![:\w])([a-z_]+)\{")
"""A metric with its selector; recorded ones, which have a colon, come from the rules themselves."""
BY_PROMETHEUS = {"up"}
BODY = {
    "customer_id": "c-1",
    "items": [{"product_id": "p-cup", "quantity": 2, "unit_price": {"currency_code": "EUR", "units": 12}}],
    "shipping_address": {"street": "1 Harbour Road", "city": "Bergen", "country_code": "NO"},
    "payment_method": {"card_token": "tok-visa"},
}


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    """The shop's."""
    return read_deployment(SHOP / "deploy.toml", load(find_image(".", SHOP)))


def asked(deployment: Deployment) -> set[str]:
    """Return the metrics that rules and panels name."""
    groups = yaml.safe_load(alerts(deployment))["groups"]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    for text in dashboards(deployment).values():
        expressions += [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    return {name for each in expressions for name in SELECTED.findall(each)} - BY_PROMETHEUS


def families(text: str) -> Iterator[str]:
    """Yield the names of the series that a scrape declares."""
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            yield from (f"{name}_{part}" for part in ("bucket", "sum", "count")) if kind == "histogram" else (name,)


@pytest.fixture
def app(surroundings: Surroundings, tmp_path: Path) -> App:
    """The order service with its database, events, keys, API keys and rate limit; its neighbours in process."""
    accounts = tmp_path / "accounts.toml"
    accounts.write_text("")
    with surroundings.around({"log_level": "error", "accounts": str(accounts)}):
        settings = ShopSettings(service_name="orders")
    known, stock = customers.make(settings), inventory.make(settings)
    database = settings.database("orders", store.metadata)
    handlers = orders.Orders(
        database,
        CustomerServiceClient(known, credentials=settings.credentials()),
        InventoryServiceClient(stock, credentials=settings.credentials()),
    )
    hooks: Any = {"on_start": [known.start, stock.start], "on_stop": [known.stop, stock.stop]}
    return App(handlers, database=database, settings=settings, **hooks)


async def test_rules_and_panels_ask_for_what_is_there(app: App, deployment: Deployment, keys: Keyring) -> None:
    """No query is for a name that nobody serves, and none of what matters most is without a number."""
    headers = {"authorization": f"Bearer {keys.token('operator')}", "idempotency-key": str(uuid4())}
    async with serving(app) as address, httpx2.AsyncClient(base_url=address.url, timeout=30) as client:
        reply = await client.post("/api/v1/orders", json=BODY, headers=headers)
        assert reply.status_code == 201, reply.text
        text = await scraped(app)
    wanted = asked(deployment)
    assert len(wanted) > 20
    assert wanted - set(families(text)) == set()
    samples = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    for name in (
        "service_requests_total",
        "service_request_duration_seconds_count",
        "service_request_size_bytes_sum",
        "service_reply_size_bytes_sum",
        "service_database_duration_seconds_count",
        "service_publish_duration_seconds_count",
        "service_external_duration_seconds_count",
        "service_external_requests_total",
        "service_retries_total",
        "service_circuit_breaker_state",
        "service_outbox_events",
        "service_outbox_age_seconds",
        "service_event_lag",
        "service_dead_letters_total",
        "service_database_connections",
        "service_key_age_seconds",
        "service_token_cache_entries",
        "service_build_info",
    ):
        assert name in samples, name


async def scraped(app: App) -> str:
    """Return what the operations port shows a scraper."""
    transport: Any = httpx2.ASGITransport(app=app.operations)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as operator:
        return (await operator.get("/metrics")).text
