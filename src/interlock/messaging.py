"""The events of an app: what it publishes goes through its outbox to the broker, what it subscribes to is consumed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from protobuf import Message

from interlock.call import Handler, compose
from interlock.contract.model import Event, Operation, Service
from interlock.defaults import Parts, Placed, consumed, insert, published
from interlock.errors import Unavailable
from interlock.events.attempts import Redelivery
from interlock.events.broker import Broker, open_broker
from interlock.events.consumer import Consumer
from interlock.events.publisher import Publisher
from interlock.observability.stores import observe_lag, observe_outbox
from interlock.protocols.serving import failure

if TYPE_CHECKING:
    from interlock.events.relay import Relay

log = logging.getLogger("interlock")

Subscribed = Sequence[tuple[Operation, Handler]]


class Messaging:
    """The publisher, relay and consumers of one app, over one broker; nothing where it has no events.

    A broker given by URL is opened and closed here; one given as an object is its owner's to start and stop. Up to
    `batch` consumed events share a transaction, where there is a database.
    """

    def __init__(
        self,
        services: Sequence[Service],
        events: Iterable[Event],
        subscribed: Sequence[Subscribed],
        parts: Parts,
        *,
        broker: str | Broker,
        layers: Iterable[Placed] = (),
        batch: int = 1,
    ) -> None:
        self.broker: Broker | None = None
        self._ours = isinstance(broker, str)
        self._relay: Relay | None = None
        self._consumers: list[Consumer] = []
        self._publisher: Publisher | None = None
        self._started = False
        publishes = any(each.publishes for each in services)
        if not publishes and not any(subscribed):
            return
        self.broker = open_broker(broker) if isinstance(broker, str) else broker
        if publishes:
            self._publisher = Publisher(services, events, layers=published(parts), broker=self.broker)
        if publishes and parts.database is not None:
            from interlock.events import relay  # noqa: PLC0415 - with SQLAlchemy, where there is a database

            parts.database.publisher = self._publisher
            observe_outbox(parts.database, parts.metrics)
            self._relay = relay.Relay(parts.database, self.broker, relayed=parts.tracing.relayed)
        stack = insert(consumed(parts, self.broker, Redelivery()), layers)
        for group in filter(None, subscribed):
            chains = [(operation, compose(stack, operation, handler)) for operation, handler in group]
            together = batch if parts.database is not None else 1
            self._consumers.append(Consumer(self.broker, chains, failure=failure, batch=together))
        groups = {group[0][0].service: [each.name for each, _ in group] for group in subscribed if group}
        if groups:
            observe_lag(self.broker, groups, parts.metrics)

    async def start(self) -> None:
        """Open the broker, then relay and consume; BrokerUnavailable if it can't be opened."""
        if self.broker is None:
            return
        if self._ours:
            await self.broker.start()
        self._started = True
        if self._relay is not None:
            await self._relay.start()
        for consumer in self._consumers:
            await consumer.start()

    async def publish(self, event: Message[Any]) -> str:
        """Send `event` to the broker now; return its id."""
        if self._publisher is None:
            raise RuntimeError("this app publishes no events; declare them at its service: `publishes: …`")
        if not self._started:
            raise RuntimeError("the app is not started, so its broker takes no events")
        return await self._publisher.publish(event)

    async def drain(self, limit: float) -> None:
        """Take no more events, and let what runs end within `limit` seconds."""
        await asyncio.gather(*(consumer.drain(limit) for consumer in self._consumers))

    async def stop(self) -> None:
        """Flush the outbox and let go of the broker, if it is ours; each even if one before it failed."""
        self._started = False
        stops: list[Callable[[], Awaitable[None]]] = [consumer.stop for consumer in self._consumers]
        if self._relay is not None:
            stops.append(self._relay.stop)
        if self.broker is not None and self._ours:
            stops.append(self.broker.stop)
        for stop in stops:
            try:
                await stop()
            except Exception:
                log.exception("the events of this app did not end well")

    async def check(self) -> None:
        """Raise if the broker does not answer, or events that come now would be missed."""
        if self.broker is None:
            return
        await self.broker.ping()
        for each in self._consumers:
            if not each.subscribed_at_broker:
                raise Unavailable(f"the consumer of {each.group} has not subscribed yet")
