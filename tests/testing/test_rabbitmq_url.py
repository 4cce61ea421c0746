from interlock.events.broker import open_broker
from tests.events.broker_suite import TYPES, event, take


async def test_a_test_has_a_broker_of_its_own(rabbitmq_url: str) -> None:
    """The fixture's URL opens a broker with names of its own, which takes and hands out events."""
    broker = open_broker(rabbitmq_url)
    await broker.start()
    member = await broker.subscribe("orders", TYPES)
    await broker.publish([event("o-1")])
    (delivery,) = await take(member, 1, limit=30.0)
    await delivery.ack()
    await broker.stop()
