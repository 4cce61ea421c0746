"""What the contract calls sensitive, and what names a credential, stands in no log."""

import io
import json
import logging

import pytest
import structlog

from interlock.observability.logging import configure_logging
from interlock.observability.masking import MASK, mask, masked
from shop.gen.api.order.v1.order_pb import Address, CreateOrderRequest, OrderItem, PaymentMethod
from shop.gen.api.order.v1.order_rpc import CREATE_ORDER
from tests.shop.test_orders import TOKEN


def request() -> CreateOrderRequest:
    """Return an order with a card's token."""
    return CreateOrderRequest(
        customer_id="c-1",
        items=[OrderItem(product_id="p-cup", quantity=2)],
        shipping_address=Address(city="Bergen"),
        payment_method=PaymentMethod(method=TOKEN),
    )


def test_sensitive_fields_of_a_message_are_masked() -> None:
    """At any depth; the rest is there by the contract's names."""
    assert CREATE_ORDER.request_type is CreateOrderRequest
    shown = masked(request())
    assert shown["customer_id"] == "c-1"
    assert shown["items"] == [{"product_id": "p-cup", "quantity": 2}]
    assert "tok-visa" not in json.dumps(shown)
    assert MASK in json.dumps(shown)


@pytest.mark.parametrize("key", ["password", "Authorization", "api-key", "X_API_KEY", "token", "DB-Password"])
def test_values_of_secret_keys_are_masked(key: str) -> None:
    """In any case and spelling, also within a mapping."""
    line = mask(None, "info", {key: "hush", "event": "x", "headers": {key: "hush", "accept": "y"}})
    assert line == {key: MASK, "event": "x", "headers": {key: MASK, "accept": "y"}}


@pytest.mark.parametrize(
    "value",
    [
        [{"password": "hush"}],
        {"rows": [[{"password": "hush"}]]},
        [("accept", "y"), ("Authorization", "hush")],
        ((b"x-api-key", b"hush"), (b"accept", b"y")),
        {b"authorization": b"hush"},
        [request(), {"token": "tok-visa"}],
    ],
)
def test_what_is_held_by_lists_and_pairs_is_masked(value: object) -> None:
    """As raw header fields are, and rows."""
    shown = str(mask(None, "info", {"event": "x", "value": value}))
    assert MASK in shown
    assert "hush" not in shown
    assert "tok-visa" not in shown


def test_what_holds_itself_ends() -> None:
    """A mapping without end is cut."""
    endless: dict[str, object] = {"token": "hush"}
    endless["self"] = [endless]
    assert "hush" not in str(mask(None, "info", {"event": "x", "value": endless}))


def test_a_line_of_either_logger_is_masked() -> None:
    """structlog's keywords and the standard library's `extra` alike."""
    root = logging.getLogger()
    before, level, stream = root.handlers[:], root.level, io.StringIO()
    try:
        configure_logging("info", "json", stream)
        structlog.get_logger().info("placed", order=request(), token="hush")
        logging.getLogger("theirs").info("placed", extra={"password": "hush", "order": request()})
        for log in (structlog.get_logger(), logging.getLogger("theirs")):
            log.info("got %s and %r, %d", request(), [request()], 3, extra={})
            log.info("got %(order)s", {"order": request(), "token": "hush"})
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["order"]["customer_id"] for each in lines[:2]] == ["c-1", "c-1"]
    assert all("'customer_id': 'c-1'" in each["event"] for each in lines[2:])
    assert len(lines) == 6
    assert "hush" not in stream.getvalue()
    assert "tok-visa" not in stream.getvalue()
