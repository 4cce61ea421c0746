"""Purging: what is past use goes, in every table, by itself."""

import asyncio

from interlock.data import Database, inbox
from interlock.data.answer import Identity
from interlock.data.idempotency import StoredAnswers
from interlock.data.purge import Purge
from tests.data.databases import Clock


async def fill(database: Database, answers: StoredAnswers, name: str) -> None:
    await inbox.attempt(database, "c", name)
    await answers.claim(Identity(operation="/a/B", caller="c", key=name), b"f", 10)


async def test_a_turn_removes_what_is_past_use_and_nothing_else(database: Database, clock: Clock) -> None:
    """Answers go after their day, inbox rows after their week, however many there are."""
    answers = StoredAnswers(database)
    purge = Purge(database, answers)
    await asyncio.gather(*(fill(database, answers, f"old {n}") for n in range(5)))
    clock.now += 2 * 86_400
    await fill(database, answers, "new")
    assert await purge.turn() == 5  # the answers
    clock.now += 6 * 86_400
    assert await purge.turn() == 6  # their inbox rows, and the other answer
    assert await purge.turn() == 0
    assert await inbox.attempt(database, "c", "new") == 2


async def test_it_runs_by_itself(database: Database, clock: Clock) -> None:
    """Once started it purges again and again, until it is stopped."""
    answers = StoredAnswers(database)
    purge = Purge(database, answers, every=0.01)
    await fill(database, answers, "old")
    clock.now += 30 * 86_400
    await purge.start()
    async with asyncio.timeout(10):
        while await inbox.attempt(database, "c", "old") > 1:
            await inbox.uncount(database, "c", "old")
            clock.now += 30 * 86_400
            await asyncio.sleep(0.05)
    await purge.stop()
