"""A middleware that counts, a bulkhead and a ContextVar behave on streams as on unary calls, through every door."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest
from grpc import aio
from protobuf.wkt.google.protobuf.duration_pb import Duration

from interlock import App, Call, Code, NotFound, Outcome, Reply, ReplyStream, Unavailable, after
from interlock.call import Handler, Middleware
from interlock.contract.model import Operation
from tests.sample.gen.sample.v1.sample_pb import (
    BlobRequest,
    ChatRequest,
    CountUpRequest,
    CountUpResponse,
    EchoRequest,
    EchoResponse,
    FailRequest,
    SlowRequest,
    SumRequest,
)
from tests.sample.gen.sample.v1.sample_rpc import BLOB, CHAT, COUNT_UP, ECHO, FAIL, SLOW, SUM
from tests.sample.handlers import Sample, make
from tests.scenarios.conftest import OPEN_DOORS, TYPED_DOORS
from tests.scenarios.doors import Door, Failed, Grpcio, Typed
from tests.waiting import until

WIDTH = 2
every_door = pytest.mark.parametrize("door", [*OPEN_DOORS, "rest"], indirect=True)
every_rpc_door = pytest.mark.parametrize("door", OPEN_DOORS, indirect=True)
our_clients = pytest.mark.parametrize("door", TYPED_DOORS, indirect=True)

passed_by: ContextVar[str] = ContextVar("passed_by", default="nobody")


class Watching:
    """A layer that counts starts and ends, lets `WIDTH` calls in at a time, and leaves its mark in a ContextVar."""

    def __init__(self) -> None:
        self.starts = 0
        self.ends: list[Code] = []
        self.most = 0
        self._bulkhead = asyncio.Semaphore(WIDTH)

    def __call__(self, operation: Operation) -> Middleware:
        async def watch(call: Call, proceed: Handler) -> Reply:
            self.starts += 1
            call.on_end(lambda outcome: self.ends.append(outcome.code))
            await self._bulkhead.acquire()
            call.on_end(self._release)
            self.most = max(self.most, self.inside)
            passed_by.set(operation.name)
            return await proceed(call)

        return watch

    def _release(self, _outcome: Outcome) -> None:
        self._bulkhead.release()

    @property
    def inside(self) -> int:
        """How many places of the bulkhead are taken."""
        return WIDTH - self._bulkhead._value

    async def settled(self, *codes: Code) -> None:
        """Wait until all has ended, with these codes in any order, and nothing is held."""
        await until(lambda: self.starts == len(self.ends) and not self.inside)
        assert sorted(self.ends) == sorted(codes)
        assert self.starts == len(codes)

    async def settled_late(self, count: int) -> None:
        """Wait until `count` calls were cut off; over a network the client may hang up just before the server does."""
        await until(lambda: self.starts == len(self.ends) == count and not self.inside)
        assert set(self.ends) <= {Code.DEADLINE_EXCEEDED, Code.CANCELLED}


class Marked(Sample):
    """Handlers that remember what they saw of the middleware's mark, for each message."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        self.seen.append(passed_by.get())
        return await super().echo(request, call)

    async def count_up(self, request: CountUpRequest, call: Call) -> AsyncIterator[CountUpResponse]:
        async for each in super().count_up(request, call):
            self.seen.append(passed_by.get())
            yield each
        self.seen.append(passed_by.get())


@pytest.fixture
def sample() -> Marked:
    """Handlers that look at the mark."""
    return Marked()


@pytest.fixture
def watching() -> Watching:
    """The layer under test."""
    return Watching()


@pytest.fixture
def app(sample: Sample, watching: Watching) -> App:
    """The sample app with that layer."""
    return make(sample, layers=[after("deadline", watching)])


@every_door
async def test_a_unary_call_starts_and_ends_once(door: Door, watching: Watching, sample: Marked) -> None:
    """Success, failure, refusal and surprise each end what they started, and the handler sees the mark."""
    await door.call(ECHO, EchoRequest(text="x"))
    refused = FailRequest(code=int(Code.NOT_FOUND)), FailRequest(unexpected=True)
    for request in refused:
        with pytest.raises(Failed):
            await door.call(FAIL, request)
    with pytest.raises(Failed):
        await door.call(BLOB, BlobRequest(size=-1))
    await watching.settled(Code.OK, Code.NOT_FOUND, Code.INTERNAL, Code.INVALID_ARGUMENT)
    assert sample.seen == ["Echo"]
    assert passed_by.get() == "nobody"


@every_door
async def test_a_unary_call_at_its_deadline_ends(door: Door, watching: Watching) -> None:
    """A call that is cut off gives its place back."""
    with pytest.raises(Failed):
        await door.call(SLOW, SlowRequest(seconds=30), timeout=0.1)
    await watching.settled_late(1)


@every_rpc_door
async def test_a_caller_that_leaves_gives_its_place_back(door: Door, watching: Watching) -> None:
    """A call whose caller is gone ends as CANCELLED."""
    calling = asyncio.create_task(door.call(SLOW, SlowRequest(seconds=30)))
    await until(lambda: watching.inside == 1)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await watching.settled(Code.CANCELLED)


@every_door
async def test_a_bulkhead_holds_under_load(door: Door, watching: Watching) -> None:
    """Never more than its width are inside, everyone gets through, and all places are free after."""
    await asyncio.gather(*(door.call(SLOW, SlowRequest(seconds=0.02)) for _ in range(20)))
    assert watching.most == WIDTH
    await watching.settled(*[Code.OK] * 20)


@every_door
async def test_a_call_that_waits_at_the_bulkhead_can_give_up(door: Door, watching: Watching) -> None:
    """A deadline that passes while a call waits for its place takes none, and frees none that it did not have."""
    inside = [asyncio.create_task(door.call(SLOW, SlowRequest(seconds=30), timeout=0.4)) for _ in range(WIDTH)]
    await until(lambda: watching.inside == WIDTH)
    with pytest.raises(Failed) as raised:
        await door.call(ECHO, EchoRequest(), timeout=0.1)
    assert raised.value.codes == {Code.DEADLINE_EXCEEDED}
    assert watching.inside == WIDTH
    assert [type(each) for each in await asyncio.gather(*inside, return_exceptions=True)] == [Failed] * WIDTH
    await watching.settled_late(WIDTH + 1)


@every_rpc_door
async def test_a_stream_starts_and_ends_once(door: Door, watching: Watching, sample: Marked) -> None:
    """Whole, empty, failing and refused streams each end once, when they are over, and every message sees the mark."""
    await door.call(COUNT_UP, CountUpRequest(count=3))
    assert sample.seen == ["CountUp"] * 4
    await door.call(COUNT_UP, CountUpRequest(count=0))
    for request in (CountUpRequest(count=5, fail_after=2), CountUpRequest(count=-1)):
        with pytest.raises(Failed):
            await door.call(COUNT_UP, request)
    await watching.settled(Code.OK, Code.OK, Code.NOT_FOUND, Code.INVALID_ARGUMENT)
    assert set(sample.seen) == {"CountUp"}


@every_rpc_door
async def test_client_streams_start_and_end_once(door: Door, watching: Watching) -> None:
    """An upload and a talk, with messages and without, end as other calls do."""
    await door.call(SUM, *(SumRequest(number=number) for number in range(50)))
    await door.call(SUM)
    await door.call(CHAT, *(ChatRequest(text=str(number)) for number in range(50)))
    await door.call(CHAT)
    await watching.settled(*[Code.OK] * 4)


@every_rpc_door
async def test_a_stream_holds_its_place_until_it_is_over(door: Door, watching: Watching) -> None:
    """The place is taken while messages flow, not only while the stream opens."""
    request = CountUpRequest(count=100_000, pause=Duration(nanos=1_000_000))
    counting = [asyncio.create_task(door.call(COUNT_UP, request, timeout=2)) for _ in range(WIDTH)]
    await until(lambda: watching.inside == WIDTH)
    with pytest.raises(Failed) as raised:
        await door.call(ECHO, EchoRequest(), timeout=0.6)
    assert raised.value.codes == {Code.DEADLINE_EXCEEDED}
    await asyncio.gather(*counting, return_exceptions=True)
    await watching.settled_late(WIDTH + 1)


@every_rpc_door
async def test_a_stream_at_its_deadline_ends(door: Door, watching: Watching) -> None:
    """A stream that is cut off gives its place back."""
    with pytest.raises(Failed):
        await door.call(COUNT_UP, CountUpRequest(count=1000, pause=Duration(nanos=10_000_000)), timeout=0.1)
    await watching.settled_late(1)


@every_rpc_door
async def test_a_caller_that_leaves_a_stream_gives_its_place_back(door: Door, watching: Watching) -> None:
    """Cancelling whoever reads a stream ends it on the other side."""
    request = CountUpRequest(count=100_000, pause=Duration(nanos=1_000_000))
    calling = asyncio.create_task(door.call(COUNT_UP, request))
    await until(lambda: watching.inside == 1)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await watching.settled(Code.CANCELLED)


def opened(door: Door, request: CountUpRequest) -> Any:
    """Open a stream by hand, to read as much of it as a test wants."""
    if isinstance(door, Typed):
        return door.client.count_up(request)
    assert isinstance(door, Grpcio)
    stub = door.channel.unary_stream(
        COUNT_UP.path, request_serializer=CountUpRequest.to_binary, response_deserializer=CountUpResponse.from_binary
    )
    return stub(request)


@every_rpc_door
@pytest.mark.parametrize("count", [2, 3, 100_000])
async def test_a_half_read_stream_ends(door: Door, watching: Watching, count: int, app: App) -> None:
    """A stream of which one message was read is over once the caller closes it, wherever its handler stands by then."""
    stream = opened(door, CountUpRequest(count=count))
    assert (await anext(aiter(stream))).number == 1
    if isinstance(stream, ReplyStream):
        await stream.close()
    else:
        stream.cancel()
    await until(lambda: watching.starts == len(watching.ends) == 1 and not watching.inside)
    # a short one may be written to its end before the server learns that nobody reads on
    assert watching.ends[0] in ({Code.CANCELLED} if count > 3 else {Code.CANCELLED, Code.OK})
    assert not app.in_flight.calls


@our_clients
async def test_a_stream_that_is_closed_unread_never_started(door: Typed, watching: Watching) -> None:
    """Opening the block alone sends nothing."""
    async with door.client.count_up(count=3):
        pass
    await door.call(ECHO, EchoRequest())
    await watching.settled(Code.OK)


@our_clients
async def test_an_upload_that_breaks_off_ends(door: Typed, watching: Watching) -> None:
    """An exception of the caller's own requests ends the call on both sides, uploads and talks alike."""

    async def sums() -> AsyncIterator[SumRequest]:
        yield SumRequest(number=1)
        await until(lambda: watching.inside > 0)  # else it may be over before the server heard of it
        raise NotFound("the file is gone")

    async def lines() -> AsyncIterator[ChatRequest]:
        yield ChatRequest(text="one")
        await until(lambda: watching.inside > 0)
        raise NotFound("the line is cut")

    with pytest.raises(NotFound, match="the file is gone"):
        await door.client.sum(sums())
    await watching.settled(Code.CANCELLED)
    with pytest.raises(NotFound, match="the line is cut"):
        [each async for each in door.client.chat(lines())]
    await watching.settled(Code.CANCELLED, Code.CANCELLED)


@our_clients
async def test_a_talk_that_is_left_while_both_sides_send_ends(door: Typed, watching: Watching) -> None:
    """Leaving in the middle of a talk stops the caller's own requests too."""
    stopped = asyncio.Event()

    async def endless() -> AsyncIterator[ChatRequest]:
        try:
            while True:
                yield ChatRequest(text="on and on")
                await asyncio.sleep(0)
        finally:
            stopped.set()

    async with door.client.chat(endless()) as talk:
        for _ in range(10):
            await anext(talk)
    await watching.settled(Code.CANCELLED)
    await asyncio.wait_for(stopped.wait(), 5)


@every_rpc_door
async def test_a_drain_ends_what_runs_too_long(door: Door, watching: Watching, app: App) -> None:
    """At the end of the drain limit every call is cancelled, told to come back, and counted out."""
    request = CountUpRequest(count=100_000, pause=Duration(nanos=1_000_000))
    streams = [opened(door, request) for _ in range(WIDTH)]
    for stream in streams:
        assert (await anext(aiter(stream))).number == 1
    await app.drain(0.05)
    for stream in streams:
        with pytest.raises((Unavailable, aio.AioRpcError), match="shutting down"):
            [each async for each in stream]
    await watching.settled(*[Code.UNAVAILABLE] * WIDTH)
