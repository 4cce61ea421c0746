"""A client keeps itself under the rate limit that it was told."""

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from interlock import (
    Call,
    Deadline,
    Error,
    Metadata,
    Operation,
    Outcome,
    Principal,
    Reply,
    ResourceExhausted,
    Settings,
    Unavailable,
)
from interlock.call import compose, current_call
from interlock.contract.model import RateLimit
from interlock.deadline import monotonic
from interlock.errors import UNPROCESSED
from interlock.resilience.throttle import (
    ASKING,
    LONGEST,
    MOST_WAITING,
    Throttle,
    Throttled,
    Throttles,
    throttle,
    told_by,
)
from tests.resilience.ground import ManualClock, operation, received, sent
from tests.sample.gen.sample.v1.sample_pb import EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import CREATE_THING, SampleServiceClient
from tests.sample.handlers import make
from tests.waiting import until

LIMIT = RateLimit(requests=3, per=timedelta(seconds=60))


def test_what_is_told_is_what_may_go() -> None:
    """So many as are left, not one more; the calls under way are taken off."""
    known = Throttle(clock=ManualClock())
    assert known.enter()
    known.told(3, 10)  # one is under way, which the callee may not have counted
    assert [known.enter() for _ in range(3)] == [True, True, False]
    for _ in range(3):
        known.leave()
    known.told(0, 10)
    assert not known.enter()
    assert known.retry_after() == timedelta(seconds=10)


def test_once_the_time_is_over_one_call_asks() -> None:
    """Not all at once: the others wait for what it is told, or until it is given up."""
    clock = ManualClock()
    known = Throttle(LIMIT, clock)
    known.told(0, 10)
    clock.now += 10
    assert [known.enter(), known.enter()] == [True, False]
    clock.now += ASKING
    assert [known.enter(), known.enter()] == [True, False]
    known.leave()
    known.leave()
    known.told(2, 5)
    assert [known.enter(), known.enter(), known.enter()] == [True, True, False]


def test_a_contracts_limit_holds_before_anything_was_told() -> None:
    """A burst at the start goes no further than the contract lets it; without one it is not known."""
    known = Throttle(LIMIT, ManualClock())
    assert [known.enter() for _ in range(4)] == [True, True, True, False]
    unknown = Throttle(None, ManualClock())
    assert all(unknown.enter() for _ in range(1000))


def test_a_reply_that_tells_of_no_limit_ends_it() -> None:
    """A limit may be lifted while a client runs."""
    clock = ManualClock()
    known = Throttle(LIMIT, clock)
    known.told(0, 100)
    known.unlimited()
    assert all(known.enter() for _ in range(100))
    clock.now += 1000
    assert all(known.enter() for _ in range(100))


def test_nobody_is_believed_for_ever() -> None:
    """A callee that names a time years ahead keeps its callers for an hour at most."""
    clock = ManualClock()
    known = Throttle(clock=clock)
    known.told(0, 1e12)
    assert known.retry_after() == timedelta(seconds=LONGEST)
    clock.now += LONGEST
    assert known.enter()


async def test_a_window_of_ages_is_not_believed_either() -> None:
    """A policy's window that no time can hold: the call that finds no place gets its refusal, and not a crash."""
    callee = Limited()
    callee.headers = {"ratelimit": '"a";r=1;t=0', "ratelimit-policy": '"a";q=1;w=999999999999999'}
    handler = compose([throttle(Throttles(together=True))], operation(), callee)
    await once(handler)
    callee.headers, callee.error = {}, received(Unavailable("broke"))
    with pytest.raises(Unavailable):
        await once(handler)
    with pytest.raises(Throttled) as refused:
        await once(handler, seconds=0.05)
    assert refused.value.retry_after is not None
    assert timedelta(minutes=59) < refused.value.retry_after <= timedelta(seconds=LONGEST)


async def test_no_more_than_some_wait() -> None:
    """Callers of a limit that is used up do not pile up; those who wait get their turn all the same."""
    known = Throttle()
    known.told(0, 30)
    waiting = [asyncio.ensure_future(known.wait(60)) for _ in range(MOST_WAITING)]
    await until(lambda: known.waiting == MOST_WAITING)
    assert not await asyncio.wait_for(known.wait(60), 10)  # at once, and not after its minute
    known.told(1, 30)
    assert await waiting[0]
    for each in waiting[1:]:
        each.cancel()


@pytest.mark.parametrize(
    "given, state",
    [
        (b'"a";r=0;t=1,"b";r=0;t=50', (0, 50.0)),
        (b'"a";t=9; r=3', (3, 9.0)),
        (b'"a";r=05;t=7', (5, 7.0)),
        (b'"a";r=0;t=999999999999999', (0, LONGEST)),
        (b'"bur=0";r=7', None),
        (b"limit=10, remaining=0, reset=30", None),
    ],
)
def test_the_tightest_limit_is_read(given: bytes, state: tuple[int, float] | None) -> None:
    """Of equal ones the longest; older forms of the field, and halves of it, are not taken for it."""
    assert told_by(given) == state


async def test_waiting_calls_go_in_order_when_there_is_more() -> None:
    """Whoever waits is woken by what another call is told; whoever is cancelled takes nothing."""
    known = Throttle(LIMIT, ManualClock())
    assert all(known.enter() for _ in range(3))
    order: list[int] = []

    async def wait(number: int) -> None:
        if await known.wait(math.inf):
            order.append(number)

    tasks = [asyncio.create_task(wait(each)) for each in range(4)]
    await until(lambda: known.waiting == 4)
    tasks[1].cancel()
    await until(tasks[1].done)
    known.leave()
    known.told(4, 60)  # two are under way
    await until(lambda: len(order) == 2)
    assert order == [0, 2]
    assert (known.waiting, known.under_way) == (1, 4)
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert known.waiting == 0


async def test_a_call_that_would_wait_too_long_ends_at_once() -> None:
    """Before its deadline, unsent, saying when there is more; and without having taken anything."""
    known = Throttle(LIMIT)
    known.told(0, 50)
    before = asyncio.get_running_loop().time()
    assert not await known.wait(49)
    assert asyncio.get_running_loop().time() - before < 5
    assert known.waiting == 0


class Limited:
    """A handler that tells of a limit, and refuses beyond it when it is asked to."""

    def __init__(self) -> None:
        self.calls = 0
        self.headers: dict[str, str] = {}
        self.error: Error | None = None

    async def __call__(self, call: Call) -> Reply:
        self.calls += 1
        call.reply_headers.extend(Metadata(self.headers.items()))
        if self.error is not None:
            raise self.error
        return EchoResponse()


async def once(handler: Callable[[Call], object], *, seconds: float = 5.0) -> Call:
    """Call through a handler, and end the call as its maker does."""
    call = sent(operation(rate_limit=LIMIT), deadline=Deadline.after(seconds))
    try:
        await handler(call)  # type: ignore[misc]  # a chain
    except Error as error:
        call.end(error)
        raise
    call.end()
    return call


async def test_headers_of_replies_are_obeyed() -> None:
    """The strictest of several limits counts; what is not their form says nothing."""
    callee = Limited()
    handler = compose([throttle(Throttles())], operation(rate_limit=LIMIT), callee)
    callee.headers = {"ratelimit": '"a";r=9;t=1, "b";r=1;t=40', "ratelimit-policy": '"a";q=10;w=1, "b";q=5;w=60'}
    await once(handler)
    callee.headers = {"ratelimit": '"b";r=0;t=40'}
    await once(handler)
    with pytest.raises(Throttled, match=r"more from 40 s on|more from 39\.\d s on") as refused:
        await once(handler)
    assert (refused.value.unsent, refused.value.received, callee.calls) == (True, True, 2)
    assert refused.value.retry_after is not None
    assert 30 < refused.value.retry_after.total_seconds() <= 40

    callee.headers = {"ratelimit": "nonsense;;;,,r=;t=99999999999999999999999999"}
    other = compose([throttle(Throttles())], operation(rate_limit=LIMIT), callee)
    for _ in range(9):
        await once(other)


async def test_retry_after_of_a_refusal_is_obeyed() -> None:
    """Also where the refusal says that nothing was done for the call; other failures tell nothing of the limit."""
    callee = Limited()
    handler = compose([throttle(Throttles())], operation(rate_limit=LIMIT), callee)
    callee.error = Unavailable("away", retry_after=timedelta(seconds=40))
    for _ in range(2):
        with pytest.raises(Unavailable):
            await once(handler)
    refusal = ResourceExhausted("limit", retry_after=timedelta(seconds=40), metadata=[UNPROCESSED])
    refusal.unsent = True
    callee.error = received(refusal)
    with pytest.raises(ResourceExhausted, match="limit"):
        await once(handler)
    with pytest.raises(Throttled):
        await once(handler)
    assert callee.calls == 3


async def test_callers_of_ours_have_limits_of_their_own() -> None:
    """Who is served decides, for the callee counts them apart; a gateway's calls are not held back at all."""
    throttles = Throttles()
    callee = Limited()
    handler = compose([throttle(throttles)], operation(rate_limit=LIMIT), callee)
    callee.headers = {"ratelimit": '"default";r=0;t=40'}
    for subject in ("anna", "ben"):
        serving = Call(operation(), principal=Principal(subject=subject))
        token = current_call.set(serving)
        try:
            await once(handler)
            with pytest.raises(Throttled):
                await once(handler)
            handed_on = sent(operation(rate_limit=LIMIT))
            handed_on.handed_on = True
            await handler(handed_on)
            handed_on.end()
        finally:
            current_call.reset(token)
    assert callee.calls == 4


async def test_a_call_that_was_not_sent_takes_nothing() -> None:
    """An open circuit or a full bulkhead costs no place."""
    callee = Limited()
    error = Unavailable("circuit open")
    error.unsent = True
    callee.error = error
    throttles = Throttles()
    handler = compose([throttle(throttles)], operation(rate_limit=LIMIT), callee)
    for _ in range(50):
        with pytest.raises(Unavailable):
            await once(handler)
    callee.error = None
    callee.headers = {"ratelimit": '"default";r=2;t=40'}
    await once(handler)


async def test_a_client_that_was_told_is_not_refused() -> None:
    """20 callers at once against 8 a second: slower, and no refusal by the server once the limit is known."""
    codes: list[str] = []

    def meter(called: Operation) -> Callable[[Outcome], None]:
        return lambda outcome: codes.append(outcome.code.name)

    app = make(settings=Settings(operations={CREATE_THING.path: {"rate_limit": "8/1s"}}), meters=[meter])
    async with app, SampleServiceClient(app) as client:
        await client.create_thing(name="first")
        began = monotonic()
        await asyncio.gather(*(client.create_thing(name=str(each)) for each in range(20)))
        assert monotonic() - began > 1
        assert codes == ["OK"] * 21


class Told(RuleBasedStateMachine):
    """A caller alone with a fixed window of a callee that tells the truth: never far over the limit, never stuck."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.known = Throttle(LIMIT, self.clock)
        self.began = self.clock()
        self.used = 0
        self.asking = 0
        self.refused = 0
        self.answers: list[tuple[int, float]] = []

    def window(self) -> None:
        if self.clock() >= self.began + 60:
            self.began, self.used = self.clock(), 0

    @rule(seconds=st.sampled_from([0.1, 1.0, 7.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def send(self) -> None:
        asks = self.known.used_up
        if self.known.enter():
            self.asking += asks
            self.window()
            self.used += 1
            self.refused += self.used > LIMIT.requests
            left = max(0, LIMIT.requests - self.used)
            self.answers.append((left, self.began + 60 - self.clock()))

    @precondition(lambda self: self.answers)
    @rule()
    def answer(self) -> None:
        left, seconds = self.answers.pop(0)
        self.known.leave()
        self.known.told(left, seconds)

    @invariant()
    def at_most_those_that_ask_are_refused(self) -> None:
        assert self.known.under_way == len(self.answers)
        assert self.refused <= self.asking

    def teardown(self) -> None:
        """Once all is answered and a window over, the next call goes."""
        while self.answers:
            self.answer()
        self.clock.now += 61
        assert self.known.enter()


TestTold = Told.TestCase
TestTold.settings = hypothesis_settings(max_examples=50, deadline=None)
