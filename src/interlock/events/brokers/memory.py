"""A broker in this process's memory: for tests and trials, gone with the process."""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from interlock.events.broker import PARTITIONS, DeadLetter, Delivery, Features, LeaseLost, fair_share, partition_of
from interlock.events.envelope import EVENT_BYTES, Envelope
from interlock.events.lane import Item, Lane, Lanes
from interlock.stamps import uuid7


@dataclass(slots=True)
class _Group:
    members: "list[_Subscription]" = field(default_factory=list)
    fences: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    types: set[str] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)
    attempts: dict[int, int] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Stored:
    number: int
    envelope: Envelope
    group: str


def _number(stored: _Stored) -> int:
    return stored.number


class MemoryBroker:
    """Fills the port for one event loop; `clock` tells when what was held back is due, in seconds."""

    features = Features(durable=False, shared=False, networked=False, event_bytes=EVENT_BYTES)

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.id = uuid7()
        self._clock = clock
        self._log: list[list[_Stored]] = [[] for _ in range(PARTITIONS)]
        self._ids: set[str] = set()
        self._number = 0
        self._groups: dict[str, _Group] = {}
        self._letters: dict[str, DeadLetter] = {}

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Close what is still subscribed."""
        for group in self._groups.values():
            for member in tuple(group.members):
                await member.close()

    async def ping(self) -> None:
        """Answer always."""

    async def publish(self, envelopes: Sequence[Envelope], *, group: str = "") -> None:
        """Store events in order, and wake who waits."""
        for envelope in envelopes:
            if not group and envelope.id in self._ids:
                continue
            self._ids.add(envelope.id)
            self._number += 1
            self._log[partition_of(envelope.partition_key)].append(_Stored(self._number, envelope, group))
        for each in self._groups.values():
            for member in each.members:
                member.bell.set()

    async def subscribe(self, group: str, types: Collection[str]) -> "_Subscription":
        """Join `group`; its partitions are shared anew at once."""
        state = self._groups.setdefault(group, _Group())
        member = _Subscription(self, group, frozenset(types))
        state.types |= set(types)
        state.members.append(member)
        self._share(state)
        return member

    async def lag(self, group: str, types: Collection[str]) -> int:
        """Count what `group` has not settled."""
        state = self._groups.get(group, _Group())
        return sum(
            1
            for log in self._log
            for each in log
            if each.envelope.type in types and each.group in ("", group) and each.number not in state.settled
        )

    async def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter."""
        self._letters[letter.id] = letter

    async def dead_letters(self, group: str = "", *, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Return dead letters by id."""
        wanted = (id_ for id_ in sorted(self._letters) if id_ > after and (not group or id_.startswith(f"{group}/")))
        return [self._letters[id_] for id_ in wanted][:limit]

    async def count_dead_letters(self, group: str) -> int:
        """Count dead letters."""
        return sum(each.group == group for each in self._letters.values())

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter."""
        return self._letters.get(letter_id)

    async def remove_dead_letter(self, letter_id: str) -> bool:
        """Remove one dead letter."""
        return self._letters.pop(letter_id, None) is not None

    # --- for tests ----------------------------------------------------------------------------------------------------

    def stored(self) -> list[Envelope]:
        """Return what was published, in its order, but for what was sent to one group again."""
        found = sorted((each for log in self._log for each in log if not each.group), key=_number)
        return [each.envelope for each in found]

    def letters(self) -> list[DeadLetter]:
        """Return the dead letters, by id."""
        return [self._letters[id_] for id_ in sorted(self._letters)]

    def settled(self) -> list[tuple[str, Envelope]]:
        """Return what groups are done with, each once with its group: consumed, or a dead letter."""
        done = {(name, each.envelope.id): each.envelope for name, each, is_done in self._seen() if is_done}
        return [(name, envelope) for (name, _), envelope in done.items()]

    def waiting(self) -> list[tuple[str, Envelope]]:
        """Return what groups that have members are not done with, each with its group."""
        return [(name, each.envelope) for name, each, done in self._seen() if not done and self._groups[name].members]

    def _seen(self) -> Iterator[tuple[str, _Stored, bool]]:
        for name, group in self._groups.items():
            for each in sorted((each for log in self._log for each in log), key=_number):
                if each.envelope.type in group.types and each.group in ("", name):
                    yield name, each, each.number in group.settled

    # --- for subscriptions --------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time by the broker's clock."""
        return self._clock()

    def leave(self, group: str, member: "_Subscription") -> None:
        """Take `member` out of its group, and share its partitions among the others."""
        state = self._groups[group]
        if member in state.members:
            state.members.remove(member)
            self._share(state)

    def state(self, group: str) -> _Group:
        """Return what is known of a group."""
        return self._groups[group]

    def fill(self, lane: Lane, group: str, types: frozenset[str]) -> None:
        """Offer `lane` what comes next in its partition."""
        state = self._groups[group]
        log = self._log[lane.partition]
        for index in range(bisect_right(log, lane.scanned, key=_number), len(log)):
            each = log[index]
            if lane.free <= 0:
                return
            ours = each.envelope.type in types and each.group in ("", group)
            if ours and each.number not in state.settled:
                due = state.due.get(each.number, 0.0)
                lane.offer(Item(each.number, each.envelope, state.attempts.get(each.number, 0), due))
            lane.scanned = each.number

    def _share(self, state: _Group) -> None:
        """Give every member its share, moving as few partitions as that takes."""
        if not state.members:
            return
        share = fair_share(len(state.members))
        homeless = set(range(PARTITIONS))
        for member in state.members:
            for partition in sorted(member.lanes.held)[share:]:
                del member.lanes.held[partition]
            homeless -= member.lanes.held.keys()
        for member in state.members:
            while homeless and len(member.lanes.held) < share:
                partition = homeless.pop()
                state.fences[partition] += 1
                member.lanes.held[partition] = Lane(partition, state.fences[partition])
            member.bell.set()


class _Subscription:
    def __init__(self, broker: MemoryBroker, group: str, types: frozenset[str]) -> None:
        self.lanes = Lanes()
        self.bell = asyncio.Event()
        self.broker = broker
        self.group = group
        self._types = types

    async def next(self) -> "_Delivery":
        while True:
            self.bell.clear()
            for lane in self.lanes.held.values():
                self.broker.fill(lane, self.group, self._types)
            now = self.broker.now()
            if (taken := self.lanes.take(now)) is not None:
                return _Delivery(self, *taken)
            due = self.lanes.next_due(now)
            try:
                # by the real clock at the latest, because the broker's may be a test's
                async with asyncio.timeout(0.05 if due is not None else None):
                    await self.bell.wait()
            except TimeoutError:
                continue

    def more(self, after: Delivery, most: int) -> "list[_Delivery]":
        lane = self.lanes.holding(after.envelope)
        if lane is None:
            return []
        self.broker.fill(lane, self.group, self._types)
        return [_Delivery(self, lane, item) for item in lane.more(most, self.broker.now())]

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        for each in deliveries:
            await each.ack()

    async def close(self) -> None:
        self.lanes.held.clear()
        self.broker.leave(self.group, self)


class _Delivery:
    def __init__(self, subscription: _Subscription, lane: Lane, item: Item) -> None:
        self.envelope = item.envelope
        self.lease = f"{subscription.broker.id}/{subscription.group}/{lane.partition}"
        self.fence = lane.fence
        self._subscription = subscription
        self._lane = lane
        self._item = item
        self._counted = False

    @property
    def tried(self) -> bool:
        return self._item.attempts > 0

    async def attempt(self) -> int:
        state = self._held()
        self._item.attempts += 1
        self._counted = True
        state.attempts[self._item.number] = self._item.attempts
        return self._item.attempts

    async def ack(self) -> None:
        state = self._held()
        state.settled.add(self._item.number)
        state.attempts.pop(self._item.number, None)
        state.due.pop(self._item.number, None)
        self._lane.settle(self._item)
        self._subscription.bell.set()

    async def nack(self, delay: float) -> None:
        due = self._subscription.broker.now() + delay
        self._held().due[self._item.number] = due
        self._lane.park(self._item, due)
        self._subscription.bell.set()

    async def release(self) -> None:
        state = self._held()
        if self._counted:
            self._item.attempts -= 1
            state.attempts[self._item.number] = self._item.attempts
        self._lane.park(self._item, 0.0)
        self._subscription.bell.set()

    def _held(self) -> _Group:
        subscription = self._subscription
        if subscription.lanes.held.get(self._lane.partition) is not self._lane:
            raise LeaseLost(f"partition {self._lane.partition} of {subscription.group} belongs to another member now")
        return subscription.broker.state(subscription.group)
