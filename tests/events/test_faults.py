"""A table of steps and faults: a keyed create and a consumed event leave all or nothing; repeated, all once."""

import asyncio
import sys
import time
from contextlib import suppress

import pytest

from interlock.data import Database
from tests.data.databases import database_url
from tests.events.faults import KINDS, STEPS, Fault, Work, cancel, clash, opened

__all__ = ["database_url"]

NOTHING, EVERYTHING = (0, 0, 0), (1, 1, 1)


async def repeated(database: Database, kind: str, step: str) -> None:
    """Do the work once more, without a fault, and once too often: it is there once."""
    for _ in range(2):
        work = Work(database, "", cancel)
        work.step = step
        work.fault = None
        await work.do(kind)
        assert await work.found(kind) == EVERYTHING, step


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crash_leaves_all_or_nothing(database_url: str, kind: str) -> None:
    """Killed at each step, the work is not there before its commit and whole behind it; repeated, it is there once."""
    await (await opened(database_url)).stop()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.events.faults", database_url, kind)
    assert await process.wait() == 0
    # the claims of those who died are over by then
    database = await opened(database_url, clock=lambda: time.time() + 120)
    for step in STEPS:
        found = await Work(database, step, cancel).found(kind)
        assert found == (EVERYTHING if step == "committed" else NOTHING), step
        await repeated(database, kind, step)
    await database.stop()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancel_leaves_all_or_nothing(database_url: str, kind: str) -> None:
    """Cancelled before its commit begins, the work is undone; once the commit has begun, it ends."""
    database = await opened(database_url)
    for step in STEPS:
        work = Work(database, step, cancel)
        cancelled = asyncio.create_task(work.do(kind))
        with suppress(asyncio.CancelledError):
            await cancelled
        assert work.fault is None, step
        found = await work.found(kind)
        assert found == (EVERYTHING if step in ("noted", "committed") else NOTHING), step
        await repeated(database, kind, step)
    await database.stop()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_serialization_failure_runs_it_again(database_url: str, kind: str) -> None:
    """A conflict at any step undoes the run and begins another, and the outcome is there once."""
    database = await opened(database_url)
    fault: Fault = clash
    for step in STEPS[:-1]:
        work = Work(database, step, fault)
        await work.do(kind)
        assert work.runs == 2, step
        assert await work.found(kind) == EVERYTHING, step
        await repeated(database, kind, step)
    await database.stop()
