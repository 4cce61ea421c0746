"""Rate limits: the window held against a list of all calls, and the layer in a real app."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Handler, Operation, Principal, Reply, ResourceExhausted
from interlock.call import Peer, compose
from interlock.contract.model import RateLimit
from interlock.resilience.rate_limit import Limiter, SlidingLimit, rate_limit
from interlock.settings import Settings
from tests.resilience.ground import Callee, ManualClock, operation
from tests.sample.gen.sample.v1.sample_pb import CreateThingRequest
from tests.sample.gen.sample.v1.sample_rpc import CREATE_THING, ECHO, SAMPLE_SERVICE, SampleServiceClient
from tests.sample.handlers import make

PER = timedelta(seconds=16)
ARRIVALS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), max_size=80)


@given(st.integers(1, 6), ARRIVALS)
def test_no_window_ever_holds_more_than_the_limit(requests: int, arrivals: list[tuple[int, str]]) -> None:
    """In any 16 s a caller gets at most the limit, and one who asked for less in 17 s is never refused."""
    clock = ManualClock()
    limit = SlidingLimit(requests, PER, clock=clock)
    passed: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    for quarters, caller in arrivals:
        clock.now += quarters / 4
        own = passed[caller]
        used = sum(1 for each in own if clock.now - each < 17)
        taken = limit.take(caller)
        if taken.allowed:
            own.append(clock.now)
            assert sum(1 for each in own if clock.now - each < 16) <= requests
        else:
            assert used >= requests
            assert taken.remaining == 0
        assert 0 < taken.until_more <= 17


def test_what_is_left_and_when_there_is_more() -> None:
    """The remaining number counts down to nothing, and comes back when it was said to."""
    clock = ManualClock(now=1600.0)
    limit = SlidingLimit(2, PER, clock=clock)
    assert limit.take("a") == (True, 1, 17.0)
    clock.now += 4
    assert limit.take("a") == (True, 0, 13.0)
    assert limit.take("a") == (False, 0, 13.0)
    clock.now += 12.75
    assert limit.take("a") == (False, 0, 0.25)
    clock.now += 0.25
    assert limit.take("a") == (True, 0, 4.0)


def test_refused_calls_take_nothing() -> None:
    """A caller who hammers while refused gets the next request as soon as one who waits."""
    clock = ManualClock(now=1600.0)
    limit = SlidingLimit(1, PER, clock=clock)
    limit.take("a")
    for _ in range(16):
        clock.now += 1
        assert not limit.take("a").allowed
    clock.now += 1
    assert limit.take("a").allowed


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40)), max_size=120))
def test_memory_is_bounded(arrivals: list[tuple[int, int]]) -> None:
    """However many callers come, at most so many are remembered; the limit of the latest of them is kept."""
    clock = ManualClock()
    limit = SlidingLimit(1, PER, callers=8, clock=clock)
    for seconds, caller in arrivals:
        clock.now += seconds
        limit.take(caller)
        assert len(limit) <= 8
        assert not limit.take(caller).allowed


def test_the_quietest_is_forgotten_first() -> None:
    """Where there is no room, newcomers do not wash out a caller who keeps calling."""
    limit = SlidingLimit(1, PER, callers=4, clock=ManualClock())
    limit.take("busy")
    for number in range(20):
        limit.take(number)
        assert not limit.take("busy").allowed


def test_callers_long_gone_are_forgotten_before_there_are_too_many() -> None:
    """Those who have their whole share again make room for new ones; those who don't stay."""
    clock = ManualClock()
    limit = SlidingLimit(1, PER, callers=100, clock=clock)
    for number in range(50):
        limit.take(number)
    clock.now += 17
    for number in range(100, 125):
        limit.take(number)
    assert len(limit) == 25
    for number in range(200, 250):
        limit.take(number)
    assert len(limit) == 75


@pytest.mark.parametrize("workers, share", [(1, 10), (3, 3), (4, 2), (10, 1), (64, 1)])
def test_workers_share_a_limit(workers: int, share: int) -> None:
    """Each of several workers has its part, rounded down, and at least one."""
    limiter = Limiter(workers=workers, clock=ManualClock())
    limit = limiter.limit(RateLimit(requests=10, per=PER))
    assert [limit.take("a").allowed for _ in range(share + 1)] == [True] * share + [False]


@pytest.mark.parametrize("wrong", [(0, PER), (1, timedelta()), (1, timedelta(seconds=-1))])
def test_a_limit_that_makes_no_sense_is_refused(wrong: tuple[int, timedelta]) -> None:
    """No requests, or no time, is a ValueError; so are no workers."""
    with pytest.raises(ValueError, match="rate limit"):
        SlidingLimit(*wrong)
    with pytest.raises(ValueError, match="workers"):
        Limiter(workers=0)


LIMIT = RateLimit(requests=1, per=timedelta(seconds=60))


async def ask(handler: Handler, called: Operation, **caller: object) -> bool:
    """Tell whether a call of that caller passes."""
    call = Call(called, **caller)  # type: ignore[arg-type]  # principal or peer
    try:
        await handler(call)
    except ResourceExhausted:
        return False
    return True


async def test_each_principal_has_its_own_share() -> None:
    """Callers are told apart by issuer and subject, whatever their address."""
    called = operation(rate_limit=LIMIT)
    handler = compose([rate_limit(Limiter(clock=ManualClock()))], called, Callee())
    ann, bob = Principal(subject="ann", issuer="a"), Principal(subject="bob", issuer="a")
    other_ann = Principal(subject="ann", issuer="b")
    passed = [await ask(handler, called, principal=each) for each in (ann, bob, other_ann, ann, bob, other_ann)]
    assert passed == [True, True, True, False, False, False]


async def test_who_is_not_authenticated_is_told_by_address() -> None:
    """Another port is the same caller, another host is another one, and no name of a principal is an address."""
    called = operation(rate_limit=LIMIT)
    handler = compose([rate_limit(Limiter(clock=ManualClock()))], called, Callee())
    first, again = Peer({"client": ("10.0.0.1", 1)}), Peer({"client": ("10.0.0.1", 2)})
    other, sixth = Peer({"client": ("10.0.0.2", 1)}), Peer({"client": ("::1", 1)})
    assert [await ask(handler, called, peer=each) for each in (first, again, other, sixth)] == [True, False, True, True]
    assert await ask(handler, called, principal=Principal(subject="10.0.0.1"))


def test_an_operation_without_a_limit_has_no_such_layer() -> None:
    """It costs nothing where the contract says nothing."""
    assert rate_limit(Limiter())(SAMPLE_SERVICE.operation(ECHO)) is None


async def test_a_caller_is_told_of_the_limit_and_refused_beyond_it() -> None:
    """Through a real app: leading metadata on every reply, RESOURCE_EXHAUSTED with a time to come back beyond it."""
    lowered = {"sample.v1.SampleService/CreateThing": {"rate_limit": "2/60s"}}
    app = make(settings=Settings(operations=lowered))
    async with app, SampleServiceClient(app, policy="off") as client:
        result = await client.call(CREATE_THING, CreateThingRequest(name="a"))
        assert result.headers.get("ratelimit-policy") == '"default";q=2;w=60'
        assert (result.headers.get("ratelimit") or "").startswith('"default";r=1;t=')
        assert "ratelimit" not in result.trailers
        await client.create_thing(name="b")
        with pytest.raises(ResourceExhausted, match="2 requests in 60 s") as refused:
            await client.create_thing(name="c")
        assert refused.value.retry_after is not None
        assert timedelta(seconds=50) < refused.value.retry_after <= timedelta(seconds=64)
        await client.echo(text="unlimited")


async def test_a_refusal_comes_before_the_body_is_read() -> None:
    """The handler behind the limit is not reached by a refused call, and the reply still says what the limit is."""
    called = operation(rate_limit=LIMIT)
    callee = Callee()
    handler = compose([rate_limit(Limiter(clock=ManualClock()))], called, callee)
    await handler(Call(called))
    refused = Call(called)
    with pytest.raises(ResourceExhausted):
        await handler(refused)
    assert len(callee.calls) == 1
    assert refused.reply_headers.get("ratelimit-policy") == '"default";q=1;w=60'


async def test_a_call_that_runs_has_been_counted() -> None:
    """Requests count when they come, not when they are over: a second one during the first is refused."""
    called = operation(rate_limit=LIMIT)
    within: list[bool] = []
    handlers: list[Handler] = []

    async def slow(call: Call) -> Reply:
        within.append(await ask(handlers[0], called))
        return await Callee()(call)

    handlers.append(compose([rate_limit(Limiter(clock=ManualClock()))], called, slow))
    assert await ask(handlers[0], called)
    assert within == [False]
