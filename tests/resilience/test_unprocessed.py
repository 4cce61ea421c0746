"""Refusals before anything was done say so, over every protocol: repeating such a call is safe whatever it does."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx2
import pytest

from interlock import Call, Error, ResourceExhausted, Settings, Unavailable, after, before
from interlock.resilience.retry import RetryPolicy
from interlock.resilience.shedding import Overloaded, Shedder
from interlock.server import serving
from tests.resilience.ground import failing
from tests.sample.gen.sample.v1.sample_pb import CountUpRequest, EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import CREATE_THING, SampleServiceClient
from tests.sample.handlers import Sample, make

NONE = RetryPolicy(retries=0)
Made = Callable[..., SampleServiceClient]


def overloaded() -> Overloaded:
    """Return what an overloaded service answers, in no hurry to be asked again."""
    refusal = Shedder().refuse("/x")
    refusal.retry_after = timedelta()
    return refusal


@asynccontextmanager
async def reached(over: str, errors: list[Error]) -> AsyncIterator[Made]:
    """Serve the sample with these refusals where it sheds, and give what makes clients of it."""
    limit = {CREATE_THING.path: {"rate_limit": "1/60s"}}
    app = make(layers=[after("shed", failing(errors))], settings=Settings(operations=limit))
    if over == "in process":
        async with app:
            yield lambda **options: SampleServiceClient(app, **options)
    else:
        async with serving(app) as address:
            target = str(address) if over == "grpc" else address.url
            yield lambda **options: SampleServiceClient(target, **options)


@pytest.mark.parametrize("over", ["in process", "grpc", "connect"])
async def test_a_shed_call_may_be_repeated_whatever_it_does(over: str) -> None:
    """The error is marked unsent, so that an operation with an effect of its own is tried again too."""
    errors: list[Error] = [overloaded() for _ in range(3)]
    seen: list[Call] = []
    async with reached(over, errors) as made:
        async with made(retries=NONE) as client:
            with pytest.raises(Unavailable, match="overloaded") as raised:
                await client.fail(code=0)
            assert (raised.value.unsent, raised.value.final) == (True, False)
            with pytest.raises(Unavailable) as streamed:
                await anext(client.count_up(CountUpRequest(count=2)))
            assert streamed.value.unsent
        policy = RetryPolicy(base=timedelta(milliseconds=1))
        async with made(retries=policy, layers=[before("credentials", failing([], seen))]) as client:
            await client.echo(text="x")
    assert len(seen) == 2


@pytest.mark.parametrize("over", ["in process", "grpc", "connect"])
async def test_a_call_beyond_its_limit_was_not_begun_either(over: str) -> None:
    """It says when to come back, and that nothing was done."""
    async with reached(over, []) as made, made(policy="off") as client:
        await client.create_thing(name="first")
        with pytest.raises(ResourceExhausted, match="used up") as raised:
            await client.create_thing(name="second")
        assert raised.value.unsent
        assert raised.value.retry_after


async def test_rest_says_it_in_a_header() -> None:
    """Beside 503 and `Retry-After`; an answer that a handler gave does not have it."""
    app = make(layers=[after("shed", failing([overloaded()]))])
    async with serving(app) as address, httpx2.AsyncClient(base_url=address.url, trust_env=False) as client:
        refused = await client.post("/v1/things", json={"name": "x"})
        assert (refused.status_code, refused.headers["interlock-unprocessed"]) == (503, "true")
        assert refused.headers["retry-after"] == "1"
        missing = await client.get("/v1/things/none")
        assert "interlock-unprocessed" not in missing.headers


class Through(Sample):
    """Asks a neighbour, and lets through what that answers."""

    def __init__(self, neighbour: SampleServiceClient) -> None:
        super().__init__()
        self.neighbour = neighbour

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Ask."""
        return await self.neighbour.echo(request)


async def test_what_a_handler_lets_through_is_not_marked() -> None:
    """It may have done something before it was refused further down: final (pushback -1), and not to be repeated."""
    async with (
        reached("grpc", [overloaded()]) as made,
        made(retries=NONE) as behind,
        serving(make(Through(behind))) as address,
        SampleServiceClient(str(address), retries=NONE) as client,
    ):
        with pytest.raises(Unavailable, match="a service behind this one failed") as raised:
            await client.echo(text="x")
        assert (raised.value.unsent, raised.value.final) == (False, True)
