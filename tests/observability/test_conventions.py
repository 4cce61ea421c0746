"""Spans speak the language of OpenTelemetry: attributes that its conventions know, and those that they ask for."""

import pkgutil
from importlib import import_module
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as incubating

from interlock.testing import Keyring, Surroundings, platform_running
from shop.platform import platform
from tests.observability.receiver import Span, collecting
from tests.shop.buying import Buyer

FAMILIES = ("http", "rpc", "db", "messaging")
REQUIRED = {
    ("SERVER", "http"): {"http.request.method", "http.route", "http.response.status_code", "url.scheme"},
    ("SERVER", "rpc"): {"rpc.system.name", "rpc.method", "rpc.response.status_code"},
    ("CLIENT", "rpc"): {"rpc.system.name", "rpc.method", "server.address", "server.port"},
    ("CLIENT", "db"): {"db.system.name", "db.operation.name", "db.query.summary"},
    ("PRODUCER", "messaging"): {"messaging.system", "messaging.operation.name", "messaging.operation.type"},
    ("CONSUMER", "messaging"): {
        "messaging.system",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.destination.name",
        "messaging.consumer.group.name",
        "messaging.message.id",
    },
}
"""What the conventions ask for, by kind of span and system, but for `url.path`, which may hold what is private."""
OURS = ("interlock.", "error.reason", "order.", "customer.", "items.", "product.", "payment.")
"""Attributes of our own, and those that the shop's contract chose."""


def known() -> set[str]:
    """Return the names of all attributes of the conventions."""
    names: set[str] = set()
    for package in (stable, incubating):
        for module in pkgutil.iter_modules(package.__path__):
            found = vars(import_module(f"{package.__name__}.{module.name}"))
            names |= {value for name, value in found.items() if name.isupper() and isinstance(value, str)}
    return names


def family_of(span: Span) -> str:
    """Return which conventions a span follows."""
    return next(family for family in FAMILIES if any(each.startswith(f"{family}.") for each in span.attributes))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spans(tmp_path_factory: pytest.TempPathFactory, keys: Keyring) -> list[Span]:
    """What a collector got of one order, from the gateway to the last event."""
    surroundings = Surroundings(directory=tmp_path_factory.mktemp("shop"), keys=keys)
    with collecting() as collector:
        settings: dict[str, Any] = {"otlp_endpoint": collector.url, "trace_ratio": "1", "log_level": "error"}
        async with platform_running(platform, surroundings, **settings) as served:
            buyer = Buyer(served)
            placed = await buyer.order()
            assert placed.status_code == 201, placed.text
            await buyer.settled(placed.json()["data"]["id"])
            assert (await buyer.http.get("/api/v1/orders/o-none")).status_code == 404
        return collector.spans


def test_every_attribute_is_one_of_the_conventions(spans: list[Span]) -> None:
    """Or plainly ours."""
    names = {name for each in spans for name in each.attributes}
    assert {name for name in names - known() if not name.startswith(OURS)} == set()
    assert len(names) > 25


@pytest.mark.parametrize("kind, family", REQUIRED)
def test_spans_tell_what_the_conventions_ask_for(spans: list[Span], kind: str, family: str) -> None:
    """Each kind of span has the attributes that a reader of traces looks for."""
    wanted = REQUIRED[kind, family]
    found = [each for each in spans if each.kind == kind and family_of(each) == family]
    if (kind, family) == ("CLIENT", "rpc"):  # a call with all attempts goes to no one server; each attempt does
        found = [each for each in found if each.name.endswith(" attempt")]
    assert found
    assert {each.name: wanted - set(each.attributes) for each in found if wanted - set(each.attributes)} == {}


def test_a_batch_that_leaves_the_outbox_is_linked_to_its_events(spans: list[Span]) -> None:
    """Who looks at an event finds the batch that brought it to the broker, and how long that took."""
    batches = [each for each in spans if each.name == "relay"]
    published = {each.span_id: each for each in spans if each.name.startswith("publish ")}
    linked = [link for each in batches for link in each.links]
    assert set(linked) == set(published)
    assert sum(each.attributes["messaging.batch.message_count"] for each in batches) == len(linked)
    assert not {each.trace_id for each in batches} & {each.trace_id for each in published.values()}
