"""A delivery on RabbitMQ, the seat that it came from, and how its attempts are counted."""

import asyncio
import time
from typing import TYPE_CHECKING

from aio_pika.abc import AbstractChannel

from interlock.events.broker import LeaseLost
from interlock.events.brokers.rabbitmq_lease import Lease
from interlock.events.envelope import Envelope
from interlock.events.lane import Item, Lane

if TYPE_CHECKING:
    from interlock.events.brokers.rabbitmq_member import Member


class Seat:
    """One partition held: its channel, its lease, its lane."""

    def __init__(self, channel: AbstractChannel, lease: Lease, lane: Lane) -> None:
        self.channel = channel
        self.lease = lease
        self.lane = lane
        self.surrender = asyncio.Event()
        self.caught_up = False

    def expected(self, item: Item) -> int:
        """Return how many attempts another holder would take the event to have had."""
        return self.lease.state.tried.get(_name(item.envelope), 1)

    async def note(self, items: list[Item]) -> None:
        """Make the attempts of events durable where another holder would take them to be others."""
        tried = self.lease.state.tried
        if self.caught_up:  # what is not open is settled
            open_ = {_name(each.envelope) for each in self.lane}
            for name in [each for each in tried if each not in open_]:
                del tried[name]
        wrong = [each for each in items if each.attempts != self.expected(each)]
        for each in wrong:
            tried[_name(each.envelope)] = each.attempts
        if wrong:
            await self.lease.write()


class RabbitDelivery:
    """One event handed to `member`; fills `Delivery`."""

    def __init__(self, member: "Member", seat: Seat, item: Item) -> None:
        self.envelope = item.envelope
        self.lease = f"{member.broker.id}/{member.group}/{seat.lane.partition}"
        self.fence = seat.lane.fence
        self._member = member
        self._seat = seat
        self._item = item
        self._counted = False

    @property
    def tried(self) -> bool:
        """Whether an attempt may have begun before."""
        return self._item.attempts > 0

    async def attempt(self) -> int:
        """Count an attempt; the first of an event costs nothing, because the server recorded the delivery."""
        self._held()
        self._item.attempts += 1
        self._counted = True
        with self._member.broker.reaching():
            await self._seat.note([self._item])
        return self._item.attempts

    async def ack(self) -> None:
        """Settle it; should the acknowledgement be lost with the connection, it comes again."""
        self._held()
        with self._member.broker.reaching():
            await self._item.token.ack()
        self._seat.lane.settle(self._item)
        self._member.bell.set()

    async def nack(self, delay: float) -> None:
        """Hold it here for `delay` seconds; should this process die, it is delivered again earlier."""
        self._held()
        self._seat.lane.park(self._item, time.monotonic() + delay)
        self._member.bell.set()

    async def release(self) -> None:
        """Give it back, the attempt begun last forgotten."""
        self._held()
        if self._counted:
            self._item.attempts -= 1  # noted when the partition is given up
        self._seat.lane.park(self._item, 0.0)
        self._member.bell.set()

    def _held(self) -> None:
        partition = self._seat.lane.partition
        if self._member.seats.get(partition) is not self._seat or self._seat.channel.is_closed:
            raise LeaseLost(f"partition {partition} of {self._member.group} belongs to another member now")


def _name(envelope: Envelope) -> str:
    return f"{envelope.id}/{envelope.replays}"
