"""The embedded broker: one SQLite file that several processes of a machine share, with nothing to install.

What is published is on disk (WAL, synchronous FULL) before `publish` returns. Partitions are rows leased with a fencing
number; a bell wakes the other processes, and polling is the net below it.
"""

import asyncio
import json
import logging
import random
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from interlock.data.doorbell import Doorbell
from interlock.events.broker import BrokerUnavailable, DeadLetter, Delivery, Features, LeaseLost, partition_of
from interlock.events.brokers import rows
from interlock.events.brokers.file import BrokerFile
from interlock.events.envelope import EVENT_BYTES, Envelope, to_attributes
from interlock.events.lane import Item, Lane, Lanes
from interlock.stamps import uuid7

log = logging.getLogger("interlock")

T = TypeVar("T")


class EmbeddedBroker:
    """Fills the port on the file `path`, made with its directory where they are missing. Belongs to one event loop.

    A member that dies loses its partitions after `lease` seconds (the same for all who share the file). Without a bell
    news is seen within `poll` seconds. Events are kept for `keep` seconds after every group settled them, so that an
    id published again is known, and `keep_unread` seconds at most.
    """

    features = Features(durable=True, shared=True, networked=False, event_bytes=EVENT_BYTES)

    def __init__(
        self,
        path: str | Path,
        *,
        lease: float = 5.0,
        poll: float = 1.0,
        keep: float = 3600.0,
        keep_unread: float = 7 * 86400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        path = Path(path)
        self.lease = lease
        self.poll = poll
        self.clock = clock
        self._keep = (keep, keep_unread)
        self._bell = Doorbell(path.with_name(path.name + "-bells"))
        self.file = BrokerFile(path, self._bell.ring)
        self.id = ""
        self._members: set[_Subscription] = set()
        self._pruned = 0.0

    async def start(self) -> None:
        """Open the file and hang up the bell."""
        await self.file.open()
        self.id = await self.file.write(rows.identity)
        self._bell.hang(self._heard)

    async def stop(self) -> None:
        """Close what is still subscribed, take the bell down, close the file."""
        for member in tuple(self._members):
            await member.close()
        self._bell.take_down()
        await self.file.close()

    async def ping(self) -> None:
        """Read from the file."""
        await self.file.read(lambda db: db.execute("SELECT 1 FROM lane LIMIT 1").fetchone())

    async def publish(self, envelopes: Sequence[Envelope], *, group: str = "") -> None:
        """Store events in one commit, which other publishers may share."""
        now = self.clock()
        stored = [
            (
                each.id,
                each.type,
                partition_of(each.partition_key),
                group,
                json.dumps(to_attributes(each)),
                each.data,
                now,
            )
            for each in envelopes
        ]
        await self.file.write(lambda db: rows.store(db, stored))
        self._heard()

    async def subscribe(self, group: str, types: Collection[str]) -> "_Subscription":
        """Join `group`: take what is free of its partitions now, and its share as others give theirs up."""
        member = _Subscription(self, group, tuple(types))
        await member.open()
        self._members.add(member)
        return member

    async def lag(self, group: str, types: Collection[str]) -> int:
        """Count what `group` has not settled."""
        return await self.file.read(lambda db: rows.lag(db, group, tuple(types)))

    async def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter."""
        await self.file.write(lambda db: rows.bury(db, letter))

    async def dead_letters(self, group: str = "", *, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Return dead letters by id."""
        return await self.file.read(lambda db: rows.dead_letters(db, group, limit, after))

    async def count_dead_letters(self, group: str) -> int:
        """Count dead letters."""
        return await self.file.read(lambda db: rows.count_dead_letters(db, group))

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter."""
        return await self.file.read(lambda db: rows.dead_letter(db, letter_id))

    async def remove_dead_letter(self, letter_id: str) -> bool:
        """Remove one dead letter."""
        return await self.file.write(lambda db: rows.remove_dead_letter(db, letter_id))

    def left(self, member: "_Subscription") -> None:
        """Note that a member has closed."""
        self._members.discard(member)

    async def prune(self) -> None:
        """Drop old events, now and then."""
        now = self.clock()
        if abs(now - self._pruned) > 60.0:
            self._pruned = now
            settled, unread = (now - each for each in self._keep)
            await self.file.write(lambda db: rows.prune(db, settled, unread), durable=False)

    def _heard(self) -> None:
        for member in self._members:
            member.bell.set()


class _Subscription:
    def __init__(self, broker: EmbeddedBroker, group: str, types: tuple[str, ...]) -> None:
        self.broker = broker
        self.group = group
        self.owner = uuid7()
        self.lanes = Lanes()
        self.bell = asyncio.Event()
        self._types = types
        self._seen = -1
        self._keeper: asyncio.Task[None] | None = None
        self._failed: BrokerUnavailable | None = None

    async def open(self) -> None:
        await self._claim()
        self._keeper = asyncio.create_task(self._keep(), name=f"leases of {self.group}")

    async def next(self) -> "_Delivery":
        while True:
            if self._failed is not None:
                raise self._failed
            self.bell.clear()
            if (taken := self.lanes.take(self.broker.clock())) is None and await self._refill():
                taken = self.lanes.take(self.broker.clock())
            if taken is not None:
                return _Delivery(self, *taken)
            now = self.broker.clock()
            due = self.lanes.next_due(now)
            wait = self.broker.poll if due is None else min(due - now, self.broker.poll)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self.bell.wait()

    def more(self, after: Delivery, most: int) -> "list[_Delivery]":
        lane = self.lanes.holding(after.envelope)
        if lane is None or not isinstance(after, _Delivery):
            return []
        found = [_Delivery(self, lane, each) for each in lane.more(most, self.broker.clock())]
        after.beside = [after, *found]
        for each in found:
            each.beside = after.beside
        return found

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        ours = [each for each in deliveries if isinstance(each, _Delivery)]
        await ours[0].ack_with(ours)

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self.lanes.held.clear()
        self.broker.left(self)
        await self.broker.file.write(lambda db: rows.leave(db, self.group, self.owner), durable=False)

    async def _refill(self) -> bool:
        """Offer the lanes what is new; tell whether anything was."""
        lanes = [lane for lane in self.lanes.held.values() if lane.free > 0]
        asked = [(lane.partition, lane.scanned, lane.free) for lane in lanes]
        head, found = await self.broker.file.read(lambda db: rows.fetch(db, self.group, self._types, asked, self._seen))
        full = False
        for lane, (_, scanned, free), news in zip(lanes, asked, found, strict=True):
            for seq, envelope, attempts, due in news:
                lane.offer(Item(seq, envelope, attempts, due))
            full = full or len(news) >= free
            if len(news) < free and lane.scanned >= scanned:
                lane.scanned = max(lane.scanned, head)
        self._seen = -1 if full or len(lanes) < len(self.lanes.held) else head
        return any(found)

    async def _keep(self) -> None:
        """Renew the leases, take and give partitions, drop what is old."""
        while True:
            await asyncio.sleep(self.broker.lease / 3 * random.uniform(0.9, 1.1))  # noqa: S311 - spreads the members
            try:
                await self._claim()
                await self.broker.prune()
                self._failed = None
            except BrokerUnavailable as failed:
                self._failed = failed
            except Exception:  # the leases must not run out in silence
                log.exception("the leases of %s can't be kept", self.group)
            self.bell.set()

    async def _claim(self) -> None:
        idle = {lane.partition: lane.position for lane in self.lanes.held.values() if lane.idle}
        now = self.broker.clock()
        times = (now, now + self.broker.lease)
        mine = await self.broker.file.write(
            lambda db: rows.claim(db, self.group, self.owner, idle, times), durable=False
        )
        for partition, lane in tuple(self.lanes.held.items()):
            if mine.get(partition, (0, 0))[0] != lane.fence:
                del self.lanes.held[partition]
        for partition, (fence, position) in mine.items():
            if partition not in self.lanes.held:
                self.lanes.held[partition] = Lane(partition, fence, position=position)
                self._seen = -1


class _Delivery:
    def __init__(self, subscription: _Subscription, lane: Lane, item: Item) -> None:
        self.envelope = item.envelope
        self.lease = f"{subscription.broker.id}/{subscription.group}/{lane.partition}"
        self.fence = lane.fence
        self._subscription = subscription
        self._lane = lane
        self._item = item
        self._counted = False
        self.beside: list[_Delivery] = []
        """Those taken together, itself among them: their attempts are counted in one write, before the first begins."""

    @property
    def tried(self) -> bool:
        return self._item.attempts > 0

    async def attempt(self) -> int:
        if not self._counted:
            together = [each for each in self.beside if not each._counted] or [self]
            numbers = await self._write(
                lambda db, of, _: [rows.count_attempt(db, of, each._item.number) for each in together]
            )
            for each, number in zip(together, numbers, strict=True):
                each._item.attempts = number
                each._counted = True
        return self._item.attempts

    async def ack(self) -> None:
        await self.ack_with([self])

    async def ack_with(self, deliveries: "Sequence[_Delivery]") -> None:
        """Settle this one and others of its lane in one write."""
        settled = {each._item.number for each in deliveries}
        before = [each.number for each in self._lane if each.number not in settled]
        position = min(before) - 1 if before else self._lane.scanned
        await self._write(lambda db, of, _: rows.settle(db, of, sorted(settled), position))
        for each in deliveries:
            self._lane.settle(each._item)
        self._subscription.bell.set()

    async def nack(self, delay: float) -> None:
        due = self._subscription.broker.clock() + delay
        await self._write(lambda db, of, seq: rows.postpone(db, of, seq, due))
        self._lane.park(self._item, due)
        self._subscription.bell.set()

    async def release(self) -> None:
        if self._counted:
            await self._write(rows.forgive)
            self._item.attempts -= 1
        elif self in self.beside:
            self.beside.remove(self)
        self._lane.park(self._item, 0.0)
        self._subscription.bell.set()

    async def _write(self, work: Callable[[sqlite3.Connection, tuple[str, int], int], T]) -> T:
        subscription = self._subscription
        of, owner, fence = (subscription.group, self._lane.partition), subscription.owner, self.fence

        def write(db: sqlite3.Connection) -> T:
            if not rows.holds(db, of, owner, fence):
                raise LeaseLost(f"partition {of[1]} of {of[0]} belongs to another member now")
            return work(db, of, self._item.number)

        try:
            # lost with the power, it means an event delivered twice, which the port allows
            return await subscription.broker.file.write(write, durable=False)
        except LeaseLost:
            if subscription.lanes.held.get(self._lane.partition) is self._lane:
                del subscription.lanes.held[self._lane.partition]
            raise
