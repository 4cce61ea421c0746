"""The typed surface of clients, the same over the network and in process."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from interlock import (
    Call,
    Code,
    Deadline,
    DeadlineExceeded,
    Error,
    InvalidArgument,
    Metadata,
    NotFound,
    Outcome,
    Unavailable,
    Violation,
    current_call,
)
from interlock.call import Handler, Reply, compose
from interlock.client import Paged, ReplyStream, pick
from interlock.contract.model import Operation
from interlock.deadline import monotonic
from interlock.server import serving
from tests.sample.gen.sample.v1.sample_pb import (
    ChatRequest,
    CountUpRequest,
    EchoRequest,
    EchoResponse,
    FailRequest,
    ListThingsResponse,
    SumRequest,
    Thing,
)
from tests.sample.gen.sample.v1.sample_rpc import COUNT_UP, ECHO, SAMPLE_SERVICE, SampleServiceClient
from tests.sample.handlers import Sample, make


class Noting(Sample):
    """Handlers that keep the calls they serve, and may pass one on to a neighbour."""

    def __init__(self, neighbour: SampleServiceClient | None = None) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.neighbour = neighbour

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        self.calls.append(call)
        if self.neighbour is not None:
            await self.neighbour.echo(request)
        return await super().echo(request, call)

    async def fail(self, request: FailRequest, call: Call) -> Any:
        if self.neighbour is not None:
            return await self.neighbour.fail(request)
        return await super().fail(request, call)

    async def count_up(self, request: CountUpRequest, call: Call) -> AsyncIterator[Any]:
        self.calls.append(call)
        if self.neighbour is None:
            async for each in super().count_up(request, call):
                yield each
        else:
            async with self.neighbour.count_up(request) as numbers:
                async for each in numbers:
                    yield each


@pytest.fixture
def sample() -> Noting:
    """The handlers behind the client."""
    return Noting()


@pytest.fixture(params=["in process", "gRPC", "Connect"])
async def client(request: pytest.FixtureRequest, sample: Noting) -> AsyncIterator[SampleServiceClient]:
    """A client of them, by every transport."""
    app = make(sample)
    if request.param == "in process":
        async with app, SampleServiceClient(app) as connected:
            yield connected
    else:
        async with serving(app) as address:
            target = address.url if request.param == "Connect" else str(address)
            async with SampleServiceClient(target) as connected:
                yield connected


# --- views ----------------------------------------------------------------------------------------------------------


async def test_a_view_has_options_of_its_own(client: SampleServiceClient, sample: Noting) -> None:
    """A view adds metadata and sets a timeout without changing what it was made from; views of views add up."""
    view = client.using(metadata={"x-test-a": "1"}, timeout=timedelta(seconds=5))
    both = view.using(metadata=[("x-test-b-bin", b"\x00"), ("x-test-b-bin", b"\xff")])
    for each in (client, view, both):
        await each.echo()
    plain, first, second = sample.calls
    assert "x-test-a" not in plain.metadata
    assert first.metadata.get("x-test-a") == second.metadata.get("x-test-a") == "1"
    assert "x-test-b-bin" not in first.metadata
    assert second.metadata.binary_all("x-test-b-bin") == [b"\x00", b"\xff"]
    assert plain.deadline.remaining() > 10
    assert first.deadline.remaining() <= 5.1  # grpcio rounds up what it tells
    assert second.deadline.remaining() <= 5.1


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), timedelta(0)])
def test_a_timeout_must_be_above_zero(timeout: Any) -> None:
    """No time at all is a mistake, told where it is written."""
    with pytest.raises(ValueError, match="above zero"):
        SampleServiceClient("nobody:1").using(timeout=timeout)


@pytest.mark.parametrize("metadata", [{"x a": "1"}, {"x-a": "\n"}, {"grpc-timeout": "1S"}, {"x-a-bin": "text"}])
def test_metadata_that_can_not_travel_is_refused_where_it_is_written(metadata: Any) -> None:
    """A view is not made with metadata that no call could send."""
    with pytest.raises(ValueError, match=r"can't be|must be"):
        SampleServiceClient("nobody:1").using(metadata=metadata)


@pytest.mark.parametrize("timeout", [float("inf"), 1e6, 1e9, 1e12, 1e300])
async def test_a_timeout_may_be_as_long_as_it_likes(client: SampleServiceClient, timeout: float) -> None:
    """A timeout beyond all reason is a long one, not one that has passed."""
    assert (await client.using(timeout=timeout).echo(text="x")).text == "x"
    async with client.using(timeout=timeout).count_up(count=1) as numbers:
        assert [each.number async for each in numbers] == [1]


@pytest.mark.parametrize("target", ["ftp://example.test", "grpc://example.test:1", "https://", "http://x?a=b"])
def test_a_target_says_how_it_is_called(target: str) -> None:
    """host:port is gRPC, http:// and https:// Connect; any other URL is a mistake, told where it is written."""
    with pytest.raises(ValueError, match="is no target"):
        SampleServiceClient(target)


# --- requests -------------------------------------------------------------------------------------------------------


async def test_a_request_is_given_whole_or_in_fields(client: SampleServiceClient) -> None:
    """Both ways say the same, and both together are a mistake."""
    assert (await client.echo(EchoRequest(text="x"))).text == (await client.echo(text="x")).text == "x"
    with pytest.raises(TypeError, match="either a whole request or its fields, not both"):
        await client.echo(EchoRequest(text="x"), loud=True)
    with pytest.raises(TypeError, match="not both"):
        client.count_up(CountUpRequest(), count=3)
    with pytest.raises(TypeError, match="not both"):
        await client.echo(EchoRequest(), number=0)  # present, though zero


async def test_a_request_of_the_wrong_type_is_not_sent(client: SampleServiceClient, sample: Noting) -> None:
    """Encoded as what it is not it would arrive as something else, so it is refused, single or in a stream."""
    with pytest.raises(TypeError, match="expected a EchoRequest, not SumRequest"):
        await client.echo(SumRequest(number=1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a EchoRequest, not SumRequest"):
        await client.call(ECHO, SumRequest(number=1))  # type: ignore[misc]
    with pytest.raises(TypeError, match="expected a SumRequest, not int"):
        await client.sum([1, 2])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="expected a SumRequest, not ChatRequest"):
        await client.sum([SumRequest(number=1), ChatRequest(text="x")])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="expected a ChatRequest, not str"):
        [each async for each in client.chat("hello")]  # type: ignore[arg-type]

    async def mixed() -> AsyncIterator[Any]:
        yield ChatRequest(text="x")
        yield SumRequest(number=1)

    with pytest.raises(TypeError, match="expected a ChatRequest, not SumRequest"):
        [each async for each in client.chat(mixed())]
    assert not sample.calls


def test_a_picked_request_is_the_one_that_was_given() -> None:
    """Without a whole request the fields are it; an untouched set of fields leaves the whole one."""
    whole, fields = EchoRequest(text="whole"), EchoRequest(text="fields")
    assert pick(None, fields) is fields
    assert pick(whole, EchoRequest()) is whole


async def test_requests_may_come_from_any_iterable(client: SampleServiceClient) -> None:
    """A list, a generator, an async generator and an async iterable that is none of these are streams."""

    class Numbers:
        def __aiter__(self) -> AsyncIterator[SumRequest]:
            return generated()

    async def generated() -> AsyncIterator[SumRequest]:
        for number in (1, 2, 3):
            yield SumRequest(number=number)

    whole = [SumRequest(number=number) for number in (1, 2, 3)]
    for requests in (whole, iter(whole), (each for each in whole), generated(), Numbers()):
        assert (await client.sum(requests)).sum == 6


async def test_requests_that_can_be_closed_are_closed(client: SampleServiceClient) -> None:
    """Whether all were sent, or the call failed before: what the caller's requests hold is let go."""

    class File:
        def __init__(self, *lines: Any) -> None:
            self.lines = list(lines)
            self.closed = asyncio.Event()

        def __aiter__(self) -> "File":
            return self

        async def __anext__(self) -> Any:
            if not self.lines:
                raise StopAsyncIteration
            return self.lines.pop(0)

        async def aclose(self) -> None:
            self.closed.set()

    whole, broken = File(SumRequest(number=1), SumRequest(number=2)), File(SumRequest(number=1), "text")
    assert (await client.sum(whole)).sum == 3
    with pytest.raises(TypeError):
        await client.sum(broken)
    for file in (whole, broken):
        await asyncio.wait_for(file.closed.wait(), 5)


# --- replies --------------------------------------------------------------------------------------------------------


async def test_a_call_gives_the_full_reply(client: SampleServiceClient) -> None:
    """Message, headers, trailers and the number of attempts come back together."""
    view = client.using(metadata=[("x-test-a", "1"), ("x-test-b-bin", b"\x00\xff")])
    reply = await view.call(ECHO, EchoRequest(text="x"))
    assert (reply.message.text, reply.attempts) == ("x", 1)
    assert reply.headers.get("reply-x-test-a") == "1"
    assert reply.headers.binary("reply-x-test-b-bin") == b"\x00\xff"
    assert reply.trailers.get("trailer-x-test-a") == "1"
    assert not [name for name, _ in reply.headers.items() if name.startswith(("grpc-", "content-"))]


async def test_a_stream_tells_its_metadata_at_the_end(client: SampleServiceClient) -> None:
    """Headers and trailers are there once the stream is over, whole or failed, whatever was looked up before."""
    for request in (CountUpRequest(count=2), CountUpRequest(count=2, fail_after=1)):
        stream = client.count_up(request)
        assert "x-test-counting" not in stream.headers
        assert "x-test-counted" not in stream.trailers
        try:
            assert [each.number async for each in stream] == [1, 2]
        except NotFound:
            assert request.fail_after
        assert stream.headers.get("x-test-counting") == "up"
        assert stream.trailers.get("x-test-counted") == "2"


async def test_a_stream_that_is_over_stays_over(client: SampleServiceClient, sample: Noting) -> None:
    """Read to its end, failed or closed unread: nothing is sent again, and there is nothing more to come."""
    whole, failed, closed = client.count_up(count=1), client.count_up(count=2, fail_after=1), client.count_up(count=1)
    assert [each.number async for each in whole] == [1]
    with pytest.raises(NotFound):
        [each async for each in failed]
    await closed.close()
    await closed.close()
    sent = len(sample.calls)
    for stream in (whole, failed, closed):
        assert [each async for each in stream] == []
    assert len(sample.calls) == sent == 2


async def test_a_stream_that_can_not_be_opened_fails_once() -> None:
    """A stream whose transport refuses it is not sent a second time by whoever reads on."""
    attempts: list[Call] = []

    async def refuse(call: Call) -> Reply:
        attempts.append(call)
        raise Unavailable("no")

    call = Call(SAMPLE_SERVICE.operation(COUNT_UP))
    stream: ReplyStream[Any] = ReplyStream(call, refuse)
    with pytest.raises(Unavailable):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert len(attempts) == 1


@pytest.mark.parametrize("leave", ["whole", "early", "unread", "failed", "cancelled"])
async def test_a_sent_stream_ends_its_call_once(leave: str) -> None:
    """Whatever becomes of a stream, the call behind it ends once, with the code that says what happened."""
    ends: list[Code] = []

    async def replies() -> AsyncIterator[Any]:
        yield 1
        if leave == "failed":
            raise NotFound("no")
        if leave == "cancelled":
            raise asyncio.CancelledError
        yield 2

    async def handler(call: Call) -> Reply:
        return replies()

    call = Call(SAMPLE_SERVICE.operation(COUNT_UP))
    call.on_end(lambda outcome: ends.append(outcome.code))
    stream: ReplyStream[Any] = ReplyStream(call, handler)
    try:
        async with stream:
            if leave != "unread":
                await anext(stream)
            if leave not in ("unread", "early"):
                [each async for each in stream]
    except (NotFound, asyncio.CancelledError):
        assert leave in ("failed", "cancelled")
    expected = {"whole": Code.OK, "failed": Code.NOT_FOUND}.get(leave, Code.CANCELLED)
    assert ends == [expected]


# --- pages ----------------------------------------------------------------------------------------------------------


async def test_a_list_is_awaited_iterated_or_paged(client: SampleServiceClient) -> None:
    """`await` gives the first page, iterating all items, `pages()` all pages, each fetched when it is due."""
    for number in range(5):
        await client.create_thing(name=f"t{number}")
    listed = client.list_things(page_size=2)
    assert [each.name for each in (await listed).things] == ["t0", "t1"]
    assert [each.name async for each in listed] == ["t0", "t1", "t2", "t3", "t4"]
    assert [len(page.things) async for page in listed.pages()] == [2, 2, 1]
    assert [each.name async for each in client.list_things(page_size=2, page_token="4")] == ["t4"]


async def test_pages_are_fetched_one_by_one() -> None:
    """Whoever stops early causes no more calls, and an empty page in the middle ends nothing."""
    pages = {
        "": ListThingsResponse(things=[Thing(name="a")], next_page_token="1"),
        "1": ListThingsResponse(next_page_token="2"),
        "2": ListThingsResponse(things=[Thing(name="b")]),
    }
    fetched: list[str] = []

    async def fetch(token: str) -> ListThingsResponse:
        fetched.append(token)
        return pages[token]

    listed: Paged[ListThingsResponse, Thing] = Paged(fetch, "things")
    async for thing in listed:
        assert thing.name == "a"
        break
    assert fetched == [""]
    assert [each.name async for each in listed] == ["a", "b"]
    assert fetched == ["", "", "1", "2"]


async def test_a_request_is_not_changed_by_paging(client: SampleServiceClient) -> None:
    """The token of a page is set in a copy of the request."""
    for number in range(3):
        await client.create_thing(name=f"t{number}")
    request = client.list_things
    whole = [each.name async for each in request(page_size=1)]
    assert whole == [each.name async for each in request(page_size=1)] == ["t0", "t1", "t2"]


# --- neighbours -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["in process", "network"])
async def relay(request: pytest.FixtureRequest, client: SampleServiceClient) -> AsyncIterator[SampleServiceClient]:
    """A client of a service whose handlers call the one of `client`, by both transports."""
    app = make(Noting(client))
    if request.param == "in process":
        async with app, SampleServiceClient(app) as connected:
            yield connected
    else:
        async with serving(app) as address, SampleServiceClient(str(address)) as connected:
            yield connected


async def test_deadline_and_request_id_travel_along(relay: SampleServiceClient, sample: Noting) -> None:
    """What a handler calls has its caller's deadline, shrunk, and its request id, streams too; nothing else."""
    view = relay.using(timeout=7, metadata={"x-request-id": "r-1", "x-test-secret": "s"})
    await view.echo()
    assert [each.number async for each in view.count_up(count=2)] == [1, 2]
    for call in sample.calls:
        assert 0 < call.deadline.remaining() <= 7.1
        assert call.request_id == "r-1"
        assert "x-test-secret" not in call.metadata


async def test_a_neighbour_gets_no_more_time_than_there_is(client: SampleServiceClient, sample: Noting) -> None:
    """A view's own timeout can't reach beyond the deadline of the call being served."""
    current_call.set(Call(SAMPLE_SERVICE.operation(ECHO), deadline=Deadline.after(2)))
    await client.using(timeout=60).echo()
    assert sample.calls[0].deadline.remaining() <= 2
    current_call.set(Call(SAMPLE_SERVICE.operation(ECHO), deadline=Deadline(monotonic() - 1)))
    with pytest.raises(DeadlineExceeded):
        await client.using(timeout=60).echo()
    assert len(sample.calls) == 1


async def test_a_view_may_name_the_request_itself(client: SampleServiceClient, sample: Noting) -> None:
    """An id in the view's metadata goes before the one of the call being served."""
    parent = Call(SAMPLE_SERVICE.operation(ECHO), Metadata([("x-request-id", "parent")]))
    current_call.set(parent)
    await client.echo()
    await client.using(metadata={"x-request-id": "own"}).echo()
    assert [call.metadata.get_all("x-request-id") for call in sample.calls] == [["parent"], ["own"]]


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK], ids=lambda code: code.name)
async def test_a_neighbours_error_is_not_the_callers(
    relay: SampleServiceClient, code: Code, caplog: pytest.LogCaptureFixture
) -> None:
    """Let through it is INTERNAL without its text; UNAVAILABLE and DEADLINE_EXCEEDED stay, not to be retried."""
    violation = FailRequest.Violation(field="secret", description="hunter2")
    with pytest.raises(Error) as raised:
        await relay.fail(code=int(code), message="hunter2", reason="HUNTER2", violations=[violation])
    error = raised.value
    kept = code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
    assert error.code is (code if kept else Code.INTERNAL)
    assert error.final is kept
    assert "hunter2" not in f"{error} {error.reason} {error.metadata}".lower()
    assert "hunter2" in caplog.text


async def test_a_handler_may_answer_for_its_neighbour(client: SampleServiceClient) -> None:
    """What a handler makes of a neighbour's error is its own, in full."""

    class Translating(Sample):
        async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
            try:
                await client.get_thing(thing_id="nobody")
            except NotFound as missing:
                violation = Violation(field="text", description="names no thing")
                raise InvalidArgument(f"see: {missing.message}", violations=[violation]) from missing
            return EchoResponse()

    async with SampleServiceClient(make(Translating())) as translating:
        with pytest.raises(InvalidArgument, match="no thing 'nobody'"):
            await translating.echo()


async def test_a_caller_that_leaves_cancels_the_whole_chain(relay: SampleServiceClient, sample: Noting) -> None:
    """Leaving a stream that is passed on reaches the last handler."""
    async with relay.count_up(count=1_000_000) as numbers:
        assert (await anext(numbers)).number == 1
    async with asyncio.timeout(5):
        while not sample.cancelled:  # noqa: ASYNC110 - told by another task, over a socket
            await asyncio.sleep(0.01)


# --- layers ---------------------------------------------------------------------------------------------------------


async def test_every_sent_call_ends_once(client: SampleServiceClient) -> None:
    """Layers of a sent call see one start and one end, with the code that its caller got."""
    ends: list[tuple[str, Code]] = []

    def watched(handler: Handler, operation: Operation) -> Handler:
        async def watch(call: Call, proceed: Handler) -> Reply:
            def done(outcome: Outcome) -> None:
                ends.append((operation.name, outcome.code))

            call.on_end(done)
            return await proceed(call)

        return compose([lambda _: watch], operation, handler)

    transport = client._channel.transport

    class Watched:
        def handler(self, operation: Operation) -> Handler:
            return watched(transport.handler(operation), operation)

        async def close(self) -> None:
            """The client under test closes it."""

    async with SampleServiceClient(Watched()) as outer:
        await outer.echo()
        with pytest.raises(NotFound):
            await outer.get_thing(thing_id="nobody")
        with pytest.raises(DeadlineExceeded):
            await outer.using(timeout=0.05).slow(seconds=60)
        await outer.sum([])
        async with outer.count_up(count=100_000) as numbers:
            await anext(numbers)
        assert [each.text async for each in outer.chat([ChatRequest(text="x")])] == ["x"]
    assert ends == [
        ("Echo", Code.OK),
        ("GetThing", Code.NOT_FOUND),
        ("Slow", Code.DEADLINE_EXCEEDED),
        ("Sum", Code.OK),
        ("CountUp", Code.CANCELLED),
        ("Chat", Code.OK),
    ]
