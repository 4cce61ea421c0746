"""The events of an app: what it publishes goes through its outbox to the broker, what it subscribes to is consumed."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from interlock.call import Handler, compose
from interlock.contract.model import Event, Operation, Service
from interlock.defaults import Parts, Placed, consumed, insert, published
from interlock.events.attempts import Redelivery
from interlock.events.broker import Broker, open_broker
from interlock.events.consumer import Consumer
from interlock.events.publisher import Publisher
from interlock.protocols.serving import failure

if TYPE_CHECKING:
    from interlock.events.relay import Relay

Subscribed = Sequence[tuple[Operation, Handler]]


class Messaging:
    """The publisher, relay and consumers of one app, over one broker; nothing where it has no events."""

    def __init__(
        self,
        services: Sequence[Service],
        events: Iterable[Event],
        subscribed: Sequence[Subscribed],
        parts: Parts,
        *,
        broker: str | Broker,
        layers: Iterable[Placed] = (),
    ) -> None:
        self._parts = parts
        self.broker: Broker | None = None
        self._relay: Relay | None = None
        self._consumers: list[Consumer] = []
        publishes = any(each.publishes for each in services)
        if not publishes and not any(subscribed):
            return
        self.broker = open_broker(broker) if isinstance(broker, str) else broker
        if publishes and parts.database is not None:
            from interlock.events.relay import Relay  # noqa: PLC0415 - with SQLAlchemy, where there is a database

            publisher = Publisher(services, events, layers=published(parts), broker=self.broker)
            parts.database.publisher = publisher
            self._relay = Relay(parts.database, self.broker)
        stack = insert(consumed(parts, self.broker, Redelivery()), layers)
        for group in filter(None, subscribed):
            chains = [(operation, compose(stack, operation, handler)) for operation, handler in group]
            self._consumers.append(Consumer(self.broker, chains, failure=failure))

    async def start(self) -> None:
        """Open the broker, then relay and consume; BrokerUnavailable if it can't be opened."""
        if self.broker is None:
            return
        await self.broker.start()
        if self._relay is not None:
            await self._relay.start()
        for consumer in self._consumers:
            await consumer.start()

    async def drain(self, limit: float) -> None:
        """Take no more events, and let what runs end within `limit` seconds."""
        await asyncio.gather(*(consumer.drain(limit) for consumer in self._consumers))

    async def stop(self) -> None:
        """Flush the outbox and let go of the broker."""
        for consumer in self._consumers:
            await consumer.stop()
        if self._relay is not None:
            await self._relay.stop()
        if self.broker is not None:
            await self.broker.stop()

    async def check(self) -> None:
        """Raise if the broker does not answer."""
        if self.broker is not None:
            await self.broker.ping()
