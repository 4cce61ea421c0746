"""The order kept within one partition of one group, as every broker keeps it: state only, no I/O and no clock."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from interlock.events.envelope import Envelope


@dataclass(slots=True, eq=False)
class Item:
    """One event in a lane: its number there, its attempts, when it may be taken, and what its broker knows it by."""

    number: int
    envelope: Envelope
    attempts: int = 0
    due: float = 0.0
    token: Any = None


class Lane:
    """The open events of one partition: one out at a time, keys in order, a key that waits holds back itself only.

    Items are offered with numbers that grow with the order of publishing. `scanned` is the number up to which events
    were offered or passed over; `room` bounds how many are held.
    """

    __slots__ = ("_barrier", "_open", "fence", "out", "partition", "room", "scanned")

    def __init__(self, partition: int, fence: int, *, position: int = 0, room: int = 64) -> None:
        self.partition = partition
        self.fence = fence
        self.scanned = position
        self.room = room
        self.out: Item | None = None
        self._open: dict[int, Item] = {}
        self._barrier: tuple[int, int, float] = (0, 0, 0.0)

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._open.values())

    @property
    def position(self) -> int:
        """The number up to which every event is settled or passed over."""
        return next(iter(self._open)) - 1 if self._open else self.scanned

    @property
    def free(self) -> int:
        """How many more events the lane takes now."""
        return self.room - len(self._open)

    def find(self, number: int) -> Item | None:
        """Return the open event of that number."""
        return self._open.get(number)

    def await_redelivery(self, count: int, newest: int, until: float) -> None:
        """Hand out nothing until the `count` events up to `newest` that a former owner left open were offered.

        They come again at different times, and a later event of a key must not overtake. `until` is when to give up.
        """
        self._barrier = (count, newest, until)

    def offer(self, item: Item) -> None:
        """Take an event in; one of a number that is open already replaces it."""
        late = item.number < self.scanned and item.number not in self._open
        self._open[item.number] = item
        self.scanned = max(self.scanned, item.number)
        if late:
            self._open = dict(sorted(self._open.items()))

    def take(self, now: float) -> Item | None:
        """Hand out the first event whose key is not held back; None if there is none, or one is out."""
        if self.out is not None or self._waits(now):
            return None
        held: set[str] = set()
        for item in self._open.values():
            key = item.envelope.partition_key
            if key in held:
                continue
            if item.due <= now:
                self.out = item
                return item
            held.add(key)
        return None

    def settle(self, item: Item) -> None:
        """Close an event for good."""
        self._open.pop(item.number, None)
        self._in(item)

    def park(self, item: Item, due: float) -> None:
        """Hold back an event, and with it the later ones of its key, until `due`."""
        item.due = due
        self._in(item)

    def next_due(self, now: float) -> float | None:
        """Return when an event that is held back now may be taken; None if none is."""
        if self._waits(now):
            return self._barrier[2]
        return min((item.due for item in self._open.values() if item.due > now), default=None)

    def _waits(self, now: float) -> bool:
        count, newest, until = self._barrier
        if count and (now >= until or sum(number <= newest for number in self._open) >= count):
            self._barrier = (0, 0, 0.0)
        return self._barrier[0] > 0

    def _in(self, item: Item) -> None:
        if self.out is item:
            self.out = None


class Lanes:
    """The lanes that one member holds, taken from in turn."""

    def __init__(self) -> None:
        self.held: dict[int, Lane] = {}
        self._turn = 0

    def take(self, now: float) -> tuple[Lane, Item] | None:
        """Hand out the next event of any lane, beginning behind the one that had its turn last."""
        for lane in sorted(self.held.values(), key=self._behind):
            item = lane.take(now)
            if item is not None:
                self._turn = lane.partition
                return lane, item
        return None

    def next_due(self, now: float) -> float | None:
        """Return when the first event that is held back may be taken; None if none is."""
        return min((due for lane in self.held.values() if (due := lane.next_due(now)) is not None), default=None)

    def _behind(self, lane: Lane) -> bool:
        return lane.partition <= self._turn
