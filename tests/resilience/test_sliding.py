"""Counts of what happened lately, held against a list of every event."""

from hypothesis import given
from hypothesis import strategies as st

from interlock.resilience.sliding import SLOTS, SlidingCount

STEPS = st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60)


@given(STEPS)
def test_a_count_lies_between_the_span_and_one_slot_more(steps: list[tuple[int, bool]]) -> None:
    """It never forgets what is younger than the span, and never keeps what is a slot older than it."""
    span, now = float(SLOTS), 100.0
    events: list[float] = []
    count = SlidingCount(span)
    for quarters, happens in steps:
        now += quarters / 4
        if happens:
            events.append(now)
            count.add(now)
        within = sum(1 for each in events if now - each < span)
        within_more = sum(1 for each in events if now - each < span + 1)
        assert within <= count.at(now) <= within_more


@given(STEPS)
def test_fewer_are_there_exactly_when_it_says_so(steps: list[tuple[int, bool]]) -> None:
    """Just before `until_fewer` has passed nothing is forgotten, and then something is."""
    now = 100.0
    before, after = SlidingCount(SLOTS), SlidingCount(SLOTS)
    for quarters, happens in steps:
        now += quarters / 4
        if happens:
            before.add(now)
            after.add(now)
    there = before.at(now)
    assert after.at(now) == there
    wait = before.until_fewer(now)
    assert (wait > 0) == (there > 0)
    if there:
        assert before.at(now + wait - 0.125) == there
        assert after.at(now + wait) < there
