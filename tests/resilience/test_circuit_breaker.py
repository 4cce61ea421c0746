"""Circuit breakers: the state machine against a model, the layer with calls that run side by side."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from interlock import Call, Error, NotFound, Reply, Unavailable
from interlock.call import compose
from interlock.errors import Code, DeadlineExceeded, Unknown, error_class
from interlock.resilience.circuit_breaker import (
    BreakerPolicy,
    Breakers,
    CircuitBreaker,
    CircuitOpen,
    Result,
    State,
    circuit_breaker,
    counting,
    result_of,
)
from tests.resilience.ground import Callee, Layered, ManualClock, breaking_off, operation, received, sent
from tests.sample.gen.sample.v1.sample_pb import EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import COUNT_UP, ECHO, SAMPLE_SERVICE, SampleServiceClient
from tests.sample.handlers import make
from tests.waiting import until

POLICY = BreakerPolicy(  # a slot of the window is one second
    window=timedelta(seconds=16),
    minimum_calls=4,
    failure_rate=0.5,
    consecutive_failures=6,
    open_for=timedelta(seconds=8),
    probes=2,
)


@dataclass
class Told:
    """What the model knows of one period between two changes."""

    state: State
    since: float
    passed: int = 0
    succeeded: int = 0
    in_a_row: int = 0


class Breaking(RuleBasedStateMachine):
    """Calls that enter, end in any order and with any result, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.changes: list[tuple[State, State]] = []
        self.breaker = CircuitBreaker(
            POLICY, self.clock, name="model", on_change=lambda _, old, new: self.changes.append((old, new))
        )
        self.told = Told(State.CLOSED, self.clock.now)
        self.log: list[tuple[float, bool]] = []
        self.running: list[tuple[int, Told]] = []

    def become(self, state: State) -> None:
        self.told = Told(state, self.clock.now)
        self.log = []

    @rule(seconds=st.integers(0, 5))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def enter(self) -> None:
        told = self.told
        waited = self.clock.now - told.since >= 8
        if told.state is State.OPEN and waited:
            self.become(State.HALF_OPEN)
        elif told.state is State.HALF_OPEN and told.passed >= 2 and waited:
            self.told = Told(State.HALF_OPEN, self.clock.now)
        may = self.told.state is State.CLOSED or (self.told.state is State.HALF_OPEN and self.told.passed < 2)
        ticket = self.breaker.enter()
        assert (ticket is not None) is may
        if ticket is not None:
            self.told.passed += 1
            self.running.append((ticket, self.told))

    @rule(index=st.integers(0, 1000), result=st.sampled_from(Result))
    def leave(self, index: int, result: Result) -> None:
        if not self.running:
            return
        ticket, told = self.running.pop(index % len(self.running))
        self.breaker.leave(ticket, result)
        if told is not self.told:
            return  # of a period that is over: nothing may change
        if told.state is State.HALF_OPEN:
            told.succeeded += result is Result.SUCCESS
            told.passed -= result is Result.IGNORED
            if result is Result.FAILURE:
                self.become(State.OPEN)
            elif told.succeeded == 2:
                self.become(State.CLOSED)
        elif result is not Result.IGNORED:
            self.closed_call(told, failed=result is Result.FAILURE)

    def closed_call(self, told: Told, *, failed: bool) -> None:
        self.log.append((self.clock.now, failed))
        told.in_a_row = told.in_a_row + 1 if failed else 0
        lately = [each for at, each in self.log if self.clock.now - at < 17]
        if failed and ((len(lately) >= 4 and sum(lately) * 2 >= len(lately)) or told.in_a_row >= 6):
            self.become(State.OPEN)

    @invariant()
    def states_agree(self) -> None:
        """The breaker stands where the model stands, and it told of every step on the way."""
        assert self.breaker.state is self.told.state
        steps = [State.CLOSED, *(new for _, new in self.changes)]
        assert [old for old, _ in self.changes] == steps[:-1]
        assert steps[-1] is self.told.state

    @invariant()
    def probes_are_few(self) -> None:
        """While half-open no more calls are under way than it admits probes."""
        if self.told.state is State.HALF_OPEN:
            assert sum(told is self.told for _, told in self.running) <= 2


TestBreaking = Breaking.TestCase
TestBreaking.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


def state_of(breaker: CircuitBreaker) -> State:
    """Return the state, which type checkers take for constant otherwise."""
    return breaker.state


def opened(policy: BreakerPolicy, clock: ManualClock) -> CircuitBreaker:
    """Return a breaker that failures have opened."""
    breaker = CircuitBreaker(policy, clock)
    while (ticket := breaker.enter()) is not None:
        breaker.leave(ticket, Result.FAILURE)
    return breaker


def test_half_open_admits_exactly_so_many() -> None:
    """Of 200 calls that come at once after its time, exactly the probes pass."""
    clock = ManualClock()
    breaker = opened(BreakerPolicy(probes=3), clock)
    assert breaker.enter() is None
    assert breaker.retry_after() == timedelta(seconds=5)
    clock.now += 5
    tickets = [breaker.enter() for _ in range(200)]
    assert sum(each is not None for each in tickets) == 3


def test_a_refusal_of_the_request_does_not_close_it() -> None:
    """A probe that ended with an answer about the request alone leaves it half-open, and another may try."""
    clock = ManualClock()
    breaker = opened(counting(), clock)
    clock.now += 30
    for _ in range(10):
        ticket = breaker.enter()
        assert ticket is not None
        assert breaker.enter() is None
        breaker.leave(ticket, Result.IGNORED)
        assert state_of(breaker) is State.HALF_OPEN
    ticket = breaker.enter()
    assert ticket is not None
    breaker.leave(ticket, Result.SUCCESS)
    assert state_of(breaker) is State.CLOSED


def test_the_count_and_timeout_form() -> None:
    """It opens at the failure that makes the count full; a success in between starts the count again."""
    breaker = CircuitBreaker(counting(max_failures=3, timeout=timedelta(seconds=5)), ManualClock())
    results = [Result.FAILURE, Result.FAILURE, Result.SUCCESS, Result.FAILURE, Result.FAILURE]
    for result in results:
        breaker.leave(breaker.enter() or 0, result)
    assert state_of(breaker) is State.CLOSED
    breaker.leave(breaker.enter() or 0, Result.FAILURE)
    assert state_of(breaker) is State.OPEN
    assert breaker.retry_after() == timedelta(seconds=5)


def test_few_calls_prove_nothing() -> None:
    """Below the minimum not even failures alone open it; the call that makes it full does."""
    breaker = CircuitBreaker(BreakerPolicy(minimum_calls=20), ManualClock())
    for _ in range(19):
        breaker.leave(breaker.enter() or 0, Result.FAILURE)
    assert state_of(breaker) is State.CLOSED
    breaker.leave(breaker.enter() or 0, Result.FAILURE)
    assert state_of(breaker) is State.OPEN


FAILURES = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.DATA_LOSS, Code.UNKNOWN}


@pytest.mark.parametrize("code", [each for each in Code if each])
def test_which_codes_count(code: Code) -> None:
    """Only codes that blame the callee count against it."""
    expected = Result.FAILURE if code in FAILURES else Result.IGNORED
    assert result_of(received(error_class(code)("x"))) is expected


@pytest.mark.parametrize("code", FAILURES)
def test_a_final_error_blames_somebody_behind_the_callee(code: Code) -> None:
    """What the callee passes on as final (pushback -1) opens no breaker above it."""
    error = received(error_class(code)("a service behind this one failed"))
    error.final = True
    assert result_of(error) is Result.IGNORED


def test_what_came_from_no_callee_says_nothing() -> None:
    """OK is a success; an exception on our side and a deadline that had passed before are neither."""
    late = DeadlineExceeded("too late")
    late.unsent = True  # set by transports
    assert result_of(None) is Result.SUCCESS
    assert result_of(late) is Result.IGNORED
    assert result_of(Unknown("TypeError in the attempt")) is Result.IGNORED


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": timedelta()},
        {"open_for": timedelta(seconds=-1)},
        {"failure_rate": 0.0},
        {"failure_rate": 1.5},
        {"probes": 0},
        {"minimum_calls": 0},
        {"minimum_calls": -1, "consecutive_failures": 5},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    """A breaker that could never open, or never close, is a ValueError."""
    with pytest.raises(ValueError, match="breaker"):
        BreakerPolicy(**wrong)  # type: ignore[arg-type]  # of several types


async def test_slow_calls_run_side_by_side() -> None:
    """A hundred calls are under way at once: nothing is held while a call runs."""
    called, release, within = operation(), asyncio.Event(), []

    async def slow(call: Call) -> Reply:
        within.append(call)
        await release.wait()
        return EchoResponse()

    handler = compose([circuit_breaker(Breakers(POLICY))], called, slow)
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(handler(sent(called)))  # type: ignore[arg-type]  # a coroutine, as every chain's is
        await until(lambda: len(within) == 100)
        release.set()


async def through(breakers: Breakers, callee: Callee, calls: int) -> list[str]:
    """Make calls one after another and return how each ended."""
    called = operation()
    handler = compose([circuit_breaker(breakers)], called, callee)
    ends = []
    for _ in range(calls):
        call = sent(called)
        error: Error | None = None
        try:
            await handler(call)
        except Error as raised:
            error = raised
        call.end(error)
        ends.append("OK" if error is None else type(error).__name__)
    return ends


async def test_a_thousand_not_found_leave_it_closed() -> None:
    """What the callee answers about requests is no failure of it, however often."""
    breakers = Breakers(POLICY, clock=ManualClock())
    ends = await through(breakers, Callee(received(NotFound("none")) for _ in range(1000)), 1000)
    assert set(ends) == {"NotFound"}
    assert set(breakers.states().values()) == {State.CLOSED}


async def test_an_open_circuit_refuses_at_once() -> None:
    """The callee is not asked any more; the refusal is UNAVAILABLE, unsent, and says when to come back."""
    clock, changes = ManualClock(), []
    breakers = Breakers(
        POLICY, target="shop:1", clock=clock, on_change=lambda name, _, new: changes.append((name, new))
    )
    callee = Callee(received(Unavailable("down")) for _ in range(4))
    assert await through(breakers, callee, 6) == ["Unavailable"] * 4 + ["CircuitOpen"] * 2
    assert len(callee.calls) == 4
    assert changes == [("shop:1/sample.v1.SampleService/Echo", State.OPEN)]
    clock.now += 6
    with pytest.raises(CircuitOpen, match="circuit open: shop:1/sample") as refused:
        await compose([circuit_breaker(breakers)], operation(), callee)(sent(operation()))
    assert (refused.value.code, refused.value.retry_after) == (Code.UNAVAILABLE, timedelta(seconds=2))
    assert refused.value.unsent
    assert refused.value.received
    clock.now += 2
    assert await through(breakers, callee, 3) == ["OK"] * 3
    assert [new for _, new in changes] == [State.OPEN, State.HALF_OPEN, State.CLOSED]


async def test_operations_of_one_target_fail_apart() -> None:
    """The breaker of one operation says nothing of another's."""
    breakers = Breakers(POLICY)
    assert breakers.of(operation()) is breakers.of(operation())
    assert breakers.of(operation()) is not breakers.of(operation(name="Other"))


async def test_a_stream_is_judged_when_it_is_over() -> None:
    """One left early says nothing, nor does one that still runs; one that fails in the middle is a failure."""
    breakers = Breakers(counting(max_failures=1), clock=ManualClock())
    app = make()
    layers = [circuit_breaker(breakers), breaking_off()]
    async with app, SampleServiceClient(Layered(app.in_process(), layers)) as client:
        breaker = breakers.of(SAMPLE_SERVICE.operation(COUNT_UP))
        async with client.count_up(count=5) as stream:
            await anext(stream)
        broken = client.count_up(count=5)
        await anext(broken)
        assert state_of(breaker) is State.CLOSED
        with pytest.raises(Unavailable, match="broke off"):
            await anext(broken)
        assert state_of(breaker) is State.OPEN


async def test_it_stands_between_client_and_app() -> None:
    """Through a real app: internal errors open the circuit of that operation, others still pass."""
    breakers = Breakers(counting(max_failures=3), clock=ManualClock())
    app = make()
    async with app, SampleServiceClient(Layered(app.in_process(), [circuit_breaker(breakers)])) as client:
        for _ in range(3):
            with pytest.raises(Error, match="internal error"):
                await client.fail(unexpected=True)
        with pytest.raises(CircuitOpen):
            await client.fail()
        assert (await client.echo(text="still there")).text == "still there"
    assert breakers.of(SAMPLE_SERVICE.operation(ECHO)).state is State.CLOSED


def test_calls_that_succeed_too_slowly_open_it_too() -> None:
    """At the slow rate it opens; a slow probe opens it again; without the rule slow calls are just successes."""
    clock = ManualClock()
    policy = BreakerPolicy(minimum_calls=10, slow=timedelta(seconds=1), slow_rate=0.5, probes=1)
    breaker, careless = CircuitBreaker(policy, clock), CircuitBreaker(BreakerPolicy(minimum_calls=10), clock)
    for each in (breaker, careless):
        for number in range(10):
            ticket = each.enter()
            assert ticket is not None
            each.leave(ticket, Result.SUCCESS, 2.0 if number % 2 else 0.1)
    assert (breaker.state, careless.state) == (State.OPEN, State.CLOSED)
    clock.now += 10
    ticket = breaker.enter()
    assert ticket is not None
    breaker.leave(ticket, Result.SUCCESS, 1.5)
    assert breaker.state is State.OPEN
    with pytest.raises(ValueError, match="slow_rate"):
        BreakerPolicy(slow_rate=0)


def test_a_change_of_state_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log names target, operation and both states."""
    breaker = Breakers(counting(max_failures=1), target="orders:8080").of(operation())
    ticket = breaker.enter()
    assert ticket is not None
    breaker.leave(ticket, Result.FAILURE)
    assert [each.message for each in caplog.records] == [f"circuit {breaker.name}: open, was closed"]
