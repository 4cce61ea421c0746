"""A member of a group on NATS: its leases, its pulls, its deliveries."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo
from nats.js.errors import APIError, NotFoundError

from interlock.events.broker import PARTITIONS, BrokerUnavailable, Delivery, fair_share
from interlock.events.brokers.nats_delivery import NatsDelivery, Token, note
from interlock.events.brokers.nats_streams import durable
from interlock.events.envelope import MalformedEnvelope, from_headers
from interlock.events.lane import Item, Lane, Lanes
from interlock.stamps import uuid7

if TYPE_CHECKING:
    from interlock.events.brokers.nats import NatsBroker

log = logging.getLogger("interlock")

_ROOM = 64
"""Events of a partition that are with one member and not settled."""

_EXPIRES = 20.0
"""Seconds for which a pull waits at the server."""

_MOST_DELIVERIES = 1000
"""A net below the attempts that consumers count."""

_COMPARED = ("filter_subject", "filter_subjects", "ack_wait", "max_ack_pending")

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_TAKEN = (10071, 10164)  # the server's codes for an expectation that does not hold


class Held:
    """One partition held: its lane, the last number of its lease, until when that holds, and its pull.

    Each has a subscription of its own, because it is by its end that the server forgets a pull that waits there.
    """

    __slots__ = ("ended", "lane", "left", "listening", "pull", "sequence", "until")

    def __init__(self, lane: Lane, until: float, listening: Any) -> None:
        self.lane = lane
        self.listening = listening
        self.sequence = lane.fence
        self.until = until
        self.left = 0
        self.ended = asyncio.Event()
        self.pull: asyncio.Task[None] | None = None


class Member:
    """A member of `group`, made by the broker; fills `Subscription`."""

    def __init__(self, broker: "NatsBroker", group: str, types: tuple[str, ...]) -> None:
        self.broker = broker
        self.group = group
        self.held: dict[int, Held] = {}
        self.lanes = Lanes()
        self.bell = asyncio.Event()
        self._consumed = [broker.streams.consumed(group, each, types) for each in range(PARTITIONS)]
        self._owner = uuid7()
        self._seat = 0
        self._inbox = ""
        self._keeper: asyncio.Task[None] | None = None
        self._failed: BrokerUnavailable | None = None

    async def open(self) -> None:
        """Listen, claim a share of the partitions, keep it."""
        self._inbox = self.broker.client.new_inbox()
        await self._claim()
        self._keeper = asyncio.create_task(self._keep(), name=f"leases of {self.group}")

    async def next(self) -> "NatsDelivery":
        """Wait for the next event of a partition that has none out."""
        while True:
            if self._failed is not None:
                raise self._failed
            self.bell.clear()
            now = time.monotonic()
            if (taken := self.lanes.take(now)) is not None:
                return NatsDelivery(self, *taken)
            due = self.lanes.next_due(now)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else due - now):
                    await self.bell.wait()

    def more(self, after: Delivery, most: int) -> list[NatsDelivery]:
        """Take what waits behind an event."""
        lane = self.lanes.holding(after.envelope)
        return [] if lane is None else [NatsDelivery(self, lane, each) for each in lane.more(most, time.monotonic())]

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge events, and wait for the server's answer to the last: it takes them in their order."""
        ours = [each for each in deliveries if isinstance(each, NatsDelivery)]
        for each in ours[:-1]:
            await each.ack_unanswered()
        await ours[-1].ack()
        for each in ours[:-1]:
            each.done()

    async def close(self) -> None:
        """Give back what is not settled, then the partitions."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self.broker.left(self)
        with self.broker.reaching():
            await asyncio.gather(*(self._give_up(partition) for partition in tuple(self.held)))
            if self._seat:
                await self._delete(self._seat)

    def reconnected(self) -> None:
        """Pull anew: what waited at the server is gone."""
        for held in self.held.values():
            held.left = 0
            held.ended.set()

    # --- leases -------------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.broker.lease / 3 * random.uniform(0.9, 1.1))  # noqa: S311 - spreads the members
            try:
                with self.broker.reaching():
                    await self._claim()
                self._failed = None
            except BrokerUnavailable as failed:
                self._failed = failed
            except Exception:  # the leases must not run out in silence
                log.exception("the leases of %s can't be kept", self.group)
            self.bell.set()

    async def _claim(self) -> None:
        """Renew what is held, keep it alive at the server, give partitions up or take some towards the share."""
        streams, js = self.broker.streams, self.broker.js
        self._seat = (await js.publish(streams.member(self.group, self._owner), b"")).seq
        await asyncio.gather(*(self._renew(partition) for partition in tuple(self.held)))
        wanted = f"{streams.events}.*.{streams.lease(self.group, 0).split('.')[-2]}.>"
        info = await js.stream_info(streams.leases, subjects_filter=wanted)
        subjects = set(info.state.subjects or ())
        members = sum(each.startswith(f"{streams.events}.member.") for each in subjects)
        share = fair_share(members)
        idle = [partition for partition, held in self.held.items() if held.lane.idle]
        surplus = idle[: max(0, len(self.held) - share)]
        await asyncio.gather(*(self._give_up(partition) for partition in surplus))
        free = [each for each in range(PARTITIONS) if streams.lease(self.group, each) not in subjects]
        await asyncio.gather(*(self._take(each) for each in free[: max(0, share - len(self.held))]))

    async def _renew(self, partition: int) -> None:
        held = self.held[partition]
        began = time.monotonic()
        sequence = await self._write_lease(partition, held.sequence)
        if sequence is None:
            await self._drop(partition)
            return
        held.sequence, held.until = sequence, began + self.broker.lease
        for item in held.lane:
            await item.token.message.in_progress()

    async def _take(self, partition: int) -> None:
        began = time.monotonic()
        sequence = await self._write_lease(partition, 0)
        if sequence is None:
            return
        info = await self._consumer(partition)
        newest = info.delivered.stream_seq if info.delivered is not None else 0
        lane = Lane(partition, sequence, room=_ROOM)
        lane.await_redelivery(info.num_ack_pending or 0, newest, time.monotonic() + self.broker.lease + 1.0)
        listening = await self.broker.client.subscribe(f"{self._inbox}.{partition:02}", cb=self._arrived)
        held = Held(lane, began + self.broker.lease, listening)
        self.held[partition] = held
        self.lanes.held[partition] = lane
        held.pull = asyncio.create_task(self._pull(held), name=f"pull of {partition}")

    async def _consumer(self, partition: int) -> ConsumerInfo:
        """Return the partition's consumer at the server, made or changed only where it must be."""
        js, stream, name = self.broker.js, self.broker.streams.events, durable(self.group, partition)
        config = ConsumerConfig(
            durable_name=name,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self.broker.lease,
            max_deliver=_MOST_DELIVERIES,
            max_ack_pending=_ROOM,
        )
        if self.broker.filters:
            config.filter_subjects = self._consumed[partition]
        else:
            config.filter_subject = self.broker.streams.everything(partition)
        with suppress(NotFoundError):
            info: ConsumerInfo = await js.consumer_info(stream, name)
            if all(getattr(info.config, each) == getattr(config, each) for each in _COMPARED):
                return info
        made: ConsumerInfo = await js.add_consumer(stream, config)
        return made

    async def _write_lease(self, partition: int, expected: int) -> int | None:
        """Write a lease over the one of number `expected` and return its new number; None if another is there."""
        subject = self.broker.streams.lease(self.group, partition)
        try:
            written = await self.broker.js.publish(subject, self._owner.encode(), headers={_EXPECTED: str(expected)})
        except APIError as refused:
            if refused.err_code in _TAKEN:
                return None
            raise
        return int(written.seq)

    async def _give_up(self, partition: int) -> None:
        """Give back what is open, begun or not, then the lease."""
        held = await self._drop(partition)
        for item in held.lane:
            await note(self, held.lane, item)
            await item.token.message.nak()
        await self._delete(held.sequence)

    async def _drop(self, partition: int) -> Held:
        held = self.held.pop(partition)
        self.lanes.held.pop(partition, None)
        if held.pull is not None:
            held.pull.cancel()
        await held.listening.unsubscribe()
        return held

    async def _delete(self, sequence: int) -> None:
        with suppress(NotFoundError, APIError):  # it has run out
            await self.broker.js.delete_msg(self.broker.streams.leases, sequence)

    # --- events -------------------------------------------------------------------------------------------------------

    async def _pull(self, held: Held) -> None:
        """Ask for as many events as the lane has room for, and again once they came or the question has expired."""
        name = durable(self.group, held.lane.partition)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.broker.streams.events}.{name}"
        reply = f"{self._inbox}.{held.lane.partition:02}"
        while True:
            held.ended.clear()
            if held.lane.free > 0:
                held.left = held.lane.free
                question = {"batch": held.left, "expires": int(_EXPIRES * 1e9)}
                with suppress(Exception):  # asked again below, once there is a connection
                    await self.broker.client.publish(subject, json.dumps(question).encode(), reply=reply)
            with suppress(TimeoutError):
                async with asyncio.timeout(_EXPIRES + 1.0):
                    await held.ended.wait()

    async def _arrived(self, message: Msg) -> None:
        if message.subject.startswith(self._inbox):
            await self._answered(message)
            return
        partition = self.broker.streams.partition(message.subject)
        held = self.held.get(partition)
        if held is None:
            await message.nak()
            return
        if message.subject in self._consumed[partition]:
            self._offer(held.lane, message)
        else:  # a server before 2.10 sends all of a partition
            await message.ack()
        held.left -= 1
        if held.left <= 0:
            held.ended.set()
        self.bell.set()

    async def _answered(self, message: Msg) -> None:
        """Take a status: the question has expired or is refused, or something that does not matter."""
        held = self.held.get(int(message.subject[-2:]))
        status = (message.headers or {}).get("Status", "")
        if held is None or not status.startswith("4"):
            return
        if status != "408":  # refused: not at once again
            await asyncio.sleep(0.2)
        held.left = 0
        held.ended.set()

    def _offer(self, lane: Lane, message: Msg) -> None:
        number = message.metadata.sequence.stream
        known = lane.find(number)
        if known is not None:
            known.token.message = message
            return
        try:
            envelope = from_headers(message.headers or {}, message.data)
        except MalformedEnvelope:
            lane.scanned = max(lane.scanned, number)  # nothing of ours; it stays unsettled until the server drops it
            return
        lane.offer(Item(number, envelope, token=Token(message)))
