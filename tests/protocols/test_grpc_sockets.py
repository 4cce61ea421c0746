"""gRPC's server side on a real port, against an HTTP/2 client that does what no gRPC client would."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import unquote

import pytest

from interlock import App, Code
from interlock.server import Address, serving
from tests.protocols.grpc_exchange import framed
from tests.protocols.raw_http2_client import RawH2, raw_h2
from tests.sample.gen.sample.v1.sample_pb import CountUpRequest, EchoRequest, EchoResponse, SlowRequest
from tests.sample.gen.sample.v1.sample_rpc import CHAT, COUNT_UP, ECHO, SLOW, SUM
from tests.sample.handlers import Sample, make
from tests.waiting import until

HELLO = framed(EchoRequest(text="hello"))


@pytest.fixture
def sample() -> Sample:
    """The handlers."""
    return Sample()


@pytest.fixture
def app(sample: Sample) -> App:
    """The app."""
    return make(sample)


@pytest.fixture
async def address(app: App) -> AsyncIterator[Address]:
    """Where it is served."""
    async with serving(app) as served:
        yield served
        await until(lambda: not app.in_flight.calls)


@pytest.fixture
async def client(address: Address) -> AsyncIterator[RawH2]:
    """A connection to it."""
    async with raw_h2(address) as connected:
        yield connected


async def still_serves(client: RawH2) -> bool:
    """Tell whether the connection still answers a sound request."""
    stream = client.request(ECHO.path)
    client.send(stream, HELLO, end=True)
    reply = await client.answer(stream)
    return reply.trailers["grpc-status"] == "0" and EchoResponse.from_binary(reply.body[5:]).text == "hello"


async def test_a_request_that_takes_no_trailers_is_refused(client: RawH2, sample: Sample) -> None:
    """Without `te: trailers` no status could follow a reply, so nothing is done, and the refusal says why."""
    stream = client.request(COUNT_UP.path, te=False)
    client.send(stream, framed(CountUpRequest(count=1)), end=True)
    reply = await client.answer(stream)
    assert (reply.headers[":status"], reply.headers["grpc-status"]) == ("200", str(int(Code.INTERNAL)))
    assert "te: trailers" in unquote(reply.headers["grpc-message"])
    assert not sample.finished
    assert await still_serves(client)


async def test_a_head_without_body_is_no_request(client: RawH2) -> None:
    """A stream that ends with its head holds no message."""
    for path in (ECHO.path, COUNT_UP.path):
        reply = await client.answer(client.request(path, end=True))
        assert (reply.headers[":status"], reply.headers["grpc-status"]) == ("200", str(int(Code.UNIMPLEMENTED)))
    reply = await client.answer(client.request(SUM.path, end=True))
    assert reply.trailers["grpc-status"] == "0"
    assert await still_serves(client)


@pytest.mark.parametrize("path", [ECHO.path, COUNT_UP.path, SUM.path, CHAT.path])
async def test_a_declared_length_is_refused_before_its_body(client: RawH2, path: str) -> None:
    """Five bytes that announce four gigabytes are answered while the body is still to come."""
    stream = client.request(path)
    client.send(stream, b"\x00\xff\xff\xff\xff")
    reply = await client.answer(stream)
    assert reply.headers["grpc-status"] == str(int(Code.RESOURCE_EXHAUSTED))
    assert "4294967295" in unquote(reply.headers["grpc-message"])
    assert await still_serves(client)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_wrong_verb_is_405(client: RawH2, method: str) -> None:
    """The path takes POST, and the answer says so."""
    reply = await client.answer(client.request(ECHO.path, method=method, end=True))
    assert (reply.headers[":status"], reply.headers["allow"]) == ("405", "POST")
    assert await still_serves(client)


async def test_a_wrong_content_type_is_415(client: RawH2) -> None:
    """A body of another kind is refused in plain HTTP."""
    stream = client.request(ECHO.path, content_type="application/grpc+json")
    client.send(stream, b"{}", end=True)
    assert (await client.answer(stream)).headers[":status"] == "415"
    assert await still_serves(client)


async def test_an_unknown_path_is_unimplemented(client: RawH2) -> None:
    """The refusal is HTTP 200 with the status in the head, sent before the body."""
    reply = await client.answer(client.request("/sample.v1.Nobody/Echo"))
    assert (reply.headers[":status"], reply.headers["grpc-status"]) == ("200", str(int(Code.UNIMPLEMENTED)))
    assert await still_serves(client)


@pytest.mark.parametrize("path", [ECHO.path, COUNT_UP.path, SUM.path, CHAT.path])
@pytest.mark.parametrize("part", [b"", HELLO[:3], bytes(5)])
async def test_an_upload_that_is_reset_ends_the_call(client: RawH2, app: App, path: str, part: bytes) -> None:
    """A stream that is given up in its upload is counted out, and the connection goes on."""
    stream = client.request(path)
    if part:
        client.send(stream, part)
    await until(lambda: bool(app.in_flight.calls))
    client.reset(stream)
    await until(lambda: not app.in_flight.calls)
    assert await still_serves(client)


async def test_a_call_that_is_reset_cancels_its_handler(client: RawH2, sample: Sample, app: App) -> None:
    """Giving up after the request was sent reaches the handler, with its reason, streams and unary calls alike."""
    slow = client.request(SLOW.path)
    client.send(slow, framed(SlowRequest(seconds=60)), end=True)
    counting = client.request(COUNT_UP.path)
    client.send(counting, framed(CountUpRequest(count=1_000_000)), end=True)
    await until(lambda: len(app.in_flight.calls) == 2 and bool(client.replies[counting].body))
    client.reset(slow)
    client.reset(counting)
    await until(lambda: sample.cancelled == ["CLIENT_GONE"] * 2)
    assert await still_serves(client)


async def test_a_connection_that_breaks_ends_all_its_calls(address: Address, sample: Sample, app: App) -> None:
    """When the socket goes, every call on it goes: those that read, those that run, those that send."""
    async with raw_h2(address) as client:
        client.request(SUM.path)
        slow = client.request(SLOW.path)
        client.send(slow, framed(SlowRequest(seconds=60)), end=True)
        counting = client.request(COUNT_UP.path)
        client.send(counting, framed(CountUpRequest(count=1_000_000)), end=True)
        await until(lambda: len(app.in_flight.calls) == 3 and bool(client.replies[counting].body))
    await until(lambda: not app.in_flight.calls)
    assert sorted(sample.cancelled) == ["CLIENT_GONE"] * 2


async def test_a_client_that_does_not_read_is_cut_off(address: Address, sample: Sample, app: App) -> None:
    """A closed window holds a call no longer than its deadline, and its handler waits meanwhile, not its memory."""
    async with raw_h2(address, read=False) as client:
        stream = client.request(COUNT_UP.path, grpc_timeout="300m")
        client.send(stream, framed(CountUpRequest(count=1_000_000)), end=True)
        await until(lambda: bool(app.in_flight.calls))
        await until(lambda: not app.in_flight.calls)
        assert sample.cancelled == ["DEADLINE"]
        assert len(client.replies[stream].body) <= 65535


async def test_many_calls_share_a_connection(client: RawH2) -> None:
    """A hundred calls at once on one connection are each answered with their own."""
    streams = [client.request(ECHO.path) for _ in range(100)]
    for number, stream in enumerate(streams):
        client.send(stream, framed(EchoRequest(text=str(number))), end=True)
    replies = await asyncio.gather(*(client.answer(stream) for stream in streams))
    assert [EchoResponse.from_binary(reply.body[5:]).text for reply in replies] == [str(n) for n in range(100)]


async def test_rapid_resets_leave_nothing_behind(client: RawH2, app: App) -> None:
    """A client that opens and gives up streams as fast as it can holds nothing (CVE-2023-44487)."""
    for _ in range(50):
        stream = client.request(SLOW.path)
        client.send(stream, framed(SlowRequest(seconds=60)), end=True)
        client.reset(stream)
    await until(lambda: not app.in_flight.calls)
    assert await still_serves(client)
