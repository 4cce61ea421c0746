"""gRPC's server side against hostile, broken and unusual requests, as bare ASGI events.

Codes are those of grpc/doc/statuscodes.md; the cases follow the Connect project's conformance suite for gRPC servers.
"""

import asyncio
import gzip
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock import App, Call, Code, NotFound, Reply, after
from interlock.call import Handler, Middleware
from interlock.contract.model import Operation
from interlock.contract.stub import Rpc
from interlock.protocols.compression import KNOWN, NAMES, Compression, gzipped
from interlock.protocols.grpc_wire import frame
from interlock.settings import Settings
from tests.protocols.grpc_exchange import GONE, GRPC, NEVER, Answer, ask, framed
from tests.sample.gen.sample.v1.sample_pb import (
    BlobRequest,
    BlobResponse,
    ChatRequest,
    CountUpRequest,
    CountUpResponse,
    EchoRequest,
    EchoResponse,
    FailRequest,
    Item,
    SlowRequest,
    SumRequest,
    SumResponse,
)
from tests.sample.gen.sample.v1.sample_rpc import BLOB, CHAT, COUNT_UP, ECHO, FAIL, SLOW, SUM
from tests.sample.handlers import Sample, make

LIMIT = 4 << 20
HELLO = EchoRequest(text="hello")
HELLO_FRAME = framed(HELLO)
GZIP = (b"grpc-encoding", b"gzip")
ALL_KINDS = pytest.mark.parametrize("rpc", [ECHO, COUNT_UP, SUM, CHAT], ids=["unary", "server", "client", "bidi"])
ONE_REQUEST = pytest.mark.parametrize("rpc", [ECHO, COUNT_UP], ids=["unary", "server stream"])


@pytest.fixture
def sample() -> Sample:
    """The handlers."""
    return Sample()


@pytest.fixture
def app(sample: Sample) -> App:
    """The app, as an ASGI server would call it."""
    return make(sample)


@pytest.fixture(autouse=True)
def nothing_left(app: App) -> Iterator[None]:
    """Whatever was sent, no call stays counted in."""
    yield
    assert not app.in_flight.calls


def message_of(answer: Answer, kind: Any) -> Any:
    """Return the one message of a reply."""
    assert answer.code is Code.OK, answer.message
    assert answer.body[0] == 0
    assert int.from_bytes(answer.body[1:5], "big") == len(answer.body) - 5
    return kind.from_binary(answer.body[5:])


# --- what fits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [b"application/grpc", b"application/grpc+proto"])
async def test_a_request_is_answered(app: App, content_type: bytes) -> None:
    """Both spellings of the content type are served, with what compression is understood told in the reply."""
    answer = await ask(app, ECHO.path, HELLO_FRAME, headers=[(b"content-type", content_type)])
    assert (answer.status, answer.headers["content-type"]) == (200, "application/grpc+proto")
    assert answer.headers["grpc-accept-encoding"] == NAMES.decode()
    assert message_of(answer, EchoResponse).text == "hello"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
async def test_the_pieces_of_a_body_do_not_matter(app: App, size: int) -> None:
    """A body that trickles in is the same request, also where the end comes as an empty piece."""
    pieces = [HELLO_FRAME[at : at + size] for at in range(0, len(HELLO_FRAME), size)]
    assert message_of(await ask(app, ECHO.path, *pieces, b""), EchoResponse).text == "hello"
    sums = framed(*(SumRequest(number=number) for number in range(10)))
    pieces = [sums[at : at + size] for at in range(0, len(sums), size)]
    assert message_of(await ask(app, SUM.path, *pieces, b""), SumResponse).sum == 45


@ONE_REQUEST
async def test_an_empty_message_is_a_message(app: App, rpc: Rpc[Any, Any]) -> None:
    """Five zero bytes are a request without any field set."""
    assert (await ask(app, rpc.path, bytes(5))).code is Code.OK


async def test_a_message_at_the_limit_passes(app: App) -> None:
    """The limit is of the message, not of its frame; one byte more is refused."""
    spare = LIMIT - len(EchoRequest(data=bytes(LIMIT // 2)).to_binary()) + LIMIT // 2
    fits, too_large = EchoRequest(data=bytes(spare)), EchoRequest(data=bytes(spare + 1))
    assert len(fits.to_binary()) == LIMIT
    assert (await ask(app, ECHO.path, framed(fits))).code is Code.OK
    assert (await ask(app, ECHO.path, framed(too_large))).code is Code.RESOURCE_EXHAUSTED


# --- what does not fit ----------------------------------------------------------------------------------------------


@ONE_REQUEST
@pytest.mark.parametrize("parts", [(b"",), (b"", b"", b"")])
async def test_no_request_is_unimplemented(app: App, rpc: Rpc[Any, Any], parts: tuple[bytes, ...]) -> None:
    """Where one request is due, none at all is a cardinality violation."""
    answer = await ask(app, rpc.path, *parts)
    assert (answer.status, answer.code) == (200, Code.UNIMPLEMENTED)


@ONE_REQUEST
@pytest.mark.parametrize("pieces", [1, 2, 3])
async def test_two_requests_are_unimplemented(app: App, rpc: Rpc[Any, Any], pieces: int) -> None:
    """Where one request is due, two are a cardinality violation, however they are cut."""
    body = bytes(10)
    parts = {1: (body,), 2: (body[:5], body[5:]), 3: (body[:3], body[3:7], body[7:])}[pieces]
    assert (await ask(app, rpc.path, *parts)).code is Code.UNIMPLEMENTED


async def test_a_second_request_that_never_ends_is_not_kept(app: App) -> None:
    """What follows the one request is bounded, though nobody reads it."""
    answer = await ask(app, ECHO.path, HELLO_FRAME, *[bytes(1 << 20)] * 5, NEVER)
    assert answer.code is Code.UNIMPLEMENTED


@ALL_KINDS
@pytest.mark.parametrize("cut", [1, 4, 5, 8])
async def test_a_frame_that_is_cut_off_is_internal(app: App, rpc: Rpc[Any, Any], cut: int) -> None:
    """A body that ends inside a header or a message is told as such."""
    answer = await ask(app, rpc.path, frame(b"\x00" * 20)[:cut])
    assert answer.code is Code.INTERNAL
    assert "ends inside a message" in answer.message


@ALL_KINDS
@pytest.mark.parametrize("length", [LIMIT + 1, 0x7FFFFFFF, 0xFFFFFFFF])
async def test_a_length_beyond_the_limit_is_refused_at_once(app: App, rpc: Rpc[Any, Any], length: int) -> None:
    """A header that declares too much is enough: the body is not waited for."""
    head = b"\x00" + length.to_bytes(4, "big")
    answer = await asyncio.wait_for(ask(app, rpc.path, head, NEVER), 5)
    assert answer.code is Code.RESOURCE_EXHAUSTED
    assert str(length) in answer.message


@ALL_KINDS
@pytest.mark.parametrize("flag", [2, 0x80, 0xFF])
async def test_an_unknown_flag_is_internal(app: App, rpc: Rpc[Any, Any], flag: int) -> None:
    """A frame of an unknown kind is refused by its first bytes."""
    answer = await asyncio.wait_for(ask(app, rpc.path, bytes([flag, 0, 0, 0, 1]), NEVER), 5)
    assert answer.code is Code.INTERNAL


MALFORMED = {
    "no tag": b"\xff\xff\xff",
    "a length beyond the end": b"\x0a\x7f",
    "text that is no UTF-8": b"\x0a\x02\xff\xfe",
    "an endless varint": b"\x88\x01" + b"\xff" * 11,
    "an open group": b"\xa3\x06",
    "groups without end": b"\xa3\x06" * 100_000,
    "field number zero": b"\x02\x00",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_message_is_internal(app: App, data: bytes) -> None:
    """Bytes that are no message of the operation are told with its name, and nothing of how they were read."""
    answer = await ask(app, ECHO.path, frame(data))
    assert answer.code is Code.INTERNAL
    assert answer.message == "the request is no valid sample.v1.EchoRequest"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parts=st.lists(st.binary(max_size=40), max_size=5), rpc=st.sampled_from([ECHO, COUNT_UP, SUM, CHAT]))
def test_any_body_is_answered(app: App, parts: list[bytes], rpc: Rpc[Any, Any]) -> None:
    """No bytes whatever keep the app from answering in gRPC's form, or leave a call behind."""
    answer = asyncio.run(ask(app, rpc.path, *parts, headers=[GRPC, GZIP]))
    assert answer.status == 200
    assert answer.code in set(Code)
    assert not app.in_flight.calls


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(headers=st.lists(st.tuples(st.sampled_from([b"grpc-timeout", b"grpc-encoding", b"x-request-id", b"x-test-a-bin",
    b"traceparent", b"grpc-accept-encoding", b"te", b"content-length"]), st.binary(max_size=30))))  # fmt: skip
def test_any_headers_are_answered(app: App, headers: list[tuple[bytes, bytes]]) -> None:
    """No header values whatever keep the app from answering."""
    answer = asyncio.run(ask(app, ECHO.path, HELLO_FRAME, headers=[GRPC, *headers]))
    assert answer.status == 200
    assert answer.code in {Code.OK, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.DEADLINE_EXCEEDED}


async def test_many_violations_block_nothing(app: App) -> None:
    """Of a large request the first violation is told, for finding a million would hold up everybody else."""
    request = EchoRequest(items=[Item()] * 300_000)
    async with asyncio.timeout(5):
        answer = await ask(app, ECHO.path, framed(request))
    assert answer.code is Code.INVALID_ARGUMENT
    assert answer.message == "invalid request: items[0].quantity"


# --- compression ----------------------------------------------------------------------------------------------------


EVERY_COMPRESSION = pytest.mark.parametrize("compression", KNOWN.values(), ids=lambda each: each.name.decode())
LARGE = EchoRequest(text="hello " * 1000)


@ALL_KINDS
@EVERY_COMPRESSION
async def test_a_compressed_request_is_understood(app: App, rpc: Rpc[Any, Any], compression: Compression) -> None:
    """Every kind takes compressed messages, and plain ones between; what the reply may be in is said in its head."""
    if rpc.kind.client_streams:
        body = frame(compression.compress(b""), compressed=True) + bytes(5)
    else:
        message = CountUpRequest(count=1).to_binary() if rpc is COUNT_UP else b""
        body = frame(compression.compress(message), compressed=True)
    answer = await ask(app, rpc.path, body, headers=[GRPC, (b"grpc-encoding", compression.name)])
    assert answer.code is Code.OK
    assert answer.headers["grpc-encoding"] == compression.name.decode()
    assert answer.body[0] == 0, "a few bytes only grow by it"


@EVERY_COMPRESSION
async def test_a_large_reply_is_compressed_in_kind(app: App, compression: Compression) -> None:
    """A compressed request has a reply compressed the same way."""
    headers = [GRPC, (b"grpc-encoding", compression.name)]
    answer = await ask(app, ECHO.path, frame(compression.compress(LARGE.to_binary()), compressed=True), headers=headers)
    assert answer.code is Code.OK
    assert answer.body[0] == 1
    assert int.from_bytes(answer.body[1:5], "big") == len(answer.body) - 5 < 1000
    assert EchoResponse.from_binary(compression.inflate(answer.body[5:], LIMIT)).text == LARGE.text


@pytest.mark.parametrize("accepted, compressed", [(b"identity", False), (b"gzip", True), (b"identity, gzip", True)])
async def test_a_reply_is_compressed_for_those_only_who_take_it(app: App, accepted: bytes, compressed: bool) -> None:
    """A caller who says what it accepts gets nothing else."""
    headers = [GRPC, GZIP, (b"grpc-accept-encoding", accepted)]
    answer = await ask(app, ECHO.path, frame(gzipped(LARGE.to_binary()), compressed=True), headers=headers)
    assert answer.code is Code.OK
    assert bool(answer.body[0]) is compressed
    assert ("grpc-encoding" in answer.headers) is compressed


@pytest.mark.parametrize("encoding", [b"snappy", b"deflate", b"GZIP", b"gzip,gzip", b"", b"\xff"])
@ALL_KINDS
async def test_an_unknown_encoding_is_unimplemented(app: App, rpc: Rpc[Any, Any], encoding: bytes) -> None:
    """An encoding that is not understood is refused with those that are, before the body is read."""
    answer = await asyncio.wait_for(ask(app, rpc.path, NEVER, headers=[GRPC, (b"grpc-encoding", encoding)]), 5)
    assert (answer.status, answer.code, answer.trailers_only) == (200, Code.UNIMPLEMENTED, True)
    assert answer.headers["grpc-accept-encoding"] == NAMES.decode()


@ALL_KINDS
@pytest.mark.parametrize("headers", [[GRPC], [GRPC, (b"grpc-encoding", b"identity")]], ids=["none", "identity"])
async def test_compression_without_announcement_is_internal(
    app: App, rpc: Rpc[Any, Any], headers: list[tuple[bytes, bytes]]
) -> None:
    """A compressed message in a request that names no compression breaks the protocol."""
    answer = await ask(app, rpc.path, frame(gzipped(b""), compressed=True), headers=headers)
    assert answer.code is Code.INTERNAL


BROKEN = {"junk behind": gzipped(b"") + b"junk", "no gzip": b"plain", "cut off": gzipped(b"")[:-1], "nothing": b""}


@ALL_KINDS
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_broken_gzip_is_internal(app: App, rpc: Rpc[Any, Any], data: bytes) -> None:
    """What can't be decompressed is told as such."""
    answer = await ask(app, rpc.path, frame(data, compressed=True), headers=[GRPC, GZIP])
    assert answer.code is Code.INTERNAL
    assert "gzip" in answer.message


@ALL_KINDS
async def test_a_gzip_bomb_is_refused_within_the_limit(app: App, rpc: Rpc[Any, Any]) -> None:
    """A hundred megabytes of zeros in a hundred kilobytes are refused, and never held."""
    body = frame(gzip.compress(bytes(100 << 20)), compressed=True)
    tracemalloc.start()
    try:
        answer = await ask(app, rpc.path, body, headers=[GRPC, GZIP])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.code is Code.RESOURCE_EXHAUSTED
    assert peak < 4 * LIMIT


# --- the head -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "BREW"])
async def test_a_wrong_verb_is_405(app: App, method: str) -> None:
    """An RPC path takes POST, and says so."""
    answer = await ask(app, ECHO.path, HELLO_FRAME, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "content_type",
    [b"", b"text/plain", b"application/xml", b"application/grpc+json", b"application/connect+proto", b"\xff"],
)
async def test_a_wrong_content_type_is_415(app: App, content_type: bytes) -> None:
    """An RPC path takes what gRPC sends; anything else is refused in plain HTTP."""
    answer = await ask(app, ECHO.path, HELLO_FRAME, headers=[(b"content-type", content_type)])
    assert answer.status == 415
    assert "grpc-status" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["/sample.v1.SampleService/Nothing", "/sample.v1.Nobody/Echo", "/", "/sample.v1.SampleService/", "//",
     "/" + "x" * 9_999, ECHO.path + "/", ECHO.path.lower(), "/sample.v1.SampleService/Echo\r\nx: y", "/ü"],
)  # fmt: skip
async def test_an_unknown_path_is_unimplemented(app: App, path: str) -> None:
    """A call of what is not offered is answered in gRPC's own form, at once."""
    answer = await asyncio.wait_for(ask(app, path, NEVER), 5)
    assert (answer.status, answer.code, answer.trailers_only) == (200, Code.UNIMPLEMENTED, True)
    assert len(answer.message) < 1024


@ALL_KINDS
@pytest.mark.parametrize("timeout", [b"", b"1", b"S", b"1s", b"-1S", b"123456789S", b"1.5S", b"1S ", b"\xff"])
async def test_a_bad_timeout_is_refused(app: App, rpc: Rpc[Any, Any], timeout: bytes) -> None:
    """A timeout that can't be read is the caller's mistake, told before the body is read."""
    answer = await asyncio.wait_for(ask(app, rpc.path, NEVER, headers=[GRPC, (b"grpc-timeout", timeout)]), 5)
    assert answer.code is Code.INVALID_ARGUMENT
    assert "grpc-timeout" in answer.message


@ALL_KINDS
@pytest.mark.parametrize("timeout", [b"0S", b"1n", b"00000000H"])
async def test_no_time_at_all_is_too_little(app: App, rpc: Rpc[Any, Any], timeout: bytes) -> None:
    """A deadline that passes on the way is exceeded, before the body is read."""
    answer = await asyncio.wait_for(ask(app, rpc.path, NEVER, headers=[GRPC, (b"grpc-timeout", timeout)]), 5)
    assert answer.code is Code.DEADLINE_EXCEEDED


async def test_the_longest_timeout_is_capped_by_the_contract(app: App) -> None:
    """A caller may ask for eleven thousand years, and gets the contract's."""
    headers = [GRPC, (b"grpc-timeout", b"99999999H")]
    assert (await ask(app, ECHO.path, HELLO_FRAME, headers=headers)).code is Code.OK


@ALL_KINDS
async def test_a_sender_that_stalls_is_cut_off(app: App, rpc: Rpc[Any, Any]) -> None:
    """A body that never comes does not hold a call beyond its deadline."""
    answer = await asyncio.wait_for(ask(app, rpc.path, b"\x00", NEVER, headers=[GRPC, (b"grpc-timeout", b"50m")]), 5)
    assert answer.code is Code.DEADLINE_EXCEEDED


async def test_malformed_binary_metadata_is_the_callers_mistake(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """A -bin value that is no base64, once the handler reads it, is INVALID_ARGUMENT and no error of the service."""
    answer = await ask(app, ECHO.path, HELLO_FRAME, headers=[GRPC, (b"x-test-a-bin", b"!!!")])
    assert answer.code is Code.INVALID_ARGUMENT
    assert "x-test-a-bin" in answer.message
    assert not caplog.records


# --- what handlers get wrong ----------------------------------------------------------------------------------------


class Faulty(Sample):
    """Handlers with mistakes in them."""

    def __init__(self, fault: Any) -> None:
        super().__init__()
        self.fault = fault

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        await self.fault(call)
        return EchoResponse()


async def _bad_header(call: Call) -> None:
    call.reply_headers.add("x-a", "1\r\nx-admin: yes")


async def _bad_trailer(call: Call) -> None:
    call.reply_trailers.add("grpc-status", "0")


async def _bad_error_metadata(_call: Call) -> None:
    raise NotFound("no", metadata=[("x-a", "1\r\nx-admin: yes")])


async def _no_text(_call: Call) -> None:
    raise NotFound(4711)  # type: ignore[arg-type]  # as people without a type checker write


async def _bad_delay(_call: Call) -> None:
    raise NotFound("no", retry_after=3)  # type: ignore[arg-type]


async def _own_cancellation(_call: Call) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


FAULTS = [_bad_header, _bad_trailer, _bad_error_metadata, _no_text, _bad_delay, _own_cancellation]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__.strip("_"))
async def test_a_mistake_in_a_reply_is_internal(fault: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What can't be sent is not sent: the caller gets INTERNAL with an id, the log the cause under it."""
    app = make(Faulty(fault))
    answer = await ask(app, ECHO.path, HELLO_FRAME)
    assert answer.code is Code.INTERNAL
    assert "x-admin" not in str(answer.events)
    assert answer.message.rpartition(" ")[2] in caplog.text
    assert not app.in_flight.calls


@pytest.mark.parametrize(
    "text", ["100 %", "%41", "a\r\nb", "tab\there", "so geht's nicht 🌧", "\x00\x1f\x7f", " leading", "\ud800"]
)
async def test_any_message_is_sent_safely(text: str) -> None:
    """A message comes back as it was, whatever stands in it, and breaks no header."""

    async def fail(_call: Call) -> None:
        raise NotFound(text)

    answer = await ask(make(Faulty(fail)), ECHO.path, HELLO_FRAME)
    assert answer.code is Code.NOT_FOUND
    assert answer.message == answer.details.message == text.replace("\ud800", "?")


async def test_a_huge_error_is_bounded(app: App) -> None:
    """Megabytes of message and violations become details of 4 KiB and 32 violations at most."""
    violations = [FailRequest.Violation(field="f" * 500, description="🌧" * 500)] * 500
    request = FailRequest(code=int(Code.NOT_FOUND), message="🌧" * 100_000, reason="R" * 9_999, violations=violations)
    answer = await ask(app, FAIL.path, framed(request))
    assert answer.code is Code.NOT_FOUND
    assert len(answer.details.to_binary()) <= 4096
    assert sum(len(name) + len(value) + 32 for name, value in answer.trailers.items()) < 8192


class Endless:
    """An async iterator that is no generator: it has nothing to close."""

    def __init__(self, replies: Any) -> None:
        self._replies = replies

    def __aiter__(self) -> "Endless":
        return self

    async def __anext__(self) -> Any:
        return await anext(self._replies)


async def test_a_middleware_may_wrap_a_stream_in_any_iterator(sample: Sample) -> None:
    """The reply of a stream need only be an async iterator."""

    def layer(_operation: Operation) -> Middleware:
        async def wrap(call: Call, proceed: Handler) -> Reply:
            return Endless(await proceed(call))

        return wrap

    answer = await ask(make(sample, layers=[after("validate", layer)]), COUNT_UP.path, framed(CountUpRequest(count=2)))
    assert answer.code is Code.OK
    assert answer.body == framed(CountUpResponse(number=1), CountUpResponse(number=2))


@pytest.mark.parametrize("taken", [1, 100])
async def test_a_wrapped_stream_is_closed(taken: int) -> None:
    """What a middleware's iterator holds is let go at once, whether the stream ended or its reader left."""
    closed: list[bool] = []

    class Wrapped(Endless):
        async def aclose(self) -> None:
            closed.append(True)

    def layer(_operation: Operation) -> Middleware:
        async def wrap(call: Call, proceed: Handler) -> Reply:
            return Wrapped(await proceed(call))

        return wrap

    async def send(event: dict[str, Any]) -> None:
        nonlocal taken
        taken -= 1
        if taken < 0:
            raise OSError("connection reset")

    app = make(layers=[after("validate", layer)])
    await ask(app, COUNT_UP.path, framed(CountUpRequest(count=3)), send=send)
    assert closed == [True]


# --- who leaves -----------------------------------------------------------------------------------------------------


@ALL_KINDS
@pytest.mark.parametrize("parts", [(), (b"\x00",), (b"\x00\x00\x00\x00\x02",), (bytes(5),)])
async def test_a_client_that_leaves_in_its_upload_is_told_nothing(
    app: App, rpc: Rpc[Any, Any], parts: tuple[bytes, ...]
) -> None:
    """A disconnect before the end of the body ends the call, and nothing more is sent than was."""
    answer = await ask(app, rpc.path, *parts, GONE)
    assert "http.response.trailers" not in [each["type"] for each in answer.events]


@pytest.mark.parametrize("after_events", [1, 2, 3])
async def test_a_client_that_leaves_in_its_download_ends_the_handler(
    app: App, sample: Sample, after_events: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Where sending fails, the handler's stream is closed, and nothing is logged as an error."""
    sent: list[object] = []

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)
        if len(sent) > after_events:
            raise OSError("connection reset")

    await ask(app, COUNT_UP.path, framed(CountUpRequest(count=1000)), send=send)
    assert sample.cancelled == ["CLIENT_GONE"]
    assert len(sent) == after_events + 1
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_a_client_that_leaves_at_the_very_end_is_no_error(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """Trailers that can't be sent any more are nobody's problem."""

    async def send(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.trailers":
            raise OSError("connection reset")

    await ask(app, ECHO.path, HELLO_FRAME, send=send)
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_a_reply_that_is_too_large_is_refused() -> None:
    """A reply beyond the limit is told with its size, also after messages that fitted."""
    app = make(settings=Settings(reply_bytes=100))
    answer = await ask(app, BLOB.path, framed(BlobRequest(size=101)))
    assert (answer.code, answer.details.message) == (
        Code.RESOURCE_EXHAUSTED, "the reply of 103 bytes is larger than the limit of 100",
    )  # fmt: skip
    assert message_of(await ask(app, BLOB.path, framed(BlobRequest(size=98))), BlobResponse).data == bytes(98)
    talk = framed(ChatRequest(text="short"), ChatRequest(text="x" * 200))
    answer = await ask(app, CHAT.path, talk)
    assert answer.code is Code.RESOURCE_EXHAUSTED
    assert answer.body == framed(ChatRequest(text="short"))


async def test_a_deadline_cuts_a_reply_that_nobody_takes(app: App, sample: Sample) -> None:
    """A client that stops reading holds its call no longer than its deadline."""

    async def send(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.body" and event["more_body"]:
            await asyncio.Event().wait()

    headers = [GRPC, (b"grpc-timeout", b"50m")]
    request = framed(CountUpRequest(count=10))
    answer = await asyncio.wait_for(ask(app, COUNT_UP.path, request, headers=headers, send=send), 5)
    assert answer.code is Code.DEADLINE_EXCEEDED
    assert sample.cancelled == ["DEADLINE"]


async def test_a_handler_that_ignores_its_cancellation_is_not_believed() -> None:
    """A handler that swallows the cancellation of its deadline can't turn the outcome into OK."""

    class Stubborn(Sample):
        async def slow(self, request: SlowRequest, call: Call) -> Any:
            try:
                return await super().slow(request, call)
            except asyncio.CancelledError:
                return SLOW.reply_type()

    headers = [GRPC, (b"grpc-timeout", b"20m")]
    answer = await ask(make(Stubborn()), SLOW.path, framed(SlowRequest(seconds=30)), headers=headers)
    assert answer.code is Code.DEADLINE_EXCEEDED
