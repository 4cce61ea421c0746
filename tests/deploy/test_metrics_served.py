"""Every metric that a rule or a panel asks for is one that a running service shows."""

import asyncio
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
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
from shop import customers, inventory, orders, payments, store
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
        settings = ShopSettings(service_name="orders", service_version="2.3.1")
    known, stock, paid = customers.make(settings), inventory.make(settings), payments.make(settings)
    database = settings.database("orders", store.metadata)
    handlers = orders.Orders(
        database,
        CustomerServiceClient(known, credentials=settings.credentials()),
        InventoryServiceClient(stock, credentials=settings.credentials()),
    )
    hooks: Any = {
        "on_start": [known.start, stock.start, paid.start],
        "on_stop": [known.stop, stock.stop, paid.stop],
    }
    return App(handlers, database=database, settings=settings, **hooks)


WANTED = {
    "requests": {"service_requests_total", "service_request_duration_seconds_bucket"},
    "time of the database": {"service_database_duration_seconds_count"},
    "time of others": {"service_external_duration_seconds_count", "service_external_requests_total"},
    "time of publishing": {"service_publish_duration_seconds_count"},
    "in flight": {"service_requests_in_flight"},
    "sizes": {"service_request_size_bytes_sum", "service_reply_size_bytes_sum"},
    "retries": {"service_retries_total"},
    "breakers": {"service_circuit_breaker_state"},
    "limits and quota": {"service_rate_limit_used_ratio"},
    "shedder": {"service_concurrency_limit"},
    "pools": {
        "service_database_connections",
        "service_database_connections_limit",
        "service_database_connections_awaited",
    },
    "events": {"service_event_lag", "service_event_age_seconds_bucket"},
    "outbox": {"service_outbox_events", "service_outbox_age_seconds"},
    "dead letters": {"service_dead_letters_total", "service_dead_letters_kept"},
    "token cache": {
        "service_token_cache_entries",
        "service_token_cache_hits_total",
        "service_token_cache_misses_total",
    },
    "age of credentials": {"service_key_age_seconds"},
    "build": {"service_build_info"},
    "log": {"service_log_lines_dropped_total"},
    "traces": {"service_spans_lost_total"},
    "process": {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"},
}
"""What issue and standard ask to see, and the samples that show it."""
ONCE_IT_HAPPENS = {"service_requests_shed_total", "service_api_key_age_seconds"}
"""Families that are there, with samples only once a call was shed, or a key is kept."""


async def test_all_that_is_worth_a_number_has_one(app: App, deployment: Deployment, keys: Keyring) -> None:
    """After one order each thing has its samples, in both formats; no rule or panel asks for what nobody serves."""
    headers = {"authorization": f"Bearer {keys.token('operator')}", "idempotency-key": str(uuid4())}
    async with serving(app) as address, httpx2.AsyncClient(base_url=address.url, timeout=30) as client:
        reply = await client.post("/api/v1/orders", json=BODY, headers=headers)
        assert reply.status_code == 201, reply.text
        assert (await client.get("/api/v1/orders", headers=headers)).status_code == 200
        confirmed = f"/api/v1/orders/{reply.json()['data']['id']}"
        async with asyncio.timeout(20):
            while "service_event_age_seconds_bucket" not in samples(await scraped(app)):  # an event comes back
                assert (await client.get(confirmed, headers=headers)).status_code == 200
                await asyncio.sleep(0.05)
        classic, open_metrics = await scraped(app), await scraped(app, "application/openmetrics-text")
    wanted = asked(deployment)
    assert len(wanted) > 20
    assert wanted - set(families(classic)) == set()
    assert ONCE_IT_HAPPENS - set(families(classic)) == set()
    for text in (classic, open_metrics):
        shown = samples(text)
        assert {what: names - shown for what, names in WANTED.items() if names - shown} == {}
    assert open_metrics.endswith("# EOF\n")
    (build,) = (line for line in classic.splitlines() if line.startswith("service_build_info{"))
    assert f'interlock="{version("interlock")}"' in build
    assert 'version="2.3.1"' in build


def samples(text: str) -> set[str]:
    """Return the names of the samples in a scrape."""
    return {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


async def scraped(app: App, accept: str = "") -> str:
    """Return what the operations port shows a scraper."""
    transport: Any = httpx2.ASGITransport(app=app.operations)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as operator:
        return (await operator.get("/metrics", headers={"accept": accept})).text
