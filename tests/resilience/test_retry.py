"""Retry: which errors, how long, how often, until when; and what the caller sees of it."""

import asyncio
from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Code, Deadline, Error, NotFound, ResourceExhausted, Unavailable
from interlock.call import compose
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Kind
from interlock.errors import TooLarge, error_class
from interlock.resilience.budget import RetryBudget
from interlock.resilience.circuit_breaker import Breakers, CircuitOpen, circuit_breaker, counting
from interlock.resilience.retry import RetryPolicy, pause, retry, retryable
from tests.resilience.ground import Callee, ManualClock, operation, received, sent

NONE, SAFE, KEYED = Idempotency.NONE, Idempotency.SAFE, Idempotency.KEYED
PLENTY = 1000.0
SECOND = timedelta(seconds=1)


async def tried(
    callee: Callee,
    call: Call,
    clock: ManualClock,
    *,
    policy: RetryPolicy = RetryPolicy(),  # noqa: B008 - a frozen value
    budget: RetryBudget | None = None,
    random: float = 0.5,
) -> Error | None:
    """Send the call through the layer and return the error that its caller sees."""
    budget = budget or RetryBudget(floor=PLENTY, clock=clock)
    layer = retry(policy, budget, sleep=clock.sleep, random=lambda: random, clock=clock)
    try:
        await compose([layer], call.operation, callee)(call)
    except Error as error:
        return error
    return None


@pytest.mark.parametrize(
    "code, idempotency, after, final",
    list(product([each for each in Code if each], Idempotency, [None, SECOND], [False, True])),
)
async def test_what_is_retried(code: Code, idempotency: Idempotency, after: timedelta | None, final: bool) -> None:
    """UNAVAILABLE, and RESOURCE_EXHAUSTED that says when, of operations that may run twice, unless called final."""
    clock = ManualClock()
    callee = Callee([received(error_class(code)("x", retry_after=after), final=final)])
    call = sent(operation(idempotency), key="k")
    error = await tried(callee, call, clock)
    passing = code is Code.UNAVAILABLE or (code is Code.RESOURCE_EXHAUSTED and after is not None)
    expected = passing and not final and idempotency is not NONE
    assert (error is None) is expected
    assert call.attempts == len(callee.calls) == (2 if expected else 1)


async def test_a_keyed_call_without_its_key_is_not_repeated() -> None:
    """What the contract calls KEYED may run twice only where the key is there."""
    for key, attempts in (("k", 2), ("", 1)):
        call = sent(operation(KEYED), key=key)
        await tried(Callee([Unavailable("x")]), call, ManualClock())
        assert call.attempts == attempts


@pytest.mark.parametrize("idempotency", list(Idempotency))
async def test_what_was_never_sent_is_always_repeatable(idempotency: Idempotency) -> None:
    """An error that provably came before the call was sent is retried for every operation, keyed or not."""
    refused = CircuitOpen("x", retry_after=SECOND)
    call = sent(operation(idempotency))
    assert await tried(Callee([refused]), call, ManualClock()) is None
    assert call.attempts == 2


def test_a_limit_that_waiting_does_not_lift_is_not_waited_for() -> None:
    """A message too large stays too large, though its code is RESOURCE_EXHAUSTED."""
    assert not retryable(TooLarge("x"), repeatable=True)
    assert retryable(ResourceExhausted("x", retry_after=SECOND), repeatable=True)


async def test_waits_grow_and_end() -> None:
    """Three retries, each after up to twice the wait of the one before; then the last error, marked as final."""
    clock, errors = ManualClock(), [received(Unavailable(str(number))) for number in range(9)]
    call = sent(operation())
    callee = Callee(errors)
    error = await tried(callee, call, clock, random=1.0)
    assert error is errors[3]
    assert error.final
    assert not errors[0].final
    assert clock.slept == [0.1, 0.2, 0.4]
    assert call.attempts == len(callee.calls) == 4


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 40), st.none() | st.integers(0, 30_000))
def test_a_pause_has_full_jitter_a_cap_and_the_callees_floor(random: float, number: int, after: int | None) -> None:
    """Any wait from 0 to the cap may come up, on top of what the callee asked for."""
    policy = RetryPolicy(longest_backoff=timedelta(seconds=2))
    floor = 0.0 if after is None else after / 1000
    error = Unavailable("x", retry_after=None if after is None else timedelta(milliseconds=after))
    wait = pause(policy, number, error, lambda: random)
    assert wait is not None
    assert wait == pytest.approx(floor + random * min(0.1 * 2**number, 2.0))


async def test_the_callee_says_when() -> None:
    """`retry_after` is waited for before the jittered wait; a pause too long to hold a call fails it at once."""
    clock = ManualClock()
    patient = sent(operation())
    assert await tried(Callee([Unavailable("x", retry_after=SECOND * 3)]), patient, clock) is None
    assert clock.slept == [pytest.approx(3.05)]
    impatient = sent(operation())
    error = await tried(Callee([Unavailable("x", retry_after=SECOND * 31)]), impatient, clock)
    assert error is not None
    assert error.final
    assert error.retry_after == SECOND * 31
    assert len(clock.slept) == 1


@pytest.mark.parametrize("left, attempts", [(0.04, 1), (0.06, 2), (0.14, 2), (0.16, 3), (9.0, 4)])
async def test_no_wait_goes_past_the_deadline(left: float, attempts: int) -> None:
    """A wait that would end at the deadline or behind it is not begun: the last error comes at once."""
    clock = ManualClock()
    call = sent(operation(), deadline=Deadline.after(left, clock))
    error = await tried(Callee(Unavailable("x") for _ in range(9)), call, clock)
    assert call.attempts == attempts
    assert clock.now < 1000 + left
    assert error is not None
    assert error.code is Code.UNAVAILABLE
    assert error.final


async def test_an_empty_budget_ends_it() -> None:
    """Without budget the first error is the last, final for this process's callers."""
    clock = ManualClock()
    budget = RetryBudget(share=0.2, floor=0.0, clock=clock)
    ends = []
    for _ in range(10):
        call = sent(operation())
        error = await tried(Callee([Unavailable("x")]), call, clock, budget=budget)
        ends.append((call.attempts, error.final if error else None))
    # after every fifth call one retry is there
    assert ends == [(1, True)] * 4 + [(2, None)] + [(1, True)] * 4 + [(2, None)]


async def test_an_error_that_is_not_retried_stays_as_it_is() -> None:
    """Only giving up marks an error as final; what was no matter of retrying is left alone."""
    error = await tried(Callee([received(NotFound("x"))]), sent(operation()), ManualClock())
    assert error is not None
    assert not error.final


async def test_every_attempt_is_a_call_of_its_own() -> None:
    """Each attempt has its own metadata and ends exactly once, with what befell it; the outer call stays open."""
    callee = Callee([received(Unavailable("1")), received(Unavailable("2"))])
    call = sent(operation())
    outer: list[str] = []
    call.on_end(lambda outcome: outer.append(outcome.code.name))
    assert await tried(callee, call, ManualClock()) is None
    assert callee.ends == ["UNAVAILABLE", "UNAVAILABLE", "OK"]
    assert [each.attempts for each in callee.calls] == [1, 2, 3]
    assert len({id(each) for each in (*callee.calls, call)}) == 4
    assert len({id(each.metadata) for each in (*callee.calls, call)}) == 4
    assert outer == []


async def test_a_cancelled_call_is_not_retried() -> None:
    """The caller's cancel ends the attempt that runs, as CANCELLED, and nothing follows it."""
    callee = Callee([asyncio.CancelledError()])
    call = sent(operation())
    with pytest.raises(asyncio.CancelledError):
        await tried(callee, call, ManualClock())
    assert callee.ends == ["CANCELLED"]
    assert len(callee.calls) == 1


async def test_a_mistake_of_the_caller_is_not_retried() -> None:
    """An exception that is no error of a callee passes as it is."""
    callee = Callee([TypeError("no message")])
    with pytest.raises(TypeError, match="no message"):
        await tried(callee, sent(operation()), ManualClock())
    assert callee.ends == ["UNKNOWN"]


async def test_an_open_circuit_is_not_hammered() -> None:
    """Behind an open circuit the call waits until a try is allowed, and asks the callee once more, not before."""
    clock = ManualClock()
    callee = Callee([received(Unavailable("down")), received(Unavailable("down"))])
    layers = [
        retry(RetryPolicy(), RetryBudget(clock=clock), sleep=clock.sleep, random=lambda: 0.0, clock=clock),
        circuit_breaker(Breakers(counting(max_failures=2, timeout=SECOND * 4), clock=clock)),
    ]
    call = sent(operation(), deadline=Deadline.after(30, clock))
    await compose(layers, call.operation, callee)(call)
    assert clock.slept == [0.0, 0.0, 4.0]
    assert (call.attempts, len(callee.calls)) == (4, 3)
    impatient = sent(operation(), deadline=Deadline.after(3, clock))
    dead = Callee(received(Unavailable("down")) for _ in range(2))
    with pytest.raises(CircuitOpen):
        await compose(layers, call.operation, dead)(impatient)
    assert clock.slept == [0.0, 0.0, 4.0, 0.0, 0.0]


def test_operations_that_cannot_be_retried_have_no_such_layer() -> None:
    """A stream of requests is gone once it was sent, and no retries are no layer: neither costs anything."""
    for kind in Kind:
        layer = retry(RetryPolicy(), RetryBudget())(operation(kind=kind))
        assert (layer is None) is kind.client_streams
    assert retry(RetryPolicy(retries=0), RetryBudget())(operation()) is None


@pytest.mark.parametrize("wrong", [{"retries": -1}, {"multiplier": 0.5}, {"base": timedelta(seconds=-1)}])
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    """Negative numbers, or waits that shrink, are a ValueError."""
    with pytest.raises(ValueError, match="retry policy"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # of several types
