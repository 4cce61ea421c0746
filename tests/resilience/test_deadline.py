"""The wheel that keeps deadlines, turned by hand with a clock of its own."""

import asyncio
import gc
import weakref
from dataclasses import dataclass, replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Cancellation, Deadline, DeadlineExceeded, Reply
from interlock.deadline import NEVER, monotonic
from interlock.resilience.deadline import Wheel, deadline
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import COUNT_UP, ECHO, SAMPLE_SERVICE
from tests.waiting import until

TICK = 0.01
IDLE = 300.0
ECHO_OPERATION = SAMPLE_SERVICE.operation(ECHO)
STREAM = replace(SAMPLE_SERVICE.operation(COUNT_UP), timeout=None)


@dataclass
class FakeClock:
    """A clock that goes when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def call_until(at: float) -> Call:
    """Return a call with that deadline."""
    return Call(ECHO_OPERATION, deadline=Deadline(at))


@pytest.fixture
def clock() -> FakeClock:
    """The time."""
    return FakeClock()


@pytest.fixture
async def wheel(clock: FakeClock) -> Wheel:
    """A wheel of a hundredth of a second."""
    return Wheel(tick=TICK, idle=IDLE, clock=clock)


def is_late(call: Call) -> bool:
    """Tell whether a call was cancelled by its deadline."""
    return call.cancellation is Cancellation.DEADLINE


def held(wheel: Wheel) -> int:
    """Return how many things the wheel still holds."""
    return len(wheel.watched)


@given(
    delays=st.lists(st.floats(min_value=0, max_value=50), min_size=1, max_size=20),
    phase=st.floats(min_value=0, max_value=TICK),
    start=st.floats(min_value=0, max_value=1e7),
)
def test_nobody_is_cancelled_early_or_more_than_a_tick_late(delays: list[float], phase: float, start: float) -> None:
    """Whatever the deadlines and the phase of the turns, each falls between its deadline and a tick later."""

    async def run() -> None:
        clock = FakeClock(start)
        wheel = Wheel(tick=TICK, clock=clock)
        calls = [call_until(start + delay) for delay in delays]
        for call in calls:
            wheel.watch(call)
        times = sorted({start + delay for delay in delays})
        for at in times:
            clock.now = max(clock.now, at - phase - 1e-6)
            wheel.turn()
            assert not [each for each in calls if each.deadline.at > clock.now and each.cancellation]
            while clock.now < at + TICK:
                clock.now += TICK
                wheel.turn()
            late = [each for each in calls if each.deadline.at <= at]
            assert all(each.cancellation is Cancellation.DEADLINE for each in late)
        for call in calls:
            call.end()
        assert not held(wheel)

    asyncio.run(run())


async def test_a_wheel_that_stood_still_catches_up(clock: FakeClock, wheel: Wheel) -> None:
    """After a long block of the loop one turn cancels all that is due and nothing else."""
    calls = [call_until(clock.now + delay) for delay in (0.5, 5, 50, 5000)]
    for call in calls:
        wheel.watch(call)
    clock.now += 1000
    wheel.turn()
    assert [call.cancellation for call in calls] == [Cancellation.DEADLINE] * 3 + [None]


async def test_a_deadline_that_has_passed_already_is_kept_at_the_next_turn(clock: FakeClock, wheel: Wheel) -> None:
    """A call that comes late is not forgotten."""
    wheel.watch(call_until(clock.now + 60))
    late = call_until(clock.now - 30)
    wheel.watch(late)
    clock.now += 2 * TICK
    wheel.turn()
    assert late.cancellation is Cancellation.DEADLINE


async def test_an_ended_call_is_forgotten(clock: FakeClock, wheel: Wheel) -> None:
    """A call that ended in time leaves nothing behind, and is not cancelled when its time comes."""
    calls = [call_until(clock.now + 1 + number % 7) for number in range(1000)]
    for call in calls:
        wheel.watch(call)
    references = []
    for call in calls:
        call.request = EchoRequest()
        references.append(weakref.ref(call.request))
        call.end()
    assert not held(wheel)
    clock.now += 100
    wheel.turn()
    assert not any(call.cancellation for call in calls)
    del call, calls
    gc.collect()
    assert not [each for each in references if each() is not None]


async def test_a_cancelled_call_is_forgotten(clock: FakeClock, wheel: Wheel) -> None:
    """A call that was cut off leaves nothing behind either."""
    call = call_until(clock.now + 1)
    wheel.watch(call)
    clock.now += 1.1
    wheel.turn()
    assert call.cancellation is Cancellation.DEADLINE
    call.end()
    assert not held(wheel)


async def test_an_unwatched_end_is_harmless(clock: FakeClock, wheel: Wheel) -> None:
    """Ending a call that was the nearest, or after the wheel cut it off, changes nothing for others."""
    first, second = call_until(clock.now + 1), call_until(clock.now + 1)
    wheel.watch(first)
    wheel.watch(second)
    first.end()
    clock.now += 1.1
    wheel.turn()
    assert second.cancellation is Cancellation.DEADLINE
    second.end()
    assert not held(wheel)


@pytest.mark.parametrize("never", [NEVER, Deadline(float("inf"))], ids=["NEVER", "another inf"])
async def test_an_idle_stream_is_cut_off(clock: FakeClock, wheel: Wheel, never: Deadline) -> None:
    """A stream without a deadline, however that was written, ends once nothing passed for the idle time."""
    call = Call(STREAM, deadline=never)
    wheel.watch(call)
    clock.now += IDLE - 1
    wheel.turn()
    assert call.cancellation is None
    clock.now += 1 + 2 * TICK
    wheel.turn()
    assert call.cancellation is Cancellation.DEADLINE


async def test_a_stream_at_work_runs_on(clock: FakeClock, wheel: Wheel) -> None:
    """Every message that passes gives a stream the whole idle time again, for days."""
    call = Call(STREAM, deadline=NEVER)
    wheel.watch(call)
    for _ in range(1000):
        clock.now += IDLE - 1
        call.touched = clock.now
        wheel.turn()
        assert call.cancellation is None
        assert held(wheel) == 1
    clock.now += IDLE + 2 * TICK
    wheel.turn()
    assert call.cancellation is Cancellation.DEADLINE


async def test_without_an_idle_limit_a_stream_may_sleep(clock: FakeClock) -> None:
    """Idle 0 means never: nothing is held for such a call, and nothing turns for it."""
    wheel = Wheel(tick=TICK, idle=0, clock=clock)
    call = Call(STREAM, deadline=NEVER)
    wheel.watch(call)
    assert not held(wheel)
    clock.now += 1e9
    wheel.turn()
    assert call.cancellation is None
    call.end()


@pytest.mark.parametrize("at", [1e15, 1e300, 1.7e308])
async def test_a_deadline_beyond_all_time_is_none(clock: FakeClock, wheel: Wheel, at: float) -> None:
    """A deadline of more seconds than anybody counts is one that never comes."""
    call = call_until(at)
    wheel.watch(call)
    clock.now += 1e6
    wheel.turn()
    assert call.cancellation is None
    call.end()
    assert not held(wheel)


async def test_the_wheel_turns_by_itself_and_rests_when_nobody_is_watched() -> None:
    """In a loop the wheel turns while it has something to watch, and starts again after a rest."""
    wheel = Wheel(tick=0.001)
    for _ in range(2):
        call = call_until(monotonic() + 0.005)
        wheel.watch(call)
        await until(partial(is_late, call))
        call.end()
        await until(lambda: wheel._timer is None)


async def test_a_call_whose_time_is_up_goes_no_further() -> None:
    """A call that arrives too late is refused before anything is done for it."""
    reached: list[Call] = []

    async def handler(call: Call) -> Reply:
        reached.append(call)
        return EchoResponse()

    middleware = deadline(Wheel())(ECHO_OPERATION)
    assert middleware is not None
    with pytest.raises(DeadlineExceeded, match="had passed"):
        await middleware(call_until(monotonic() - 1), handler)
    assert not reached
    call = call_until(monotonic() + 60)
    await middleware(call, handler)
    assert reached == [call]
    call.end()
