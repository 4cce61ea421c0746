"""The deadline of SENT calls: whatever waits inside, the caller is let go when its time is up."""

import asyncio
import time

import pytest

from interlock import Call, Code, Deadline, DeadlineExceeded, Handler, Operation, Reply, Unavailable, current_call
from interlock.call import compose
from interlock.client import Transport
from interlock.resilience.budget import RetryBudget
from interlock.resilience.deadline import Wheel
from interlock.resilience.retry import RetryPolicy, retry
from interlock.resilience.sent_deadline import GRACE, late_wheel, sent_deadline
from tests.resilience.ground import Callee, Layered, ManualClock, failing, operation, sent
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample, make
from tests.waiting import until


async def for_ever(_call: Call) -> Reply:
    """Never answer, whatever the deadline."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


def chain(handler: Handler, clock: ManualClock, wheel: Wheel) -> Handler:
    """Return the handler inside the layer."""
    return compose([sent_deadline(wheel, clock)], operation(), handler)


async def past_its_time(task: "asyncio.Task[object]", clock: ManualClock, wheel: Wheel) -> None:
    """Let the task begin to wait, then the time of its call pass."""
    await asyncio.sleep(0)
    clock.now += 2 + GRACE
    wheel.turn()
    await asyncio.wait([task], timeout=5)


async def test_a_call_that_hangs_is_given_up() -> None:
    """The caller gets DEADLINE_EXCEEDED, and its task goes on as if nothing had been cancelled."""
    clock = ManualClock()
    wheel = late_wheel(clock)
    call = sent(operation(), deadline=Deadline.after(1, clock))

    async def caller() -> tuple[Code, int]:
        with pytest.raises(DeadlineExceeded) as passed:
            await chain(for_ever, clock, wheel)(call)
        call.end(passed.value)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return passed.value.code, task.cancelling()

    task = asyncio.create_task(caller())
    await past_its_time(task, clock, wheel)
    assert task.result() == (Code.DEADLINE_EXCEEDED, 0)


async def test_a_caller_who_gives_up_is_not_told_of_deadlines() -> None:
    """A cancel from outside stays a cancel, also where the deadline passes at the same time."""
    clock = ManualClock()
    wheel = late_wheel(clock)
    call = sent(operation(), deadline=Deadline.after(1, clock))

    async def caller() -> None:
        await chain(for_ever, clock, wheel)(call)

    task = asyncio.create_task(caller())
    await asyncio.sleep(0)
    task.cancel()
    clock.now += 2 + GRACE
    wheel.turn()
    await asyncio.wait([task], timeout=5)
    call.end()
    assert task.cancelled()


async def test_the_callees_own_answer_is_waited_for() -> None:
    """Within the grace after its deadline a call is not cut off: what the callee says is better than nothing."""
    clock = ManualClock()
    wheel = late_wheel(clock)
    call = sent(operation(), deadline=Deadline.after(1, clock))
    answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    async def late(_call: Call) -> Reply:
        return await answer

    async def caller() -> Reply:
        return await chain(late, clock, wheel)(call)

    task = asyncio.create_task(caller())
    await asyncio.sleep(0)
    clock.now += 1.1
    wheel.turn()
    await asyncio.sleep(0)
    answer.set_result(EchoResponse(text="late"))
    assert await task == EchoResponse(text="late")
    call.end()


async def test_what_has_ended_is_not_cancelled_any_more() -> None:
    """The task of a call that came back is left alone, though the call is not ended yet."""
    clock = ManualClock()
    wheel = late_wheel(clock)
    call = sent(operation(), deadline=Deadline.after(1, clock))
    await chain(Callee(), clock, wheel)(call)
    clock.now += 2 + GRACE
    wheel.turn()
    await asyncio.sleep(0)
    call.end()


async def test_a_call_whose_time_is_up_is_not_sent() -> None:
    """It fails before anything is asked."""
    clock, callee = ManualClock(), Callee()
    with pytest.raises(DeadlineExceeded, match="before the call was sent"):
        await chain(callee, clock, late_wheel(clock))(sent(operation(), deadline=Deadline(clock.now)))
    assert callee.calls == []


async def test_a_call_without_end_may_wait() -> None:
    """Where neither caller nor contract set a time, nothing is watched."""
    call, clock = sent(operation()), ManualClock()
    assert await chain(Callee(), clock, late_wheel(clock))(call) == EchoResponse(text="here")
    assert call.task is None


async def test_all_attempts_and_waits_fit_into_the_deadline() -> None:
    """Through a real app that refuses and then hangs: the caller is free again when its time is up."""
    sample = Sample()
    app = make(sample)
    layers = [sent_deadline(late_wheel()), retry(RetryPolicy(), RetryBudget()), failing([Unavailable("busy")])]
    async with app, SampleServiceClient(Layered(app.in_process(), layers)) as client:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await client.using(timeout=0.1).slow(seconds=30)
        assert time.monotonic() - began < 5
        await until(lambda: sample.cancelled == ["DEADLINE"])


class Asking(Sample):
    """A handler that calls a neighbour, which never answers, and makes do without."""

    def __init__(self, neighbour: Transport, clock: ManualClock, wheel: Wheel) -> None:
        super().__init__()
        self.neighbour = SampleServiceClient(Layered(neighbour, [sent_deadline(wheel, clock)]))

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Ask the neighbour, then answer all the same."""
        assert current_call.get() is call
        with pytest.raises(DeadlineExceeded):
            await self.neighbour.using(timeout=1).slow(seconds=60)
        assert call.cancellation is None
        return EchoResponse(text="without it")


class Nowhere:
    """A transport that never answers."""

    def __init__(self) -> None:
        self.asked = 0

    def handler(self, operation: Operation) -> Handler:
        """Return a handler that hangs."""
        return self.hang

    async def hang(self, call: Call) -> Reply:
        """Note that the call came, and never answer."""
        self.asked += 1
        return await for_ever(call)

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_stream_that_does_not_open_is_given_up() -> None:
    """With retries and without; its caller's task goes on as if nothing had been cancelled."""
    for retries in (0, 3):
        async with SampleServiceClient(Nowhere(), retries=RetryPolicy(retries=retries)) as client:
            with pytest.raises(DeadlineExceeded):
                await asyncio.wait_for(anext(client.using(timeout=0.05).count_up(count=3)), 20)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_handler_outlives_its_neighbours_deadline() -> None:
    """A served call whose own sent call ran out of time is not cancelled itself, and can still answer."""
    clock = ManualClock(now=time.monotonic())  # calls take their deadlines from the real clock
    wheel = late_wheel(clock)
    neighbour = Nowhere()
    app = make(Asking(neighbour, clock, wheel))
    async with app, SampleServiceClient(app) as client:
        task = asyncio.create_task(ask(client))
        await until(lambda: neighbour.asked > 0)
        clock.now += 3
        wheel.turn()
        assert await task == "without it"


async def ask(client: SampleServiceClient) -> str:
    """Return what an echo says."""
    return (await client.echo(text="x")).text
