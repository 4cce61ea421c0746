"""A delivery on NATS, and how its attempts are counted."""

import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from interlock.events.broker import LeaseLost
from interlock.events.lane import Item, Lane

if TYPE_CHECKING:
    from interlock.events.brokers.nats_member import Held, Member


class Token:
    """What the server knows an event by, and the attempts that another member would take it to have had.

    That is what is noted in the stream of tries, else 1: the server knows that it was delivered, so that the first
    attempt of an event need not be noted by us. None is: not looked up yet.
    """

    __slots__ = ("message", "noted")

    def __init__(self, message: Msg) -> None:
        self.message = message
        self.noted: int | None = None


async def note(member: "Member", lane: Lane, item: Item) -> None:
    """Store the attempts of an event where they are not what another member would take them to be."""
    await _look_up(member, lane, item)
    if item.attempts != item.token.noted:
        subject = member.broker.streams.tried(member.group, lane.partition, item.number)
        await member.broker.js.publish(subject, str(item.attempts).encode())
        item.token.noted = item.attempts


async def _count(member: "Member", lane: Lane, item: Item) -> int:
    await _look_up(member, lane, item)
    item.attempts += 1
    await note(member, lane, item)
    return item.attempts


async def _look_up(member: "Member", lane: Lane, item: Item) -> None:
    """Learn how often an event was tried before this member got it."""
    token = item.token
    if token.noted is not None:
        return
    attempts = noted = 1
    if token.message.metadata.num_delivered == 1:
        attempts = 0
    else:
        with suppress(NotFoundError):
            subject = member.broker.streams.tried(member.group, lane.partition, item.number)
            found = await member.broker.js.get_last_msg(member.broker.streams.tries, subject)
            attempts = noted = int(found.data or b"1")
    item.attempts, token.noted = attempts, noted


class NatsDelivery:
    """One event handed to `member`; fills `Delivery`."""

    def __init__(self, member: "Member", lane: Lane, item: Item) -> None:
        self.envelope = item.envelope
        self.lease = f"{member.broker.id}/{member.group}/{lane.partition}"
        self.fence = lane.fence
        self._member = member
        self._lane = lane
        self._item = item
        self._counted = False

    @property
    def tried(self) -> bool:
        """Whether an attempt may have begun before."""
        token = self._item.token
        return self._item.attempts > 0 or (token.noted is None and token.message.metadata.num_delivered > 1)

    async def attempt(self) -> int:
        """Count an attempt; the first of an event costs nothing, because the server recorded the delivery."""
        number = int(await self._reach(_count(self._member, self._lane, self._item)))
        self._counted = True
        return number

    async def ack(self) -> None:
        """Settle it, and wait for the server to say so."""
        reply = self._item.token.message.reply
        await self._reach(self._member.broker.requests.ask_one(reply, b"+ACK"))
        self.done()

    async def ack_unanswered(self) -> None:
        """Tell the server that it is settled, and have it here still until `done`."""
        with self._member.broker.reaching():
            self._held()
            await self._member.broker.client.publish(self._item.token.message.reply, b"+ACK")

    def done(self) -> None:
        """Close it here."""
        self._lane.settle(self._item)
        self._roomier()

    async def nack(self, delay: float) -> None:
        """Hold it here for `delay` seconds; should this process die, the server delivers it again earlier."""
        self._held()
        self._lane.park(self._item, time.monotonic() + delay)
        self._roomier()

    async def release(self) -> None:
        """Give it back, the attempt begun last forgotten."""
        self._held()
        if self._counted:
            self._item.attempts -= 1  # noted when the partition is given up
        self._lane.park(self._item, 0.0)
        self._roomier()

    async def _reach(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            self._held()
        except LeaseLost:
            work.close()
            raise
        with self._member.broker.reaching():
            return await work

    def _held(self) -> "Held":
        """Return the partition if this member still holds it; by our own clock, for the server takes any ack."""
        held = self._member.held.get(self._lane.partition)
        if held is None or held.lane is not self._lane or held.until < time.monotonic():
            raise LeaseLost(f"partition {self._lane.partition} of {self._member.group} belongs to another member now")
        return held

    def _roomier(self) -> None:
        held = self._member.held.get(self._lane.partition)
        if held is not None and held.left <= 0:
            held.ended.set()
        self._member.bell.set()
