from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from interlock.events import dead_letters
from interlock.events.broker import UNREADABLE, DeadLetter
from interlock.events.brokers.memory import MemoryBroker
from interlock.events.dead_letters import CannotReplay, Selection, UnknownLetter
from tests.events.broker_suite import TYPES, event

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def letter(number: int) -> DeadLetter:
    return DeadLetter(
        group=f"api.group{number % 2}",
        envelope=event(f"k-{number % 3}", id_=f"e-{number:04}", type_=TYPES[number % 2]),
        code="INTERNAL" if number % 2 else "UNAVAILABLE",
        cause=f"RuntimeError: Broke {number}",
        attempts=3,
        at=NOON + timedelta(minutes=number),
    )


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    broker = MemoryBroker()
    for number in range(6):
        await broker.bury(letter(number))
    yield broker
    await broker.stop()


@pytest.mark.parametrize(
    "selection,numbers",
    [
        (Selection(), [0, 2, 4, 1, 3, 5]),
        (Selection(group="api.group1"), [1, 3, 5]),
        (Selection(type=TYPES[0]), [0, 2, 4]),
        (Selection(key="k-0"), [0, 3]),
        (Selection(code="internal"), [1, 3, 5]),
        (Selection(reason="BROKE 4"), [4]),
        (Selection(since=NOON + timedelta(minutes=4)), [4, 5]),
        (Selection(until=NOON), [0]),
        (Selection(group="api.group0", key="k-1"), [4]),
        (Selection(reason="never"), []),
    ],
)
async def test_a_selection_means_what_fits_everything_given(
    broker: MemoryBroker, selection: Selection, numbers: list[int]
) -> None:
    """Each filter narrows; what is left comes by id."""
    found = [each async for each in dead_letters.select(broker, selection)]
    assert found == [letter(number) for number in numbers]


async def test_selected_letters_may_be_removed_while_they_come(broker: MemoryBroker) -> None:
    """More letters than a page are all seen once, though each is discarded as it comes."""
    count = dead_letters.PAGE * 2 + 7
    for number in range(count):
        await broker.bury(letter(number))
    seen = []
    async for each in dead_letters.select(broker):
        seen.append(each.id)
        await dead_letters.discard(broker, each.id)
    assert len(set(seen)) == len(seen) == count
    assert await broker.dead_letters() == []


async def test_a_limit_bounds_what_comes(broker: MemoryBroker) -> None:
    """No more letters than the limit come."""
    assert len([each async for each in dead_letters.select(broker, limit=2)]) == 2


async def test_a_replay_has_an_attempt_id_of_its_own(broker: MemoryBroker) -> None:
    """The event comes to its group under its id, each replay with another attempt id."""
    member = await broker.subscribe("api.group0", TYPES)
    attempts = []
    again = letter(0)
    for _ in range(2):
        await broker.bury(again)
        await dead_letters.replay(broker, again.id)
        delivery = await member.next()
        await delivery.ack()
        attempts.append(delivery.envelope.attempt_id)
        again = replace(again, envelope=delivery.envelope)
    assert attempts == ["e-0000/1", "e-0000/2"]
    assert await broker.dead_letter(letter(0).id) is None


async def test_what_is_no_event_can_not_be_replayed(broker: MemoryBroker) -> None:
    """It is refused and kept, and can be discarded."""
    await broker.bury(replace(letter(0), code=UNREADABLE))
    with pytest.raises(CannotReplay, match="discard"):
        await dead_letters.replay(broker, letter(0).id)
    assert await broker.dead_letter(letter(0).id) is not None
    await dead_letters.discard(broker, letter(0).id)


async def test_an_id_that_is_none_is_told(broker: MemoryBroker) -> None:
    """Showing, replaying and discarding name the id and what to do."""
    for act in (dead_letters.show, dead_letters.replay, dead_letters.discard):
        with pytest.raises(UnknownLetter, match=r"api.group0/none.*list"):
            await act(broker, "api.group0/none")
