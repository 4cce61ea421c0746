"""Who runs beside whom."""

import asyncio

import pytest

from interlock.events.admission import Admission, Closed


class Runs:
    """Events that are let in, and leave when they are told to."""

    def __init__(self) -> None:
        self.admission = Admission()
        self.inside: list[str] = []
        self._told: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, name: str, *, alone: bool = False) -> None:
        """Begin one, and let everybody move."""
        self._told[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name, alone))
        await self.settle()

    async def end(self, name: str) -> None:
        """End one, and let everybody move."""
        self._told[name].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def _run(self, name: str, alone: bool) -> None:
        await self.admission.enter(alone=alone)
        self.inside.append(name)
        await self._told[name].wait()
        self.inside.remove(name)
        self.admission.leave(alone=alone)


async def test_events_run_side_by_side_but_suspects_alone() -> None:
    """A suspect waits for those inside, goes before those who came later, and is alone."""
    runs = Runs()
    for name in ("a", "b"):
        await runs.begin(name)
    await runs.begin("x", alone=True)
    await runs.begin("y", alone=True)
    await runs.begin("c")
    assert runs.inside == ["a", "b"]
    await runs.end("a")
    assert runs.inside == ["b"]
    await runs.end("b")
    assert runs.inside == ["x"]
    await runs.end("x")
    assert runs.inside == ["y"]
    await runs.begin("d")
    assert runs.inside == ["y"]
    await runs.end("y")
    assert runs.inside == ["c", "d"]


async def test_those_who_wait_are_sent_away_when_it_closes() -> None:
    """A drain leaves nobody waiting; what runs goes on, and behind it all is open again."""
    runs = Runs()
    await runs.begin("a")
    await runs.begin("x", alone=True)
    await runs.begin("b")
    runs.admission.close()
    await runs.settle()
    for name in ("x", "b"):
        with pytest.raises(Closed):
            await runs.tasks[name]
    await runs.end("a")
    runs.admission.open()
    await runs.begin("y", alone=True)
    assert runs.inside == ["y"]


async def test_a_suspect_that_is_cancelled_holds_up_nobody() -> None:
    """Who gives up waiting makes room."""
    runs = Runs()
    await runs.begin("a")
    await runs.begin("x", alone=True)
    await runs.begin("b")
    runs.tasks["x"].cancel()
    await runs.settle()
    assert runs.inside == ["a", "b"]
