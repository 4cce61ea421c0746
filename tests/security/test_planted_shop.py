"""Secrets planted in a run of the whole shop, and of a careless service beside it: found nowhere that anybody looks."""

import asyncio
import json
import logging
import os
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
import pytest
import structlog
from pydantic import ValidationError
from typer.testing import CliRunner

from interlock import App
from interlock.cli import build
from interlock.observability.logging import configure_logging
from interlock.platform import Platform, Running
from interlock.security.account_file import AccountFile
from interlock.security.api_keys import create_account, create_key
from interlock.server import StartError, serving
from interlock.settings import explain
from interlock.testing import Keyring, NoServer, Surroundings, platform_running, postgresql_databases
from shop import payments
from shop.config import HERE, ShopSettings
from shop.platform import platform
from tests.observability.receiver import collecting
from tests.shop.buying import BODY
from tests.waiting import until
from tests.web import documents_at

BROKER, DATABASE, CACHE, COLLECTOR = "planted-broker-0b", "planted-database-44", "planted-cache-9a", "planted-otlp-5f"
EXPORTER, ISSUER, PEPPER = "planted-exporter-77aa", "planted-issuer-c3d4", "planted-pepper-5f1c"
COOKIE, BASIC, PROXY, QUERY = "planted-cookie-11", "planted-basic-33", "planted-proxy-55", "planted-query-77"
NAME, STREET, CARD, FIELD, TEXT = (
    "planted-Ada",
    "planted-street-9",
    "planted-card-42",
    "planted-field-91",
    "planted-text",
)
RPC = "/api.order.v1.OrderService/CreateOrder"
OPERATIONS = ("/metrics", "/readyz", "/admin", "/admin/tasks", "/admin/errors", "/admin/health", "/admin/contract")
DOCUMENTS = ("/openapi.json", "/asyncapi.json", "/health", "/.well-known/jwks.json", "/docs")
SHOP = Platform(services={**platform.services, "careless": "tests.security.careless:make"}, gateway=platform.gateway)


def with_password(url: str, password: str) -> str:
    """Return a URL with a user and that password; the engines of the tests let anybody in."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or 'shop'}:{password}@{host}").geturl()


NO_BROKER, NO_DATABASE = (
    with_password("nats://127.0.0.1:1", BROKER),
    with_password("postgresql://127.0.0.1:1/x", DATABASE),
)


class Visitor:
    """Somebody who looks at a running shop; `seen` is every text that was there to be read, by what it was."""

    def __init__(self, running: Running) -> None:
        self.seen: dict[str, str] = {}
        self._running = running
        self._urls = {name: each.url for name, each in running.services.items()} | {"gateway": running.gateway.url}

    async def ask(self, name: str, path: str, status: int, **request: Any) -> httpx2.Response:
        """Ask over HTTP; an answer that refuses is seen."""
        async with httpx2.AsyncClient(base_url=self._urls[name], timeout=30) as client:
            answer = await client.request(request.pop("method", "POST"), path, **request)
        assert answer.status_code == status, (name, path, answer.text)
        if status >= 400:
            self.seen[f"{name} {path} {len(self.seen)}"] = answer.text + str(answer.headers)
        return answer

    async def pages(self) -> None:
        """See metrics, admin pages and documents of every service."""
        for name, app in self._running.apps.items():
            transport: Any = httpx2.ASGITransport(app=app.operations)
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as operator:
                for path in OPERATIONS:
                    for accept in ("*/*", "application/openmetrics-text"):
                        answer = await operator.get(path, headers={"accept": accept})
                        assert answer.status_code in (200, 503), (name, path, answer.text)
                        self.seen[f"{name} {path} {accept}"] = answer.text
            for path in DOCUMENTS:
                self.seen[f"{name} {path}"] = (await self.ask(name, path, 200, method="GET")).text

    async def settled(self, order_id: str, headers: dict[str, str]) -> str:
        """Return what became of an order."""
        status = ""

        async def told() -> bool:
            nonlocal status
            answer = await self.ask("gateway", f"/api/v1/orders/{order_id}", 200, method="GET", headers=headers)
            status = answer.json()["data"]["status"].removeprefix("ORDER_STATUS_")
            return bool(status != "PENDING")

        await until(told, 40)
        return status


async def orders(visitor: Visitor, customer: str, operator: str) -> None:
    """Have one order paid for and one not, and take in a customer."""
    ask = visitor.ask
    headers = {"authorization": f"Bearer {customer}", "cookie": f"session={COOKIE}"}
    admin = {"authorization": f"Bearer {operator}"}
    address = {"street": STREET, "city": "Bergen", "country_code": "NO"}
    rule = {"rule": {"customer_id": "c-2", "refuse": True}}
    await ask("payments", "/api.payment.v1.PaymentService/SetProviderRule", 200, json=rule, headers=admin)
    for payer, status in (("c-1", "CONFIRMED"), ("c-2", "CANCELLED")):
        body = BODY | {"customer_id": payer, "shipping_address": address, "payment_method": {"card_token": CARD}}
        keyed = headers | {"idempotency-key": str(uuid4())}
        placed = await ask("gateway", "/api/v1/orders", 201, json=body, headers=keyed)
        assert await visitor.settled(placed.json()["data"]["id"], headers) == status
    person = {"name": NAME, "email": f"{NAME}@b.example"}
    await ask("gateway", "/api/v1/customers", 201, json=person, headers=admin)
    await ask("gateway", "/api/v1/customers", 403, json=person, headers=headers)
    await ask("gateway", "/api/v1/customers", 400, json=person | {"email": NAME}, headers=admin)


async def refusals(visitor: Visitor, good: str, key: str, revoked: str) -> None:
    """Come with every kind of credential that does not count, and with bodies that are broken, at two doors."""
    ask = visitor.ask
    for headers in (
        {"authorization": f"Bearer {good[:-8]}AAAAAAAA"},
        {"authorization": f"Token {good}"},
        {"authorization": f"Basic {b64encode(f'shop:{BASIC}'.encode()).decode()}"},
        {"x-api-key": revoked},
        {"x-api-key": f"{key}0"},
        {"x-api-key": key, "authorization": f"Bearer {good}"},
        {"cookie": f"session={COOKIE}", "proxy-authorization": f"Basic {PROXY}"},
    ):
        for path in ("/api/v1/orders", RPC):
            await ask("gateway", path, 401, json=BODY, headers=headers)
            await ask("orders", path, 401, json=BODY, headers=headers)
    await ask("gateway", "/api/v1/orders", 401, method="GET", params={"access_token": good, "x": QUERY})
    await ask("gateway", "/api/v1/nowhere", 404, method="GET", params={"token": QUERY})
    headers = {"authorization": f"Bearer {good}", "content-type": "application/json"}
    for broken in (
        json.dumps({"password": FIELD, "customer_id": [FIELD]}),
        json.dumps(BODY | {"payment_method": {"card_token": {CARD: FIELD}}}),
        '{"customer_id": "c-1", "payment_method": {"card_token": "' + CARD,
        TEXT,
    ):
        for path in ("/api/v1/orders", RPC):
            keyed = headers | {"idempotency-key": str(uuid4())}
            await ask("gateway", path, 400, content=broken, headers=keyed)
    form = {"grant_type": "client_credentials", "client_id": "billing", "client_secret": revoked}
    await ask("gateway", "/oauth/token", 401, data=form)
    whispering = {"json": {"text": "x"}, "headers": {"x-api-key": key, "cookie": f"a={COOKIE}"}}
    await ask("careless", "/v1/whisper", 500, **whispering)
    await ask("gateway", "/api/v1/orders", 200, method="GET", headers={"x-api-key": key})


def commands() -> Iterator[tuple[str, str]]:
    """Yield what commands print with the settings that stand in the environment, and where nothing answers."""
    away = {"INTERLOCK_BROKER": NO_BROKER, "INTERLOCK_ACCOUNTS": NO_DATABASE, "INTERLOCK_DATABASE_URL": NO_DATABASE}
    for line, changed in (
        ("show settings", {}),
        ("show settings --json", {}),
        ("doctor shop.payments:make", {}),
        ("doctor shop.payments:make", away),
        ("accounts list", away),
        ("show settings", {"INTERLOCK_OTLP_HEADERS": EXPORTER}),
        ("show settings", {"INTERLOCK_TLS_KEY": EXPORTER, "INTERLOCK_BROKER": NO_BROKER}),
    ):
        words = line.split()
        result = CliRunner(env=changed).invoke(build(words), words)
        failed = "".join(traceback.format_exception(result.exception)) if result.exception is not None else ""
        yield f"{line} {changed}", result.output + failed


async def failures() -> AsyncIterator[tuple[str, str]]:
    """Yield what is told of a service that cannot be made or started, with the traceback."""
    for changed in (
        {"broker": NO_BROKER},
        {"broker": with_password("kafka://127.0.0.1:1", BROKER)},
        {"database_url": NO_DATABASE},
        {"database_url": with_password("mysql://127.0.0.1:1/x", DATABASE)},
        {"database_url": f"postgresql:{DATABASE}"},
        {"otlp_endpoint": with_password("ftp://127.0.0.1:1", COLLECTOR)},
        {"jwks": with_password("ftp://127.0.0.1:1", ISSUER)},
        {"tls_key": EXPORTER},
    ):
        try:
            async with serving(payments.make(ShopSettings(service_name="payments", **changed))):  # type: ignore[arg-type]
                raise AssertionError(changed)
        except (StartError, ValueError, OSError) as error:
            told = explain(error) if isinstance(error, ValidationError) else str(error)
            yield str(changed), told + "".join(traceback.format_exception(error))


@pytest.fixture
async def urls(nats_url: str) -> AsyncIterator[dict[str, str]]:
    """Broker and databases, each reached with a password."""
    try:
        async with postgresql_databases([*SHOP.services]) as databases:
            yield {
                "broker": f"{with_password(nats_url, BROKER)}?stream=planted{uuid4().hex[:8]}",
                "database_url": with_password(databases, DATABASE),
            }
    except NoServer as reason:
        pytest.skip(f"NOT TESTED with passwords in URLs: {reason}")


@pytest.fixture
def logs() -> Iterator[dict[str, StringIO]]:
    """What the process logs, all of it, in both forms; as before after the test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    streams, handlers = {"json": StringIO(), "pretty": StringIO()}, []
    for form, stream in streams.items():
        configure_logging("debug", form, stream)  # type: ignore[arg-type]
        handlers += root.handlers
    root.handlers[:] = handlers
    yield streams
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


async def test_no_planted_secret_is_anywhere(
    tmp_path: Path, urls: dict[str, str], logs: dict[str, StringIO], capfd: pytest.CaptureFixture[str]
) -> None:
    """Orders paid and not, refusals of every kind, broken bodies, exceptions, and places that do not answer."""
    keyring, store = Keyring(tmp_path / "keys"), AccountFile(tmp_path / "accounts.json")
    customer, operator = keyring.token("customer"), keyring.token("operator")
    await create_account(store, "billing", ["operator", "whisperer"])
    kept, key = await create_key(store, "billing", pepper=PEPPER.encode())
    revoked_key, revoked = await create_key(store, "billing", pepper=PEPPER.encode())
    await store.revoke(revoked_key.id, 0.0)
    roles = (HERE / "roles.yaml").read_text().replace("\nroles:\n", "\nroles:\n  whisperer: ['sample:whisper']\n")
    (tmp_path / "roles.yaml").write_text(roles)
    (private,) = (tmp_path / "keys").glob("*.pem")
    documents = {f"/jwks?api_key={QUERY}": (tmp_path / "keys" / "jwks.json").read_bytes()}
    with collecting() as collector, documents_at(documents) as place:
        jwks = {"there": f"{with_password(place, ISSUER)}/jwks?api_key={QUERY}"}
        jwks["away"] = f"http://shop:{ISSUER}@127.0.0.1:1/jwks?key={QUERY}"
        issuers = {name: {"issuer": name, "jwks": url} for name, url in jwks.items()}
        settings: dict[str, Any] = {
            **urls,
            "roles": tmp_path / "roles.yaml",
            "accounts": tmp_path / "accounts.json",
            "accounts_pepper": PEPPER,
            "token_endpoint": True,
            "rate_limit_redis": f"redis://:{CACHE}@127.0.0.1:1/0",
            "issuers": json.dumps(issuers),
            "otlp_endpoint": with_password(collector.url, COLLECTOR),
            "otlp_headers": json.dumps({"x-key": EXPORTER}),
            "trace_ratio": 1,
            "log_level": "debug",
        }
        surroundings = Surroundings(directory=tmp_path, keys=keyring)
        async with platform_running(SHOP, surroundings, **settings) as shop:
            visitor = Visitor(shop.running)
            seen = visitor.seen
            await orders(visitor, customer, operator)
            await refusals(visitor, operator, key, revoked)
            await visitor.pages()
            apps: list[App] = list(shop.running.apps.values())
            seen["reprs"] = repr([(app, vars(app), app.settings, app._parts, app.database) for app in apps])
            seen["dumps"] = "".join(app.settings.model_dump_json() + str(app.settings.model_dump()) for app in apps)
        seen["traces"] = "".join(each.decode("latin-1") for each in collector.bodies)
        with surroundings.around(settings):
            seen |= dict(await asyncio.to_thread(lambda: list(commands())))
            seen |= {what: told async for what, told in failures()}
    seen |= {f"log, {form}": stream.getvalue() for form, stream in logs.items()}
    seen["output"] = "".join(capfd.readouterr())
    assert os.environ.get("INTERLOCK_BROKER") is None

    # what would show a secret, if anything did, has been there
    assert {"orders", "payments", "inventory", "customers", "gateway"} <= {each.service for each in collector.spans}
    for text in ('"audit": "refused"', '"audit": "privileged"', "Traceback", "careless", "Redis", "127.0.0.1:1/"):
        assert text in seen["log, json"], text
    assert '"endpoint"' in seen["output"]
    for where in ("log, pretty", "show settings {}", "reprs"):
        assert "nats://shop:…@" in seen[where], where
    secrets = {
        *(BROKER, DATABASE, CACHE, COLLECTOR, EXPORTER, ISSUER, PEPPER, COOKIE, BASIC, PROXY, QUERY),
        *(NAME, STREET, CARD, FIELD, TEXT, b64encode(f"shop:{BASIC}".encode()).decode()),
        *(customer.rpartition(".")[2], operator.rpartition(".")[2], operator.split(".")[1]),
        *(key.rpartition("_")[2], revoked.rpartition("_")[2], kept.hash.hex(), private.read_text().splitlines()[1]),
    }
    found = [(each, where, around(text, each)) for where, text in seen.items() for each in secrets if each in text]
    assert not found


def around(text: str, secret: str) -> str:
    """Return where a secret stands, for whoever must find out why."""
    at = text.index(secret)
    return text[max(0, at - 200) : at + 60]
