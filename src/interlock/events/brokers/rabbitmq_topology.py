"""What stands on a RabbitMQ server: one exchange, and for each group a queue and a lease queue per partition.

All are durable; all queues are quorum queues, with a single active consumer where one member at a time may read.
"""

import asyncio
from collections.abc import Collection, Mapping

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from interlock.events.broker import PARTITIONS, partition_of
from interlock.events.envelope import Envelope

OLDEST = (3, 10)
"""The oldest server whose quorum queues have all that is used here."""

_DELIVERIES = 1000
"""How often an event is handed out before the server gives it up: a net below the attempts that consumers count."""

_UNLIMITED = 1_000_000_000
"""A delivery limit that is none; servers from 4.0 have one of 20 unless told."""

_BINDINGS_SIDE_BY_SIDE = 8


class Topology:
    """The names of one platform, all of which begin with `name`.

    With `expires`, for tests, the server removes what nobody used for so many seconds.
    """

    def __init__(self, name: str, *, expires: int = 0) -> None:
        if not name or not all(each.isascii() and (each.isalnum() or each in "-_") for each in name):
            raise ValueError(f"{name!r} can't name an exchange: letters, digits, '_' and '-' only")
        self.name = name
        self._expires = expires
        self.exchange = f"{name}.events"
        self.dead = f"{name}.dead"

    def queue(self, group: str, partition: int) -> str:
        """Return the queue of a group's partition."""
        return f"{self.name}.{group}.{partition:02}"

    def lease(self, group: str, partition: int) -> str:
        """Return the queue that says who holds a group's partition."""
        return f"{self.queue(group, partition)}.lease"

    def members(self, group: str) -> str:
        """Return the queue whose consumers are counted: the members of a group."""
        return f"{self.name}.{group}.members"

    def group_of(self, queue: str) -> str:
        """Return the group that a partition's queue belongs to."""
        return queue.removeprefix(f"{self.name}.").rpartition(".")[0]

    def queues(self, group: str) -> list[str]:
        """Return every queue of a group."""
        parts = range(PARTITIONS)
        return [
            self.members(group),
            *(self.queue(group, each) for each in parts),
            *(self.lease(group, each) for each in parts),
        ]

    def key(self, envelope: Envelope, group: str = "") -> str:
        """Return the routing key of an event, or of one for `group` alone."""
        return _key(partition_of(envelope.partition_key), group and f"group/{group}", envelope.type)

    async def make(self, channel: AbstractChannel) -> None:
        """Make, or check, what all groups share."""
        vanishes = bool(self._expires)
        await channel.declare_exchange(self.exchange, ExchangeType.DIRECT, durable=True, auto_delete=vanishes)
        await self._declare(channel, self.dead, {"x-single-active-consumer": True, "x-delivery-limit": _UNLIMITED})

    async def make_group(self, channels: Collection[AbstractChannel], group: str, types: Collection[str]) -> None:
        """Make, or check, the queues of a group, and bind them to what it consumes, over several channels at a time."""
        some = list(channels)
        await self._declare(some[0], self.members(group), {"x-delivery-limit": _UNLIMITED})

        async def share(number: int, channel: AbstractChannel) -> None:
            for partition in range(number, PARTITIONS, len(some)):
                await self._make_partition(channel, group, partition, types)

        await asyncio.gather(*(share(*each) for each in enumerate(some)))

    async def _make_partition(
        self, channel: AbstractChannel, group: str, partition: int, types: Collection[str]
    ) -> None:
        alone = {"x-single-active-consumer": True}
        queue = self.queue(group, partition)
        given_up: dict[str, int | str] = {
            "x-delivery-limit": _DELIVERIES,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # which at-least-once asks for
        }
        declared = await self._declare(channel, queue, {**alone, **given_up})
        await self._declare(channel, self.lease(group, partition), alone | {"x-delivery-limit": _UNLIMITED})
        for kind in (*types, ""):
            await declared.bind(self.exchange, _key(partition, "" if kind else f"group/{group}", kind))

    async def _declare(
        self, channel: AbstractChannel, name: str, arguments: Mapping[str, bool | int | str]
    ) -> AbstractQueue:
        given = {"x-queue-type": "quorum", **arguments}
        if self._expires:
            given["x-expires"] = self._expires * 1000
        return await channel.declare_queue(name, durable=True, arguments=given)  # type: ignore[arg-type]  # plain values


async def ready(channel: AbstractChannel, queue: str) -> int:
    """Return how many messages of a queue are with nobody; 0 if there is no such queue, and the channel is closed."""
    try:
        declared = await channel.declare_queue(queue, passive=True)
    except ChannelNotFoundEntity:
        return 0
    return declared.declaration_result.message_count or 0


async def consumers(channel: AbstractChannel, queue: str) -> int:
    """Return how many consumers a queue has."""
    declared = await channel.declare_queue(queue, passive=True)
    return declared.declaration_result.consumer_count or 0


def side_by_side() -> int:
    """Return over how many channels a group's queues are made."""
    return _BINDINGS_SIDE_BY_SIDE


def _key(partition: int, group: str, type_: str) -> str:
    return f"{partition:02}.{group or f'event/{type_}'}"
