"""The order kept within one partition of one group, as every broker keeps it: state only, no I/O and no clock."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from interlock.events.broker import partition_of
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
    """The open events of one partition: keys in order, a key that waits holds back itself only.

    One is out at a time, or several that one asked for in a row (`take`, then `more`).

    Items are offered with numbers that grow with the order of publishing. `scanned` is the number up to which events
    were offered or passed over; `room` bounds how many are held.
    """

    __slots__ = ("_barrier", "_open", "_out", "fence", "partition", "room", "scanned")

    def __init__(self, partition: int, fence: int, *, position: int = 0, room: int = 64) -> None:
        self.partition = partition
        self.fence = fence
        self.scanned = position
        self.room = room
        self._out: dict[int, Item] = {}
        self._open: dict[int, Item] = {}
        self._barrier: tuple[int, int, float] = (0, 0, 0.0)

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._open.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is out."""
        return not self._out

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
        if self._out or not self._open or self._waits(now):
            return None
        return next(iter(self._hand_out(1, now)), None)

    def more(self, most: int, now: float) -> list[Item]:
        """Hand out up to `most` that may follow what is out, in order, to whom has that."""
        return self._hand_out(most, now) if self._out else []

    def _hand_out(self, most: int, now: float) -> list[Item]:
        held: set[str] = set()
        found: list[Item] = []
        for item in self._open.values():
            if len(found) >= most:
                break
            key = item.envelope.partition_key
            if key in held or item.number in self._out:
                continue
            if item.due <= now:
                found.append(item)
            else:
                held.add(key)
        self._out.update((item.number, item) for item in found)
        return found

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
        if self._out.get(item.number) is item:
            del self._out[item.number]


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

    def holding(self, envelope: Envelope) -> Lane | None:
        """Return the lane of the partition of an event, if it is held."""
        return self.held.get(partition_of(envelope.partition_key))

    def next_due(self, now: float) -> float | None:
        """Return when the first event that is held back may be taken; None if none is."""
        return min((due for lane in self.held.values() if (due := lane.next_due(now)) is not None), default=None)

    def _behind(self, lane: Lane) -> bool:
        return lane.partition <= self._turn
