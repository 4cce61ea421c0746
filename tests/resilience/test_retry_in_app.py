"""Retry between a real client and a real app, and over three services in a row."""

import logging

import pytest

from interlock import Call, Error, Handler, Layer, Reply, Unavailable
from interlock.call import compose
from interlock.defaults import after
from interlock.protocols.serving import failure
from interlock.resilience.budget import RetryBudget
from interlock.resilience.circuit_breaker import CircuitOpen
from interlock.resilience.retry import RetryPolicy, retry
from tests.resilience.ground import Layered, ManualClock, breaking_off, failing, noting, operation, received, sent
from tests.sample.gen.sample.v1.sample_pb import CreateThingRequest, GetThingRequest, Thing
from tests.sample.gen.sample.v1.sample_rpc import CREATE_THING, GET_THING, SampleServiceClient
from tests.sample.handlers import Sample, make

ONCE = RetryPolicy(retries=0)  # the retry under test stands in the transport


def again(clock: ManualClock) -> Layer:
    """Return the layer with the default policy, whose waits pass at once."""
    return retry(RetryPolicy(), RetryBudget(clock=clock), sleep=clock.sleep, clock=clock)


def down(times: int) -> list[Error]:
    """Return so many errors of a service that is not there."""
    return [Unavailable("not there") for _ in range(times)]


async def test_a_service_that_comes_back_is_reached() -> None:
    """The caller sees the thing, how many attempts it took, and only the metadata of the one that answered."""
    sample, clock = Sample(), ManualClock()
    sample.things["a"] = Thing(thing_id="a")
    app = make(sample, layers=[after("deadline", failing(down(2)))])
    async with app, SampleServiceClient(Layered(app.in_process(), [again(clock)]), retries=ONCE) as client:
        result = await client.call(GET_THING, GetThingRequest(thing_id="a"))
    assert result.message.thing_id == "a"
    assert result.attempts == 3
    assert result.headers.get_all("x-test-left") == ["0"]


async def test_a_service_that_stays_away_is_given_up() -> None:
    """After four attempts the caller gets the service's error."""
    seen: list[Call] = []
    app = make(layers=[after("deadline", failing(down(9), seen))])
    async with app, SampleServiceClient(Layered(app.in_process(), [again(ManualClock())]), retries=ONCE) as client:
        with pytest.raises(Unavailable, match="not there") as given_up:
            await client.get_thing(thing_id="a")
    assert given_up.value.final
    assert len(seen) == 4


async def test_a_creation_is_repeated_under_one_key() -> None:
    """A KEYED call gets a key by itself, carries it over all attempts, and makes one thing."""
    sample, seen = Sample(), list[Call]()
    app = make(sample, layers=[after("deadline", failing(down(1), seen))])
    async with app, SampleServiceClient(Layered(app.in_process(), [again(ManualClock())]), retries=ONCE) as client:
        result = await client.call(CREATE_THING, CreateThingRequest(name="b"))
    assert (list(sample.things), result.attempts) == (["b"], 2)
    assert len({each.metadata.get("idempotency-key") for each in seen}) == 1


async def test_an_operation_with_effects_is_repeated_if_it_was_never_sent() -> None:
    """Echo is not idempotent: what the service said ends it, what never reached the service does not."""
    app, clock = make(), ManualClock()
    refusals: list[Error] = [CircuitOpen("open"), received(Unavailable("maybe it ran"))]
    transport = Layered(app.in_process(), [again(clock), failing(refusals)])
    async with app, SampleServiceClient(transport) as client:
        with pytest.raises(Unavailable, match="maybe it ran"):
            await client.echo(text="x")
        assert len(clock.slept) == 1
        assert (await client.echo(text="x")).text == "x"


async def test_a_stream_is_opened_again() -> None:
    """A stream that fails before its first message is opened anew, and carries the metadata of the one that came."""
    clock = ManualClock()
    app = make(layers=[after("deadline", failing(down(2)))])
    async with app, SampleServiceClient(Layered(app.in_process(), [again(clock)]), retries=ONCE) as client:
        async with client.count_up(count=3) as stream:
            assert [each.number async for each in stream] == [1, 2, 3]
        assert stream.headers.get_all("x-test-left") == ["0"]
        assert stream.trailers.get("x-test-counted") == "3"
    assert len(clock.slept) == 2


async def test_a_stream_that_has_begun_is_not_repeated() -> None:
    """After its first message a failure is the caller's to see: messages never come twice."""
    app = make()
    ends: list[str] = []
    transport = Layered(app.in_process(), [again(ManualClock()), noting(ends), breaking_off()])
    async with app, SampleServiceClient(transport) as client:
        stream = client.count_up(count=3)
        assert (await anext(stream)).number == 1
        assert ends == []
        with pytest.raises(Unavailable, match="broke off"):
            await anext(stream)
    assert ends == ["UNAVAILABLE"]


async def test_a_stream_left_early_ends_its_attempt() -> None:
    """A caller who leaves closes the attempt too, exactly once, as cancelled, and the service is told."""
    sample = Sample()
    app = make(sample)
    ends: list[str] = []
    transport = Layered(app.in_process(), [again(ManualClock()), noting(ends)])
    async with app, SampleServiceClient(transport) as client, client.count_up(count=1_000_000) as stream:
        assert (await anext(stream)).number == 1
    assert ends == ["CANCELLED"]
    assert sample.cancelled == ["CLIENT_GONE"]


def service(behind: Handler, budget: RetryBudget, clock: ManualClock) -> Handler:
    """Return a service whose handler calls the one behind it, with retry, and lets its errors through."""

    async def no_time(_seconds: float) -> None:
        """Retries of many calls overlap: they take no time of the others."""

    layer = retry(RetryPolicy(), budget, sleep=no_time, clock=clock)
    ask = compose([layer], operation(), behind)

    async def serve(call: Call) -> Reply:
        try:
            return await ask(sent(operation()))
        except Error as error:
            shown = failure(call, error)
            raise received(shown, final=shown.final) from None

    return serve


@pytest.mark.parametrize("per_second", [10, 50])
async def test_three_services_in_a_row_do_not_bury_a_dead_one(
    per_second: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each retries, and yet the dead one gets at most 1.2 times the calls that came in at the front."""
    caplog.set_level(logging.ERROR)
    clock, arrived = ManualClock(), 0

    async def dead(_call: Call) -> Reply:
        nonlocal arrived
        arrived += 1
        raise received(Unavailable("dead"))

    front: Handler = dead
    for _ in range(3):
        front = service(front, RetryBudget(clock=clock), clock)
    calls = per_second * 30
    for _ in range(calls):
        clock.now += 1 / per_second
        with pytest.raises(Unavailable):
            await front(Call(operation()))
    assert calls * 1.1 < arrived <= calls * 1.2
