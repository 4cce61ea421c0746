"""A broker whose acknowledgements get lost now and then, so that it delivers events twice, as real ones may."""

from collections.abc import Collection
from itertools import count
from typing import Any

from interlock.events.broker import Broker


class Forgetful:
    """Hands everything on to a broker, but loses every fifth acknowledgement.

    By turns the event comes again as one tried before, as when its consumer died; or as one new, as when its publisher
    died behind the broker's answer and the broker had forgotten its id.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._acks = count(1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def subscribe(self, group: str, types: Collection[str]) -> "_Subscription":
        """Join the group."""
        return _Subscription(self, await self._broker.subscribe(group, types), group)

    async def lose(self, delivery: Any, group: str) -> None:
        """Settle an event, or fail to."""
        match next(self._acks) % 10:
            case 0:
                await delivery.nack(0.0)
            case 5:
                await self._broker.publish([delivery.envelope], group=group)
                await delivery.ack()
            case _:
                await delivery.ack()


class _Subscription:
    def __init__(self, broker: Forgetful, inner: Any, group: str) -> None:
        self._broker, self._inner, self._group = broker, inner, group

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def next(self) -> "_Delivery":
        return _Delivery(self._broker, await self._inner.next(), self._group)

    def more(self, after: Any, most: int) -> "list[_Delivery]":
        found = self._inner.more(after.inner, most)
        return [_Delivery(self._broker, each, self._group) for each in found]

    async def settle(self, deliveries: "list[_Delivery]") -> None:
        for each in deliveries:
            await each.ack()


class _Delivery:
    def __init__(self, broker: Forgetful, inner: Any, group: str) -> None:
        self._broker, self.inner, self._group = broker, inner, group

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def ack(self) -> None:
        await self._broker.lose(self.inner, self._group)
