import copy
import json
import logging
from typing import Any

import pytest

from interlock.contract.asyncapi import asyncapi
from interlock.platform.events import check_events, documents_of
from interlock.server import serving
from interlock.server.application import StartError
from interlock.server.embedded import Address
from shop.gen.api.order.v1.order_rpc import ORDER_SERVICE
from tests.sample.handlers import make

SHOP = ORDER_SERVICE.image.contract


def documents() -> dict[str, Any]:
    """The shop's services as each tells of itself."""
    return {each.short_name: asyncapi(SHOP, services=[each]) for each in SHOP.services}


def test_a_platform_that_fits_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What the shop's services publish and consume matches."""
    check_events(documents())
    assert caplog.records == []


def test_waiting_for_what_nobody_publishes_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A subscription without a publisher is named, with the remedy and the nearest type there is."""
    known = documents()
    sent = known["PaymentService"]["operations"]
    known["PaymentService"]["operations"] = {name: each for name, each in sent.items() if "completed" not in name}
    with caplog.at_level(logging.WARNING, logger="interlock"):
        check_events(known)
    (record,) = caplog.records
    assert "OrderService waits for payment.completed, which no service of this platform publishes" in record.message
    assert "publishes: 'payment.completed'" in record.message


def test_two_publishers_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """An event that two services publish has no owner."""
    known = documents()
    known["Copy"] = copy.deepcopy(known["PaymentService"])
    with caplog.at_level(logging.WARNING, logger="interlock"):
        check_events(known)
    assert any("payment.completed is published by" in each.message for each in caplog.records)


def test_different_messages_stop_the_start() -> None:
    """A consumer that knows an event as another message, or a field with another type, is refused."""
    known = json.loads(json.dumps(documents()))
    message = known["OrderService"]["components"]["messages"]["PaymentCompleted"]
    message["x-proto-message"] = "api.old.PaymentCompleted"
    with pytest.raises(StartError, match=r"OrderService knows payment.completed otherwise than PaymentService"):
        check_events(known)
    known = json.loads(json.dumps(documents()))
    known["OrderService"]["components"]["schemas"]["PaymentCompleted"]["properties"]["order_id"] = {"type": "integer"}
    with pytest.raises(StartError, match=r"order_id is string there, and integer here"):
        check_events(known)


def test_a_field_that_one_side_lacks_is_no_difference() -> None:
    """Fields come and go with releases, as proto allows."""
    known = json.loads(json.dumps(documents()))
    del known["OrderService"]["components"]["schemas"]["PaymentCompleted"]["properties"]["completed_at"]
    check_events(known)


async def test_running_services_are_asked() -> None:
    """Documents are fetched from those that answer; one that is not there is left out."""
    app = make()
    async with serving(app) as address:
        found = await documents_of({"sample": address, "gone": Address(host="127.0.0.1", port=1)})
    assert found == {"sample": json.loads(app.asyncapi())}
