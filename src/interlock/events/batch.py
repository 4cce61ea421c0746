"""Runs the deliveries of one partition in their order: several in one transaction while that goes well, else alone."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from interlock.call import Call, Cancellation
from interlock.data.batch import Batch, Part
from interlock.errors import Error
from interlock.events.arrival import Arrival
from interlock.events.broker import BrokerUnavailable, Delivery, LeaseLost
from interlock.events.pace import Pace

PATIENCE = 4.0
"""Times the pace's hold after which a handler is stopped, to run again alone, while others wait for its transaction."""

SIDE_BY_SIDE = 4
"""Batches of a process that run at a time; more would make each other slow, and meet at the same rows."""


@dataclass(slots=True, eq=False)
class Run:
    """One event that is being handled: `task` runs the chain and sets `error`; it raises nothing."""

    arrived: Arrival
    call: Call
    part: Part | None = None
    error: Error | None = None
    task: "asyncio.Task[None]" = field(init=False)

    @property
    def delivery(self) -> Delivery:
        """What is handled."""
        return self.arrived.delivery

    @property
    def done_with(self) -> bool:
        """Whether the event need not come again."""
        return self.error is None or self.arrived.duplicate or self.arrived.buried

    @property
    def helpless(self) -> bool:
        """Whether it failed for what others will meet too: its attempt was not counted."""
        return not self.done_with and not self.arrived.attempts


class _Reached:
    """Tells the batch's task that a handler has returned or failed; or `late`, that it has not in time."""

    __slots__ = ("_told", "_waiting")

    def __init__(self) -> None:
        self._told = False
        self._waiting: asyncio.Future[None] | None = None

    def __call__(self, *_: object) -> None:
        self._told = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def within(self, until: float | None = None) -> bool:
        """Wait for it, until that time of the loop at most; tell whether it came."""
        if not self._told:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            late = loop.call_at(until, self._wake) if until is not None else None
            try:
                await self._waiting
            finally:
                if late is not None:
                    late.cancel()
        return self._told


class Runner:
    """Runs deliveries; `begin` starts a call, `settle` tells the broker of calls that ended (False: the lease is lost).

    While `stopping`, no other event is begun. `paces` say by type how many may share a transaction.
    """

    def __init__(
        self,
        begin: "Callable[[Delivery, Part | None], Run]",
        settle: Callable[[Sequence[Run]], Awaitable[bool]],
        *,
        stopping: Callable[[], bool],
        paces: Mapping[str, Pace],
    ) -> None:
        self._begin = begin
        self._settle = settle
        self._stopping = stopping
        self._paces = paces
        self._side_by_side = asyncio.Semaphore(SIDE_BY_SIDE)

    async def run(self, deliveries: Sequence[Delivery]) -> None:
        """Run and settle deliveries of one partition; those behind a failed one of their key are given back."""
        # one that was tried before may have to run without anything beside it
        tried = next((at for at, each in enumerate(deliveries) if at and each.tried), len(deliveries))
        await _Queue(deliveries[tried:]).give_back()
        queue = _Queue(deliveries[:tried])
        while not self._stopping() and (first := await queue.next()) is not None:
            pace = self._paces[first.envelope.type]
            if pace.size > 1 and queue.waiting:
                async with self._side_by_side:
                    runs, since, batch = await self._together(first, queue)
                await self._conclude(runs, since, batch, queue)
            else:
                began = asyncio.get_running_loop().time()
                run = self._begin(first, None)
                await run.task
                await self._ended([run], queue)
                pace.went_well(1, asyncio.get_running_loop().time() - began)
        await queue.give_back()

    async def _ended(self, runs: Sequence[Run], queue: "_Queue") -> None:
        if not await self._settle(runs):
            queue.lost = True
        for run in runs:
            if not run.done_with:
                queue.held.add(run.delivery.envelope.partition_key)
                queue.lost = queue.lost or run.helpless

    async def _together(self, first: Delivery, queue: "_Queue") -> tuple[list[Run], float, Batch]:
        """Run events in one transaction until it is time to commit, and do so; also return when the first was ready."""
        loop = asyncio.get_running_loop()
        batch, runs = Batch(), list[Run]()
        hold = self._paces[first.envelope.type].hold
        since, until, latest = 0.0, None, 0.0
        delivery: Delivery | None = first
        while delivery is not None:
            reached = _Reached()
            run = self._begin(delivery, Part(batch, reached))
            run.task.add_done_callback(reached)
            runs.append(run)
            if not await reached.within(until) and await self._is_late(run, reached, latest):
                break
            if batch.undone:
                break
            if run.task.done() and not run.done_with:
                queue.held.add(delivery.envelope.partition_key)
            now = loop.time()
            if until is None:
                since, until, latest = now, now + hold, now + PATIENCE * hold
            left = run.call.deadline.remaining()
            until, latest = min(until, now + left / 2), min(latest, now + left * 3 / 4)
            full = len(runs) >= self._paces[delivery.envelope.type].size
            delivery = None if full or now >= until or self._stopping() else await queue.next()
        await batch.end()
        return runs, since, batch

    async def _conclude(self, runs: list[Run], since: float, batch: Batch, queue: "_Queue") -> None:
        """Settle what was committed; have the rest run, or run again, one by one."""
        paces = {self._paces[run.delivery.envelope.type] for run in runs}
        if batch.undone:
            for pace in paces:
                pace.went_wrong()
            await self._each_alone(runs, queue)
            return
        together = [run for run in runs if run.part is not None and not run.part.left]
        each = (asyncio.get_running_loop().time() - since) / max(1, len(together) - 1)
        for pace in paces:
            pace.went_well(len(together), each)
        for run in together:
            await run.task
        if together:
            await self._ended(together, queue)
        await self._each_alone(runs[len(together) :], queue)

    async def _is_late(self, run: Run, reached: _Reached, until: float) -> bool:
        """Wait no longer than those in front may; tell whether the call has left the batch, to commit behind it."""
        assert run.part is not None  # noqa: S101 - in a batch
        if run.part.leave():
            return True
        if not await reached.within(until):
            run.part.recall(run.call)
            await reached.within()
        return False

    async def _each_alone(self, runs: Sequence[Run], queue: "_Queue") -> None:
        """Let calls run again, one by one; those that may not run now are given back."""
        for run in runs:
            assert run.part is not None  # noqa: S101 - in a batch
            if queue.blocks(run.delivery) or (self._stopping() and not run.part.left):
                run.call.cancel(Cancellation.PARENT)
            run.part.go()
            await run.task
            await self._ended([run], queue)


class _Queue:
    """Deliveries that wait for their turn; `held` are keys of which one has failed, `lost` says that none may run."""

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self.waiting = deque(deliveries)
        self.held: set[str] = set()
        self.lost = False

    def blocks(self, delivery: Delivery) -> bool:
        """Tell whether an event may not run now."""
        return self.lost or delivery.envelope.partition_key in self.held

    async def next(self) -> Delivery | None:
        """Return the next that may run, and give back those that may not."""
        while self.waiting:
            delivery = self.waiting.popleft()
            if not self.blocks(delivery):
                return delivery
            await _given_back(delivery)
        return None

    async def give_back(self) -> None:
        """Give back all that wait."""
        while self.waiting:
            await _given_back(self.waiting.popleft())


async def _given_back(delivery: Delivery) -> None:
    with suppress(LeaseLost, BrokerUnavailable):
        await delivery.release()
