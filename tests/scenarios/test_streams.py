"""Streams behave the same through every door that carries them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from protobuf.wkt.google.protobuf.duration_pb import Duration

from interlock import App, Code, NotFound
from tests.sample.gen.sample.v1.sample_pb import ChatRequest, CountUpRequest, SumRequest
from tests.sample.gen.sample.v1.sample_rpc import CHAT, COUNT_UP, SUM
from tests.sample.handlers import Sample
from tests.scenarios.conftest import RPC_DOORS, STREAM_DOORS, TYPED_DOORS
from tests.scenarios.doors import Door, Failed, Typed
from tests.waiting import until

every_stream_door = pytest.mark.parametrize("door", STREAM_DOORS, indirect=True)
every_rpc_door = pytest.mark.parametrize("door", RPC_DOORS, indirect=True)
our_clients = pytest.mark.parametrize("door", TYPED_DOORS, indirect=True)


@every_stream_door
async def test_a_server_stream_arrives_in_order(door: Door, sample: Sample) -> None:
    """Every message comes once, in order, with headers before and trailers after."""
    came = await door.call(COUNT_UP, CountUpRequest(count=1000))
    assert [each.number for each in came.messages] == list(range(1, 1001))
    assert came.headers["x-test-counting"] == "up"
    assert not door.trailers or came.trailers["x-test-counted"] == "1000"
    assert sample.finished == ["count_up"]


@every_stream_door
async def test_an_empty_server_stream_is_a_success(door: Door) -> None:
    """No message at all is an answer too."""
    came = await door.call(COUNT_UP, CountUpRequest(count=0))
    assert came.messages == []
    assert not door.trailers or came.trailers["x-test-counted"] == "0"


@every_stream_door
async def test_a_stream_may_fail_midway(door: Door) -> None:
    """An error after some messages ends the stream with its code."""
    with pytest.raises(Failed) as raised:
        await door.call(COUNT_UP, CountUpRequest(count=5, fail_after=3))
    assert raised.value.codes == {Code.NOT_FOUND}
    assert raised.value.message == "nothing after 3"


@every_rpc_door
async def test_a_client_stream_is_added_up(door: Door) -> None:
    """Many requests, one reply; none at all is a stream too."""
    came = await door.call(SUM, *(SumRequest(number=number) for number in range(1000)))
    assert (came.message.sum, came.message.count) == (499500, 1000)
    assert (await door.call(SUM)).message.count == 0


@every_rpc_door
async def test_a_talk_goes_both_ways(door: Door) -> None:
    """Each line is answered, in order."""
    came = await door.call(CHAT, *(ChatRequest(text=str(number)) for number in range(100)))
    assert [each.text for each in came.messages] == [str(number) for number in range(100)]


@every_stream_door
async def test_a_rule_holds_inside_a_stream(door: Door) -> None:
    """The one request of a server stream is validated as any other."""
    with pytest.raises(Failed) as raised:
        await door.call(COUNT_UP, CountUpRequest(count=-1))
    assert [name for name, _ in raised.value.violations] == ["count"]


@every_stream_door
async def test_a_deadline_ends_a_stream(door: Door, sample: Sample) -> None:
    """A stream is cut off at its deadline, its handler with it."""
    request = CountUpRequest(count=1000, pause=Duration(nanos=20_000_000))
    with pytest.raises(Failed) as raised:
        await door.call(COUNT_UP, request, timeout=0.3)
    assert raised.value.codes == {Code.DEADLINE_EXCEEDED}
    await until(lambda: bool(sample.cancelled))


@our_clients
async def test_leaving_a_stream_early_cancels_its_handler(door: Typed, sample: Sample) -> None:
    """Closing the block tells the server."""
    async with door.client.count_up(count=100_000, pause=Duration(nanos=1_000_000)) as numbers:
        async for each in numbers:
            if each.number == 3:
                break
    await until(lambda: bool(sample.cancelled))


@our_clients
async def test_a_talk_is_full_duplex(door: Typed) -> None:
    """The answer to a line comes before the next line is sent."""
    answered: asyncio.Queue[str] = asyncio.Queue()

    async def lines() -> AsyncIterator[ChatRequest]:
        yield ChatRequest(text="one")
        assert await asyncio.wait_for(answered.get(), 5) == "one"
        yield ChatRequest(text="two")

    async with door.client.chat(lines()) as talk:
        said = []
        async for each in talk:
            said.append(each.text)
            answered.put_nowait(each.text)
    assert said == ["one", "two"]


@our_clients
async def test_what_the_requests_raise_reaches_the_caller(door: Typed) -> None:
    """An exception of the caller's own stream comes back as itself."""

    async def broken() -> AsyncIterator[SumRequest]:
        yield SumRequest(number=1)
        raise NotFound("the file is gone")

    with pytest.raises(NotFound, match="the file is gone"):
        await door.client.sum(broken())


@every_rpc_door
async def test_the_chain_composes_for_every_kind(door: Door, app: App) -> None:
    """Nothing of a call is left behind once it has ended."""
    await door.call(COUNT_UP, CountUpRequest(count=3))
    await door.call(SUM, SumRequest(number=1))
    await until(lambda: not app.in_flight.calls)
