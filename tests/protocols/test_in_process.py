"""Calls without sockets: what would differ from the network if nobody looked."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import pytest

from interlock import (
    App,
    Call,
    DeadlineExceeded,
    Internal,
    NotFound,
    TooLarge,
    Unimplemented,
    current_call,
)
from interlock.call import Handler
from interlock.protocols.in_process import InProcess
from interlock.protocols.serving import Endpoint, InFlight, Limits
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import (
    CountUpRequest,
    CountUpResponse,
    EchoRequest,
    EchoResponse,
    SlowRequest,
    SlowResponse,
    SumRequest,
    SumResponse,
)
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE, SUM, SampleServiceClient
from tests.sample.handlers import Sample, make
from tests.waiting import until

colour: ContextVar[str] = ContextVar("colour", default="none")


class Looking(Sample):
    """Handlers that look around."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        self.seen += [request, colour.get(), asyncio.current_task(), current_call.get() is call, call]
        request.tags.append("changed by the callee")
        reply = await super().echo(request, call)
        self.seen.append(reply)
        return reply


def running() -> list[Any]:
    """Return the tasks that belong to calls in process."""
    return [task for task in asyncio.all_tasks() if "_Visit" in getattr(task.get_coro(), "__qualname__", "")]


@pytest.fixture
def sample() -> Looking:
    """The handlers."""
    return Looking()


@pytest.fixture
def app(sample: Looking) -> App:
    """The app."""
    return make(sample)


@pytest.fixture
async def client(app: App) -> AsyncIterator[SampleServiceClient]:
    """A client in this process; no task of a call may outlive its test."""
    async with app, SampleServiceClient(app) as connected:
        yield connected
    await until(lambda: not running())
    assert not app.in_flight.calls


async def test_nothing_is_shared_but_what_was_sent(client: SampleServiceClient, sample: Looking) -> None:
    """Messages are copies on both sides; task and context are the callee's own."""
    colour.set("red")
    request = EchoRequest(text="x")
    reply = await client.echo(request)
    seen_request, seen_colour, task, is_current, call, seen_reply = sample.seen
    assert seen_request is not request
    assert list(request.tags) == []
    assert seen_reply is not reply
    assert seen_colour == "none"
    assert task is not asyncio.current_task()
    assert is_current
    assert call.protocol == "in-process"
    assert call.peer.address == ""
    assert current_call.get() is None


async def test_the_callers_requests_run_in_the_callers_context(client: SampleServiceClient) -> None:
    """A stream of requests sees the caller's ContextVars, not the callee's."""
    colour.set("blue")
    seen = []

    async def numbers() -> AsyncIterator[SumRequest]:
        seen.append((colour.get(), current_call.get()))
        yield SumRequest(number=1)

    await client.sum(numbers())
    assert seen == [("blue", None)]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
async def test_a_stream_left_behind_leaves_no_task(
    client: SampleServiceClient, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A callee that has ended, or is about to, does not wait forever to tell a caller who is gone."""
    async with client.count_up(count=count) as numbers:
        assert (await anext(numbers)).number == 1
        for _ in range(20):
            await asyncio.sleep(0)  # the callee runs on, as far as it may
    await until(lambda: not running())
    gc.collect()
    assert not caplog.records


async def test_a_slow_reader_holds_the_callee_back(app: App) -> None:
    """The callee is at most two messages ahead of who reads."""
    made: list[int] = []

    class Eager(Sample):
        async def count_up(self, request: CountUpRequest, call: Call) -> AsyncIterator[CountUpResponse]:
            for number in range(1, request.count + 1):
                made.append(number)
                yield CountUpResponse(number=number)

    async with SampleServiceClient(make(Eager())) as client, client.count_up(count=1000) as numbers:
        for expected in range(1, 6):
            assert (await anext(numbers)).number == expected
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(made) <= expected + 2


async def test_a_slow_callee_holds_the_sender_back() -> None:
    """The sender is at most two messages ahead of who reads them."""
    sent: list[int] = []
    ahead: list[int] = []

    class Lazy(Sample):
        async def sum(self, requests: AsyncIterator[SumRequest], call: Call) -> SumResponse:
            read = 0
            async for _ in requests:
                read += 1
                for _ in range(20):
                    await asyncio.sleep(0)
                ahead.append(len(sent) - read)
            return SumResponse(count=read)

    async def numbers() -> AsyncIterator[SumRequest]:
        for number in range(50):
            sent.append(number)
            yield SumRequest(number=number)

    async with SampleServiceClient(make(Lazy())) as client:
        assert (await client.sum(numbers())).count == 50
    assert max(ahead) <= 2


async def test_an_upload_keeps_a_stream_alive() -> None:
    """Messages that come in are signs of life, as messages that go out are."""
    touched: list[float] = []

    class Watching(Sample):
        async def sum(self, requests: AsyncIterator[SumRequest], call: Call) -> SumResponse:
            touched.extend([call.touched async for _ in requests])
            return SumResponse()

    async with SampleServiceClient(make(Watching())) as client:
        await client.sum([SumRequest(number=1), SumRequest(number=2)])
    assert len(touched) == 2
    assert all(touched)


async def test_a_callee_that_does_not_stop_is_not_waited_for() -> None:
    """A caller gets its answer a moment after the deadline, even from a handler that swallows its cancellation."""
    released = asyncio.Event()

    class Stubborn(Sample):
        async def slow(self, request: SlowRequest, call: Call) -> SlowResponse:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue
            return SlowResponse()

    async with SampleServiceClient(make(Stubborn())) as client:
        with pytest.raises(DeadlineExceeded, match="did not stop"):
            await client.using(timeout=0.05).slow()
        released.set()


async def test_limits_hold_as_over_the_wire() -> None:
    """Requests and replies beyond the limits are refused with the same error as elsewhere."""
    app = make(settings=Settings(request_bytes=100, reply_bytes=200))
    async with SampleServiceClient(app) as client:
        with pytest.raises(TooLarge):
            await client.echo(text="x" * 101)
        with pytest.raises(TooLarge):
            await client.blob(size=201)
        assert len((await client.blob(size=150)).data) == 150


async def test_what_the_app_does_not_serve_is_unimplemented() -> None:
    """An operation of a service that has no handler there is refused, not lost."""
    transport = InProcess(lambda _: None, InFlight(), Limits())
    async with SampleServiceClient(transport) as client:
        with pytest.raises(Unimplemented, match="SampleService/Echo"):
            await client.echo()


async def test_an_error_is_its_status_and_no_more(app: App) -> None:
    """What is not part of the wire's form does not cross: class, cause, private attributes."""

    class Mine(NotFound):
        secret = "in the class"

    class Failing(Sample):
        async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
            call.reply_trailers.add("x-trailer", "1")
            raise Mine("gone", reason="VERY_GONE", metadata=[("x-own", "2")]) from ValueError("hidden")

    async with SampleServiceClient(make(Failing())) as client:
        with pytest.raises(NotFound) as raised:
            await client.echo()
    error = raised.value
    assert type(error) is NotFound
    assert (error.message, error.reason, error.domain) == ("gone", "VERY_GONE", "sample.v1.SampleService")
    assert dict(error.metadata) == {"x-own": "2", "x-trailer": "1"}
    assert error.__cause__ is None
    assert error.received


@pytest.mark.parametrize("message", ["\ud800", 4711])
async def test_an_error_that_can_not_be_sent_hangs_nobody(message: Any) -> None:
    """A mistake inside an error reaches the caller as an answer, not as silence."""

    class Failing(Sample):
        async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
            raise NotFound(message)

    async with asyncio.timeout(5), SampleServiceClient(make(Failing())) as client:
        with pytest.raises((NotFound, Internal)):
            await client.using(timeout=60).echo()


async def test_a_handler_that_is_cancelled_by_itself_is_internal(client: SampleServiceClient) -> None:
    """A cancellation that nobody asked for is a mistake of the handler, not the caller's."""

    async def cancelled(_call: Call) -> Any:
        raise asyncio.CancelledError

    handler: Handler = cancelled
    operation = SAMPLE_SERVICE.operation(ECHO)
    endpoint = Endpoint(operation, handler)
    async with SampleServiceClient(InProcess({operation.path: endpoint}.get, InFlight(), Limits())) as direct:
        with pytest.raises(Internal):
            await direct.echo()


async def test_a_caller_that_is_cancelled_while_it_uploads_stops_uploading(client: SampleServiceClient) -> None:
    """Cancelling the caller closes its own stream of requests."""
    closed = asyncio.Event()
    begun = asyncio.Event()

    async def numbers() -> AsyncIterator[SumRequest]:
        try:
            yield SumRequest(number=1)
            begun.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    calling = asyncio.create_task(client.sum(numbers()))
    await begun.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await asyncio.wait_for(closed.wait(), 5)


async def test_a_stream_without_a_limit_has_none(app: App) -> None:
    """A stream whose contract gives no timeout runs until its caller's deadline, or on."""
    deadlines: list[float] = []

    async def handler(call: Call) -> Any:
        deadlines.append(call.deadline.at)
        return SumResponse()

    operation = replace(SAMPLE_SERVICE.operation(SUM), timeout=None)
    transport = InProcess({operation.path: Endpoint(operation, handler)}.get, InFlight(), Limits())
    async with SampleServiceClient(transport) as client:
        await client.using(timeout=float("inf")).sum([])
        await client.using(timeout=5).sum([])
    assert deadlines[0] == float("inf")
    assert deadlines[1] < asyncio.get_running_loop().time() + 6
