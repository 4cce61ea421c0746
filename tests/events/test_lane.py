from interlock.events.lane import Item, Lane, Lanes
from tests.events.broker_suite import event


def lane(*keys: str) -> Lane:
    made = Lane(3, 1)
    for number, key in enumerate(keys, 1):
        made.offer(Item(number, event(key)))
    return made


def taken(lane: Lane, now: float = 0.0) -> int:
    item = lane.take(now)
    return item.number if item is not None else 0


def settled(lane: Lane, now: float = 0.0) -> int:
    item = lane.take(now)
    assert item is not None
    lane.settle(item)
    return item.number


def test_one_is_out_at_a_time() -> None:
    """Nothing is handed out while an event is out."""
    busy = lane("a", "b")
    assert taken(busy) == 1
    assert taken(busy) == 0


def test_several_are_out_for_whom_asked_for_more() -> None:
    """What follows the one that is out is handed out in order, but for keys that wait; then nothing more."""
    busy = lane("a", "b", "b", "c", "a")
    parked = busy.take(0.0)
    assert parked is not None
    assert busy.more(0, 0.0) == []
    busy.park(parked, 5.0)
    first = busy.take(0.0)
    assert first is not None
    more = busy.more(5, 0.0)
    assert [each.number for each in (first, *more)] == [2, 3, 4]
    assert busy.more(5, 0.0) == []
    assert busy.take(9.0) is None
    busy.settle(more[1])
    busy.settle(first)
    assert (busy.idle, busy.take(9.0)) == (False, None)
    busy.park(more[0], 0.0)
    assert [settled(busy, 5.0) for _ in range(3)] == [1, 3, 5]


def test_more_needs_one_that_is_out() -> None:
    """Nothing follows where nothing is out."""
    assert lane("a", "b").more(5, 0.0) == []


def test_a_key_that_waits_holds_back_itself_only() -> None:
    """Later events of a parked key wait with it, others pass, and the order of the key stays."""
    waiting = lane("a", "a", "b")
    first = waiting.take(0.0)
    assert first is not None
    waiting.park(first, 5.0)
    assert settled(waiting) == 3
    assert taken(waiting) == 0
    assert waiting.next_due(0.0) == 5.0
    assert [settled(waiting, 5.0), settled(waiting, 5.0)] == [1, 2]


def test_the_position_stays_before_what_is_open() -> None:
    """The position is right before the oldest open event, and what was scanned once none is."""
    waiting = lane("a", "b", "c")
    first = waiting.take(0.0)
    assert first is not None
    waiting.park(first, 5.0)
    settled(waiting)
    assert waiting.position == 0
    settled(waiting, 5.0)
    assert waiting.position == 2
    settled(waiting, 5.0)
    assert waiting.position == 3


def test_what_a_former_owner_left_comes_first() -> None:
    """Until the redelivered events are all there nothing is handed out, then they come in order."""
    taken_over = Lane(3, 2)
    taken_over.await_redelivery(2, 4, until=10.0)
    taken_over.offer(Item(5, event("a")))
    taken_over.offer(Item(6, event("b")))
    taken_over.offer(Item(4, event("a")))
    assert taken(taken_over) == 0
    assert taken_over.next_due(0.0) == 10.0
    taken_over.offer(Item(2, event("a")))
    assert [settled(taken_over) for _ in range(4)] == [2, 4, 5, 6]


def test_what_never_comes_is_not_waited_for_for_ever() -> None:
    """Once the time is up the lane goes on without what was expected."""
    taken_over = Lane(3, 2)
    taken_over.await_redelivery(2, 4, until=10.0)
    taken_over.offer(Item(5, event("a")))
    assert taken(taken_over, 9.9) == 0
    assert taken(taken_over, 10.0) == 5


def test_lanes_take_turns() -> None:
    """A lane with much to do does not keep the others waiting."""
    lanes = Lanes()
    for partition in (1, 2):
        lanes.held[partition] = Lane(partition, 1)
        for number in (1, 2):
            lanes.held[partition].offer(Item(number, event(str(number))))
    turns = []
    for _ in range(4):
        found = lanes.take(0.0)
        assert found is not None
        turns.append(found[0].partition)
        found[0].settle(found[1])
    assert turns == [1, 2, 1, 2]
