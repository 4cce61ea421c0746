"""The gateway at the edge: what it takes from callers, and what it tells them."""

import pytest

from interlock.platform import gateway
from interlock.testing import Apps, Surroundings
from shop import customers
from shop.config import ShopSettings
from shop.gen.api.customer.v1.customer_rpc import CustomerServiceClient
from shop.gen.api.order.v1.order_rpc import OrderServiceClient
from tests.shop.buying import BODY

TRACE_ID, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "environment, heeds, sampled",
    [
        ("development", None, True),
        ("production", None, False),
        ("production", True, True),
        ("development", False, False),
    ],
)
@pytest.mark.parametrize("port", [False, True], ids=["in process", "gRPC"])
async def test_whether_a_callers_sampling_stands(
    app: Apps, surroundings: Surroundings, environment: str, heeds: bool | None, *, sampled: bool, port: bool
) -> None:
    """In production a gateway decides itself unless it is told otherwise; the trace goes on either way, told once."""
    known = await app(customers.make, log_level="error", port=port)
    with surroundings.around({"log_level": "error", "environment": environment, "trace_ratio": "0"}):
        settings = ShopSettings(service_name="gateway", trace_heeds_callers=heeds)
    edge = gateway(CustomerServiceClient(str(known.address) if port else known.app), settings=settings)
    http = (await app(edge, port=True)).http("operator")
    for path, status in (("c-1", 200), ("c-nobody", 404)):
        answer = await http.get(f"/api/v1/customers/{path}", headers={"traceparent": f"00-{TRACE_ID}-{PARENT}-01"})
        assert answer.status_code == status
        (told,) = answer.headers.get_list("traceresponse")
        version, trace_id, span_id, flags = told.split("-")
        assert (version, trace_id, flags) == ("00", TRACE_ID, "01" if sampled else "00")
        assert span_id != PARENT


async def test_a_service_heeds_its_callers_in_production(app: Apps) -> None:
    """They are the platform's own, and a trace that is sampled is whole."""
    http = (await app(customers.make, port=True, environment="production", log_level="error")).http("operator")
    answer = await http.get("/api/v1/customers/c-1", headers={"traceparent": f"00-{TRACE_ID}-{PARENT}-01"})
    assert answer.headers["traceresponse"].endswith("-01")


@pytest.mark.parametrize("key", [None, "grün".encode("latin-1")])
async def test_a_keyed_call_needs_a_key_at_the_edge(app: Apps, surroundings: Surroundings, key: bytes | None) -> None:
    """The gateway's client would give each repetition a key of its own; a key that no header may hold is a 400 too."""
    with surroundings.around({"log_level": "error"}):
        settings = ShopSettings(service_name="gateway")
    edge = gateway(OrderServiceClient("127.0.0.1:1"), settings=settings)  # never reached
    http = (await app(edge, port=True)).http("operator")
    headers = [] if key is None else [(b"idempotency-key", key)]
    answer = await http.post("/api/v1/orders", json=BODY, headers=headers)
    assert (answer.status_code, answer.json()["error"]["details"][0]["field"]) == (400, "idempotency-key")
