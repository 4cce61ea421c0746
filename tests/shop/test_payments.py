"""The payment service and its events, on a broker in memory."""

from collections.abc import AsyncIterator

import pytest

from interlock import App
from interlock.testing.events import Events
from shop import payments
from shop.config import ShopSettings
from shop.gen.api.inventory.v1.events_pb import InventoryReserved
from shop.gen.api.money.v1.money_pb import Money
from shop.gen.api.payment.v1.events_pb import PaymentCompleted, PaymentFailed

PRICE = Money(currency_code="EUR", units=12)


@pytest.fixture
def events() -> Events:
    """The events of one test."""
    return Events()


@pytest.fixture
async def app(shop_settings: ShopSettings, events: Events) -> AsyncIterator[App]:
    """The payment service, at work."""
    database = shop_settings.database("payments", payments.metadata)
    made = App(payments.Payments(database), database=database, settings=shop_settings, broker=events.broker)
    async with made:
        yield made


async def test_what_is_reserved_is_paid(app: App, events: Events) -> None:
    """A reservation is charged, and the payment told."""
    await events.publish(InventoryReserved(order_id="o-1", customer_id="c-1", amount=PRICE))
    await events.settled(app)
    assert events.assert_published(PaymentCompleted, order_id="o-1").amount == PRICE
    assert events.published(PaymentFailed) == []


async def test_a_refused_payment_is_told(app: App, events: Events) -> None:
    """A provider that refuses is no failure of the event: it is processed, and the refusal told."""
    async with app.database.transaction() as tx:  # type: ignore[union-attr]  # it has one
        await tx.execute(payments.rules.insert().values(customer_id="c-1", refuse=True))
    await events.publish(InventoryReserved(order_id="o-1", customer_id="c-1", amount=PRICE))
    await events.settled(app)
    assert "refused" in events.assert_published(PaymentFailed, order_id="o-1").failure
    events.assert_consumed(InventoryReserved, order_id="o-1")
