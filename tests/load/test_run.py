"""The open loop, in time that is made: nobody sleeps."""

import asyncio

import pytest

from interlock.bench import Measured, Plan, Progress, Run
from interlock.bench.run import UNFINISHED, UNSENT


class Time:
    """A clock that goes on only when the run sleeps, and a server that answers by it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[float] = []
        self._waiting: list[tuple[float, asyncio.Event]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Pass `seconds`, stopping at each moment when somebody waits for it."""
        await self._settle()  # what was started runs before time goes on
        until = self.now + max(seconds, 1e-4)
        while due := [each for each in self._waiting if each[0] <= until]:
            first = min(due, key=lambda each: each[0])
            self._waiting.remove(first)
            self.now = max(self.now, first[0])
            first[1].set()
            await self._settle()
        self.now = until
        await self._settle()

    async def until(self, moment: float) -> None:
        """Wait, as a server's answer does."""
        if moment > self.now:
            event = asyncio.Event()
            self._waiting.append((moment, event))
            await event.wait()

    async def answer(self, index: int) -> str:
        """Answer after 10 ms."""
        self.sent.append(self.now - 100)
        await self.until(self.now + 0.01)
        return ""

    async def _settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


async def measured(time: Time, plan: Plan, answer: object = None) -> Measured:
    return await Run(plan, answer or time.answer, clock=time.clock, sleep=time.sleep).measure()  # type: ignore[arg-type]


async def test_arrivals_leave_by_the_clock() -> None:
    """Each when it is due, whatever the answers do."""
    time = Time()
    result = await measured(time, Plan(rate=100, seconds=1))
    assert time.sent == pytest.approx([index / 100 for index in range(100)], abs=2e-3)
    assert (result.succeeded, result.errors, result.held) == (100, {}, 0)
    assert result.success_ratio == 1
    assert result.rate == pytest.approx(100, rel=0.01)
    assert result.latencies.quantile(0.99) == pytest.approx(0.01, abs=2e-3)


async def test_a_stall_is_not_hidden() -> None:
    """A server that answers nothing for half a second shows it in every call that was due meanwhile."""
    time = Time()

    async def stalled(index: int) -> str:
        time.sent.append(time.now - 100)
        await time.until(100.5)
        return ""

    result = await measured(time, Plan(rate=100, seconds=1), stalled)
    assert time.sent == pytest.approx([index / 100 for index in range(100)], abs=2e-3)
    assert result.latencies.largest == pytest.approx(0.5, abs=0.01)
    assert result.latencies.quantile(0.5) < 0.02
    assert result.latencies.quantile(0.75) == pytest.approx(0.25, abs=0.02)


async def test_waiting_for_a_place_counts_as_latency() -> None:
    """With one place and answers slower than arrivals the queue grows, and is measured from when calls were due."""
    time = Time()

    async def slow(index: int) -> str:
        time.sent.append(time.now - 100)
        await time.until(time.now + 0.02)
        return ""

    result = await measured(time, Plan(rate=100, seconds=1, in_flight=1), slow)
    assert result.succeeded == 100
    assert result.held == 99 - sum(1 for index, at in enumerate(time.sent) if index and at <= index / 100 + 1e-9)
    assert result.latencies.largest == pytest.approx(100 * 0.02 - 0.99, abs=0.05)
    assert result.rate == pytest.approx(50, rel=0.02)
    assert result.lags.quantile(0.99) < 0.002


async def test_what_gets_no_answer_is_given_up_and_counted() -> None:
    """The places stay taken: those sent are UNFINISHED, the others UNSENT, and all have waited till the end."""
    time = Time()
    cancelled = []

    async def silent(index: int) -> str:
        try:
            await time.until(10_000)
        except asyncio.CancelledError:
            cancelled.append(index)
            raise
        return ""

    plan = Plan(rate=10, seconds=1, in_flight=3, patience=0.5)
    result = await measured(time, plan, silent)
    assert result.errors == {UNFINISHED: 3, UNSENT: 7}
    assert sorted(cancelled) == [0, 1, 2]
    assert (result.succeeded, result.success_ratio, result.rate) == (0, 0, 0)
    assert result.latencies.count == 10
    assert result.latencies.largest == pytest.approx(1.5, abs=0.02)
    assert result.latencies.quantile(0.1) == pytest.approx(0.6, abs=0.02)


async def test_failures_are_counted_by_name() -> None:
    """They are no successes, and the run goes on."""
    time = Time()

    async def failing(index: int) -> str:
        return "UNAVAILABLE" if index % 4 == 0 else "NOT_FOUND" if index % 4 == 1 else ""

    result = await measured(time, Plan(rate=40, seconds=1), failing)
    assert result.errors == {"UNAVAILABLE": 10, "NOT_FOUND": 10}
    assert result.success_ratio == 0.5


async def test_what_is_broken_ends_the_run() -> None:
    """A mistake in here is raised, not counted as the server's; nothing is left running."""
    time = Time()

    async def broken(index: int) -> str:
        if index == 3:
            raise KeyError("a mistake")
        await time.until(10_000)
        return ""

    with pytest.raises(KeyError, match="a mistake"):
        await measured(time, Plan(rate=10, seconds=100), broken)
    assert time.now < 101
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_cancelled_run_leaves_nothing_behind() -> None:
    """Its calls are cancelled with it."""
    started = asyncio.Event()

    async def silent(index: int) -> str:
        started.set()
        await asyncio.Event().wait()
        return ""

    task = asyncio.ensure_future(Run(Plan(rate=1000, seconds=60), silent).measure())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_progress_is_told_each_second() -> None:
    """How much is sent, in flight, done; not oftener."""
    time, told = Time(), list[Progress]()
    await Run(
        Plan(rate=100, seconds=3.5), time.answer, clock=time.clock, sleep=time.sleep, progress=told.append
    ).measure()
    assert [round(each.elapsed) for each in told] == [1, 2, 3]
    assert all(each.total == 350 and each.in_flight <= 2 for each in told)
    assert [each.sent for each in told] == pytest.approx([each.elapsed * 100 for each in told], abs=2)
    assert all(each.succeeded + each.in_flight == each.sent and not each.failed for each in told)


async def test_the_clock_of_the_machine_will_do() -> None:
    """Without one handed in, real time passes."""

    async def at_once(index: int) -> str:
        return ""

    result = await Run(Plan(rate=500, seconds=0.1), at_once).measure()
    assert result.succeeded == 50
    assert 0.09 < result.span < 5
