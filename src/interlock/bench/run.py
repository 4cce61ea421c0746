"""Sends a plan's arrivals and measures each from when it was due, so that a slow server can't hide its queue."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from interlock.bench.latencies import Latencies
from interlock.bench.plan import Plan
from interlock.deadline import Clock, monotonic

Send: TypeAlias = Callable[[int], Awaitable[str]]
"""Sends arrival number `index` (from 0) and returns the name of its failure, empty where it succeeded."""

Sleep: TypeAlias = Callable[[float], Awaitable[object]]

UNFINISHED = "UNFINISHED"
"""Sent, but not answered when the run was given up."""
UNSENT = "UNSENT"
"""Due, but never sent: every place in flight was taken until the run was given up."""

_TICK = 0.01
_EVERY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is, `elapsed` seconds after its start."""

    elapsed: float
    sent: int
    total: int
    in_flight: int
    succeeded: int
    failed: int
    p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What became of the arrivals of a plan.

    `latencies` holds every arrival, whatever became of it, from when it was due to its end; `lags` how late the load
    generator itself sent. `held` arrivals had to wait for a place in flight. `span` is the time from the first success
    to the last.
    """

    plan: Plan
    succeeded: int
    errors: Mapping[str, int]
    latencies: Latencies
    lags: Latencies
    held: int
    span: float

    @property
    def success_ratio(self) -> float:
        """The share of all arrivals that succeeded."""
        return self.succeeded / max(1, self.latencies.count)

    @property
    def rate(self) -> float:
        """Successes a second: over the time from the first to the last, never over less than was planned."""
        between = self.plan.at(self.plan.total - 1)
        if between == 0:
            return self.succeeded / max(self.plan.seconds, self.span)
        return max(0, self.succeeded - 1) / max(between, self.span)


class Run:
    """One run of a plan, to be awaited once; `progress` is told about once a second."""

    def __init__(
        self,
        plan: Plan,
        send: Send,
        *,
        clock: Clock = monotonic,
        sleep: Sleep = asyncio.sleep,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._plan = plan
        self._send = send
        self._clock = clock
        self._sleep = sleep
        self._progress = progress
        self._begin = 0.0
        self._sent = 0
        self._crowded = False
        self._over = False
        self._broken: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._latencies = Latencies()
        self._lags = Latencies()
        self._held = 0
        self._errors: Counter[str] = Counter()
        self._succeeded = 0
        self._successes: tuple[float, float] | None = None

    async def measure(self) -> Measured:
        """Send everything and return what came of it; what `send` raises ends the run and is raised."""
        self._begin = self._clock()
        told = _EVERY
        try:
            while (elapsed := self._elapsed()) < self._plan.end and self._broken is None:
                self._pump()
                if self._latencies.count == self._plan.total:
                    break
                if self._progress is not None and elapsed >= told:
                    told = elapsed + _EVERY
                    self._progress(self._now())
                await self._sleep(self._pause(elapsed))
        finally:
            await self._give_up()
        if self._broken is not None:
            raise self._broken
        first, last = self._successes or (0.0, 0.0)
        return Measured(
            plan=self._plan,
            succeeded=self._succeeded,
            errors=dict(self._errors),
            latencies=self._latencies,
            lags=self._lags,
            held=self._held,
            span=last - first,
        )

    def _elapsed(self) -> float:
        return self._clock() - self._begin

    def _pause(self, elapsed: float) -> float:
        if self._sent == self._plan.total or self._crowded:  # answers wake the next arrivals themselves
            return _TICK
        return min(max(self._plan.at(self._sent) - elapsed, 0.0), _TICK)

    def _pump(self) -> None:
        """Send what is due, as long as there are places."""
        now = self._elapsed()
        due = self._plan.due(now)
        while self._sent < due and len(self._tasks) < self._plan.in_flight:
            if self._crowded:
                self._held += 1
            else:
                self._lags.add(now - self._plan.at(self._sent))
            self._tasks.add(asyncio.ensure_future(self._one(self._sent)))
            self._sent += 1
        self._crowded = self._sent < due

    async def _one(self, index: int) -> None:
        try:
            failure = await self._send(index)
        except asyncio.CancelledError:
            failure = UNFINISHED
        except Exception as broken:
            self._broken = broken
            return
        self._note(index, failure)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.discard(task)
        if not self._over:
            self._pump()

    def _note(self, index: int, failure: str) -> None:
        now = self._elapsed()
        self._latencies.add(now - self._plan.at(index))
        if failure:
            self._errors[failure] += 1
        else:
            self._succeeded += 1
            self._successes = (self._successes[0] if self._successes else now, now)

    async def _give_up(self) -> None:
        self._over = True
        waiting = list(self._tasks)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for index in range(self._sent, self._plan.due(self._elapsed())):
            self._note(index, UNSENT)

    def _now(self) -> Progress:
        return Progress(
            elapsed=self._elapsed(),
            sent=self._sent,
            total=self._plan.total,
            in_flight=len(self._tasks),
            succeeded=self._succeeded,
            failed=sum(self._errors.values()),
            p95=self._latencies.quantile(0.95),
        )
