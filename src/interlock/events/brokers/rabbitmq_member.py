"""A member of a group on RabbitMQ: a channel, a lease and a lane for each partition that it holds or waits for."""

import asyncio
import logging
import random
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from interlock.events.broker import PARTITIONS, BrokerUnavailable, Delivery, fair_share
from interlock.events.brokers.rabbitmq_delivery import RabbitDelivery, Seat
from interlock.events.brokers.rabbitmq_lease import Lease
from interlock.events.brokers.rabbitmq_topology import consumers, ready
from interlock.events.envelope import MalformedEnvelope, from_json
from interlock.events.lane import Item, Lane, Lanes

if TYPE_CHECKING:
    from interlock.events.brokers.rabbitmq import RabbitBroker

log = logging.getLogger("interlock")

_ROOM = 64
"""Events of a partition that are with one member and not settled."""

_LOOK = 5.0
"""Seconds between two looks at who shares the group, and whether the queues are still there."""

_HEAL = 60.0
"""Seconds between two looks at whether queues and bindings are as they must be; what is missing is made again."""

_REFRESH = 600.0
"""Seconds after which the state of a lease is written anew: the server closes a channel that holds one for 30 min."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_PASS_ON = 0.3


class Member:
    """A member of `group`, made by the broker; fills `Subscription`."""

    def __init__(self, broker: "RabbitBroker", group: str, types: tuple[str, ...]) -> None:
        self.broker = broker
        self.group = group
        self.lanes = Lanes()
        self.seats: dict[int, Seat] = {}
        self.bell = asyncio.Event()
        self._types = frozenset(types)
        self._claimed: set[int] = set()
        self._deciding = asyncio.Lock()
        self._moved = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: BrokerUnavailable | None = None

    async def open(self) -> None:
        """Be counted, and stand in line for every partition."""
        enrolled = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._enrol(enrolled), name=f"member of {self.group}"))
        async with asyncio.timeout(self.broker.timeout):
            await enrolled.wait()
        for partition in range(PARTITIONS):
            self._tasks.append(asyncio.create_task(self._tend(partition), name=f"{self.group} {partition:02}"))
        self._tasks.append(asyncio.create_task(self._balance(), name=f"shares of {self.group}"))

    async def next(self) -> RabbitDelivery:
        """Wait for the next event of a partition that has none out."""
        while True:
            if self._failed is not None:
                raise self._failed
            self.bell.clear()
            now = time.monotonic()
            if (taken := self.lanes.take(now)) is not None:
                return RabbitDelivery(self, self.seats[taken[0].partition], taken[1])
            due = self.lanes.next_due(now)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else due - now):
                    await self.bell.wait()

    def more(self, after: Delivery, most: int) -> list[RabbitDelivery]:
        """Take what waits behind an event."""
        lane = self.lanes.holding(after.envelope)
        if lane is None:
            return []
        return [RabbitDelivery(self, self.seats[lane.partition], each) for each in lane.more(most, time.monotonic())]

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge each; the server need not answer."""
        for each in deliveries:
            await each.ack()

    async def close(self) -> None:
        """Leave: note the attempts of what is open, then let the channels go, which gives it back in its order."""
        seats = list(self.seats.values())
        notes = await asyncio.gather(*(each.note(list(each.lane)) for each in seats), return_exceptions=True)
        pending = set(self._tasks)
        while pending:  # once is not enough: the client may take a cancellation for its own
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.5)
        self.broker.left(self)
        lost = [each for each in notes if isinstance(each, BaseException)]
        if lost:
            raise BrokerUnavailable(f"attempts were not noted: {lost[0]}") from lost[0]

    # --- shares -------------------------------------------------------------------------------------------------------

    async def _enrol(self, enrolled: asyncio.Event) -> None:
        """Be a consumer of the queue whose consumers are counted, and heal what was deleted at the server."""
        failures = 0
        while True:
            try:
                async with self.broker.channel() as channel:
                    members = self.broker.topology.members(self.group)
                    queue = await channel.get_queue(members, ensure=False)
                    await queue.consume(_ignore)
                    enrolled.set()
                    self._failed = None
                    failures = 0
                    # no consumer: the queue was deleted, and is another now
                    while await consumers(channel, members) and not await _closes(channel, _HEAL):
                        await self.broker.make_group(self.group, self._types)
            except BrokerUnavailable as lost:
                self._fail(lost)
            failures += 1
            await asyncio.sleep(_pause(failures))

    async def _balance(self) -> None:
        """Give up what is more than a fair share whenever somebody joined, and look now and then anyway."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK * random.uniform(0.9, 1.1)):  # noqa: S311 - spreads the members
                    await self._moved.wait()
            self._moved.clear()
            try:
                async with self.broker.channel() as channel:
                    surplus = len(self.seats) - await self._share(channel)
            except BrokerUnavailable:
                continue  # the partitions' tasks tell it
            idle = [seat for seat in self.seats.values() if seat.lane.idle]
            for seat in idle[: max(0, surplus)]:
                seat.surrender.set()

    async def _share(self, channel: AbstractChannel) -> int:
        return fair_share(await consumers(channel, self.broker.topology.members(self.group)))

    async def _claim(self, partition: int, channel: AbstractChannel) -> bool:
        """Claim a partition whose turn it is, unless that were more than a fair share."""
        async with self._deciding:
            if len(self._claimed) >= await self._share(channel):
                return False
            self._claimed.add(partition)
            return True

    # --- partitions ---------------------------------------------------------------------------------------------------

    async def _tend(self, partition: int) -> None:
        """Hold or wait for one partition, for ever: over lost connections, and when it was passed on."""
        failures = 0
        while True:
            try:
                async with self.broker.channel() as channel:
                    try:
                        await self._hold(partition, channel)
                    finally:
                        self._claimed.discard(partition)
                        self.seats.pop(partition, None)
                        self.lanes.held.pop(partition, None)
                failures = 0
                await asyncio.sleep(_PASS_ON * random.uniform(0.7, 1.3))  # noqa: S311 - spreads the members
            except BrokerUnavailable as lost:
                failures += 1
                self._fail(lost)
                await asyncio.sleep(_pause(failures))
                if failures > 1:
                    with suppress(BrokerUnavailable):  # the next turn tells it
                        await self.broker.make_group(self.group, self._types)
            except Exception:  # a partition must not be forgotten in silence
                log.exception("the partition %d of %s can't be kept", partition, self.group)
                await asyncio.sleep(_LONGEST_PAUSE)

    async def _hold(self, partition: int, channel: AbstractChannel) -> None:
        topology = self.broker.topology
        lease = Lease(channel, topology.lease(self.group, partition), asked=self._moved.set)
        if not await _unless_closed(channel, lease.wait()):
            return
        self._failed = None
        if not await self._claim(partition, channel):
            return
        if not await _unless_closed(channel, lease.take()):
            return
        seat = Seat(channel, lease, Lane(partition, lease.state.fence, room=_ROOM))
        self.seats[partition] = seat
        self.lanes.held[partition] = seat.lane
        await channel.set_qos(prefetch_count=_ROOM)
        queue = await channel.get_queue(topology.queue(self.group, partition), ensure=False)

        async def arrived(message: AbstractIncomingMessage) -> None:
            await self._arrived(seat, message)

        await queue.consume(arrived)
        await self._keep(seat, topology.queue(self.group, partition))

    async def _keep(self, seat: Seat, queue: str) -> None:
        """Return when the seat is given up, or its channel or queue is gone."""
        refreshed = time.monotonic()
        closed = asyncio.ensure_future(_closed(seat.channel))
        surrender = asyncio.ensure_future(seat.surrender.wait())
        try:
            while not (closed.done() or surrender.done()):
                await asyncio.wait((closed, surrender), timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
                if closed.done():
                    return
                for each in (queue, self.broker.topology.lease(self.group, seat.lane.partition)):
                    await ready(seat.channel, each)  # which closes the channel if it was deleted
                if time.monotonic() - refreshed > _REFRESH:
                    refreshed = time.monotonic()
                    await seat.lease.write()
            if seat.lane.idle:
                self.lanes.held.pop(seat.lane.partition, None)
                await seat.note(list(seat.lane))
            else:
                seat.surrender.clear()  # something was handed out meanwhile
                await self._keep(seat, queue)
        finally:
            closed.cancel()
            surrender.cancel()

    async def _arrived(self, seat: Seat, message: AbstractIncomingMessage) -> None:
        if seat.channel.is_closed:
            return
        tag = message.delivery_tag or 0
        try:
            envelope = from_json(message.body)
        except MalformedEnvelope as wrong:
            log.error("what stands in %s is no event, and goes to the dead letters: %s", message.routing_key, wrong)  # noqa: TRY400
            await message.reject(requeue=False)
            return
        alone = (message.routing_key or "").partition(".")[2].startswith("group/")
        if envelope.type not in self._types and not alone:
            await message.ack()  # bound by an earlier release of the service
            return
        item = Item(tag, envelope, token=message)
        if message.redelivered:
            item.attempts = seat.expected(item)
        else:
            seat.caught_up = True
        seat.lane.offer(item)
        self.bell.set()

    def _fail(self, lost: BrokerUnavailable) -> None:
        self._failed = lost
        self.bell.set()


async def _ignore(_message: AbstractIncomingMessage) -> None:
    """Nothing is sent to the queue of members."""


async def _closed(channel: AbstractChannel) -> None:
    await channel.closed()


async def _closes(channel: AbstractChannel, within: float) -> bool:
    """Wait for a channel's end for `within` seconds, more or less; tell whether it came."""
    try:
        async with asyncio.timeout(within * random.uniform(0.9, 1.1)):  # noqa: S311 - spreads the members
            await _closed(channel)
    except TimeoutError:
        return False
    return True


async def _unless_closed(channel: AbstractChannel, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work`; False if the channel was closed before it was done."""
    task = asyncio.ensure_future(work)
    closed = asyncio.ensure_future(_closed(channel))
    try:
        await asyncio.wait((task, closed), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return False
        task.result()
        return True
    finally:
        for each in (task, closed):
            each.cancel()
        await asyncio.gather(task, closed, return_exceptions=True)


def _pause(failures: int) -> float:
    most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 1, 20))
    return random.uniform(most / 2, most)  # noqa: S311 - jitter, not a secret
