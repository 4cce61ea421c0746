"""Conformance, client under test, gRPC and Connect: calls of a sound server, by their case names."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import trustme
from protobuf.wkt.google.protobuf.duration_pb import Duration

from interlock import Code, Error, RetryPolicy, Tls
from interlock.client import ReplyStream
from interlock.protocols.connect_client import ConnectOptions
from interlock.server import Address, serving
from interlock.server.embedded import Tls as ServerTls
from tests.conformance.gen.conformance.v1.conformance_pb import Answer, CallRequest, CallResponse, Failure, Header
from tests.conformance.gen.conformance.v1.conformance_rpc import (
    IDEMPOTENT_UNARY,
    UNARY,
    ConformanceServiceClient,
)
from tests.conformance.service import Conformance, make
from tests.waiting import until

ONCE = RetryPolicy(retries=0)
PROTOCOLS = ("grpc", "connect")
UNARY_KIND, CLIENT, SERVER = "unary", "client-stream", "server-stream"
HALF, FULL = "bidi-stream/half-duplex", "bidi-stream/full-duplex"
HEADERS = [Header(name="x-custom-header", values=["foo", "bar", "baz"])]
TRAILERS = [Header(name="x-custom-trailer", values=["bing", "quux"])]
SENT = [("x-conformance-test", "Value1"), ("x-conformance-test", "Value2")]
DATA = [b"first response", b"second response"]


@pytest.fixture
def service() -> Conformance:
    """The handlers, to look into."""
    return Conformance()


@pytest.fixture
async def address(service: Conformance) -> AsyncIterator[Address]:
    """Where they are served."""
    async with serving(make(service), drain_limit=0.2) as served:
        yield served


def client_of(address: Address, protocol: str, **options: Any) -> ConformanceServiceClient:
    """Return a client that speaks the protocol."""
    return ConformanceServiceClient(str(address) if protocol == "grpc" else address.url, retries=ONCE, **options)


@pytest.fixture
async def client(request: pytest.FixtureRequest, address: Address) -> AsyncIterator[ConformanceServiceClient]:
    """A client of them by the protocol of the test."""
    async with client_of(address, request.getfixturevalue("protocol")) as connected:
        yield connected


class Talk:
    """Requests that a caller hands out one by one, as full duplex needs it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[CallRequest | None] = asyncio.Queue()

    def say(self, request: CallRequest | None) -> None:
        """Send one more; None is the end."""
        self._queue.put_nowait(request)

    async def __aiter__(self) -> AsyncIterator[CallRequest]:
        while (request := await self._queue.get()) is not None:
            yield request


class Came:
    """What a caller got of a call."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.seen: Any = None
        self.headers: dict[str, list[str]] = {}
        self.trailers: dict[str, list[str]] = {}
        self.error: Error | None = None

    def take(self, reply: CallResponse) -> None:
        """Note one reply."""
        self.data.append(reply.data)
        if reply.seen is not None:
            self.seen = reply.seen

    def close(self, headers: Any, trailers: Any) -> None:
        """Note the metadata of the reply."""
        self.headers = {name: headers.get_all(name) for name, _ in headers.items()}
        self.trailers = {name: trailers.get_all(name) for name, _ in trailers.items()}


async def called(client: ConformanceServiceClient, kind: str, answer: Answer, requests: int = 1) -> Came:
    """Make a call of that kind, whose first request says what to answer; an error is noted."""
    came = Came()
    first = CallRequest(answer=answer, data=b"request 0", full_duplex=kind == FULL)
    rest = [CallRequest(data=b"request %d" % number) for number in range(1, requests)]
    try:
        await _called(client, kind, [first, *rest], came)
    except Error as error:
        came.error = error
    return came


async def _called(client: ConformanceServiceClient, kind: str, requests: Sequence[CallRequest], came: Came) -> None:
    if kind == UNARY_KIND:
        result = await client.call(UNARY, requests[0])
        came.take(result.message)
        came.close(result.headers, result.trailers)
    elif kind == CLIENT:
        came.take(await client.client_stream(requests))
    else:
        talk = Talk()
        stream: ReplyStream[CallResponse]
        if kind == SERVER:
            stream = client.server_stream(requests[0])
        elif kind == HALF:
            stream = client.bidi_stream(requests)
        else:
            stream = client.bidi_stream(talk)
        try:
            for request in requests if kind == FULL else ():
                talk.say(request)
                came.take(await anext(stream))
            talk.say(None)
            async for reply in stream:
                came.take(reply)
        except StopAsyncIteration:
            pass
        finally:
            came.close(stream.headers, stream.trailers)


def every(*kinds: str, case: str = "") -> pytest.MarkDecorator:
    """Parametrize by protocol and kind."""
    values = [pytest.param(protocol, kind, id=f"{protocol}-{kind}{case}") for protocol in PROTOCOLS for kind in kinds]
    return pytest.mark.parametrize("protocol, kind", values)


@every(UNARY_KIND, CLIENT, SERVER, FULL, HALF, case="/success")
async def test_basic(client: ConformanceServiceClient, protocol: str, kind: str) -> None:
    """Basic: what is asked is answered, with headers and trailers."""
    answer = Answer(headers=HEADERS, trailers=TRAILERS, data=DATA)
    came = await called(client, kind, answer, 1 if kind in (UNARY_KIND, SERVER) else 2)
    assert came.error is None
    assert came.data == (DATA[:1] if kind in (UNARY_KIND, CLIENT) else DATA)


@every(SERVER, HALF, case="/no-responses")
async def test_basic_without_responses(client: ConformanceServiceClient, protocol: str, kind: str) -> None:
    """Basic: a stream may end before its first message."""
    came = await called(client, kind, Answer())
    assert (came.error, came.data) == (None, [])


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_unimplemented(client: ConformanceServiceClient, protocol: str) -> None:
    """Basic, unimplemented: what is not offered says so."""
    with pytest.raises(Error) as raised:
        await client.unimplemented()
    assert raised.value.code is Code.UNIMPLEMENTED


# --- Client Cancellation --------------------------------------------------------------------------------------------

SLOW = Answer(delay=Duration.from_timedelta(timedelta(seconds=60)), data=DATA)


@every(UNARY_KIND, CLIENT, SERVER, FULL, HALF, case="/cancel-after-close-send")
async def test_cancel_after_close_send(
    client: ConformanceServiceClient, service: Conformance, protocol: str, kind: str
) -> None:
    """Client Cancellation: the caller gives up while it waits; the handler is cancelled."""
    calling = asyncio.create_task(called(client, kind, SLOW))
    await until(lambda: bool(service.seen) or kind == FULL)
    await asyncio.sleep(0.05)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    if protocol == "grpc":  # over HTTP/1.1 the connection is closed: tests/protocols/test_connect_client.py
        await until(lambda: service.cancelled == ["CLIENT_GONE"])


@every(CLIENT, FULL, HALF, case="/cancel-before-close-send")
async def test_cancel_before_close_send(
    client: ConformanceServiceClient, service: Conformance, protocol: str, kind: str
) -> None:
    """Client Cancellation: the caller gives up while it could still send."""
    talk = Talk()
    talk.say(CallRequest(answer=Answer(data=DATA), full_duplex=kind == FULL))
    if kind == CLIENT:
        calling: asyncio.Task[Any] = asyncio.create_task(client.client_stream(talk))
    else:
        stream = client.bidi_stream(talk)
        if kind == FULL:
            assert (await anext(stream)).data == DATA[0]
        calling = asyncio.create_task(anext(stream))
    await asyncio.sleep(0.05)
    assert not calling.done()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


@every(SERVER, FULL, HALF, case="/cancel-after-responses")
async def test_cancel_after_responses(
    client: ConformanceServiceClient, service: Conformance, protocol: str, kind: str
) -> None:
    """Client Cancellation: the caller leaves after the first of the replies; the handler is cancelled."""
    wait = Duration.from_timedelta(timedelta(milliseconds=200))
    request = CallRequest(answer=Answer(delay=wait, data=DATA * 50), full_duplex=kind == FULL)
    talk = Talk()
    talk.say(request)
    if kind == HALF:
        talk.say(None)
    stream = client.server_stream(request) if kind == SERVER else client.bidi_stream(talk)
    async with stream:
        assert (await anext(stream)).data == DATA[0]
        if kind == FULL:
            talk.say(None)
    assert [each async for each in stream] == []
    if protocol == "grpc" and kind != FULL:  # whose handler may be waiting for the next request instead
        await until(lambda: service.cancelled == ["CLIENT_GONE"])


# --- Connect with GET, Deadline Propagation, Timeouts ---------------------------------------------------------------


@pytest.mark.parametrize("codec", ["proto", "json"])
async def test_connect_with_get_success(service: Conformance, codec: Literal["proto", "json"]) -> None:
    """Connect with GET, success: an operation without side effects goes as GET, in either codec."""
    options = ConnectOptions(codec=codec, use_get=True)
    async with serving(make(service)) as address, client_of(address, "connect", connect=options) as client:
        answer = Answer(headers=HEADERS, trailers=TRAILERS, data=DATA[:1])
        result = await client.using(metadata=SENT).call(IDEMPOTENT_UNARY, CallRequest(answer=answer))
    assert result.message.data == DATA[0]
    assert result.headers.get_all("x-custom-header") == ["foo", "bar", "baz"]
    assert result.trailers.get_all("x-custom-trailer") == ["bing", "quux"]
    seen = {each.name: list(each.values) for each in service.seen[0].headers}
    assert seen["x-conformance-test"] == ["Value1", "Value2"]
    assert "content-type" not in seen  # of a GET


@every(UNARY_KIND, CLIENT, SERVER, FULL, case="/success")
async def test_deadline_propagation(client: ConformanceServiceClient, protocol: str, kind: str) -> None:
    """Deadline Propagation: the service knows how much time the caller has."""
    requests = 1 if kind in (UNARY_KIND, SERVER) else 2
    came = await called(client.using(timeout=20), kind, Answer(data=DATA), requests)
    assert came.error is None
    assert 0 < came.seen.timeout_ms <= 20_000


@every(UNARY_KIND, CLIENT, SERVER, FULL, HALF)
async def test_timeouts(client: ConformanceServiceClient, protocol: str, kind: str) -> None:
    """Timeouts: what takes longer than the caller has is DEADLINE_EXCEEDED."""
    came = await called(client.using(timeout=0.3), kind, SLOW)
    assert came.error is not None
    assert came.error.code is Code.DEADLINE_EXCEEDED


# --- Duplicate Metadata, Errors -------------------------------------------------------------------------------------


def _meant(values: Sequence[Header]) -> dict[str, list[str]]:
    return {each.name: list(each.values) for each in values}


@every(UNARY_KIND, CLIENT, SERVER, FULL, HALF, case="/success")
async def test_duplicate_metadata(client: ConformanceServiceClient, protocol: str, kind: str) -> None:
    """Duplicate Metadata: every value of a name arrives, in order, there and back."""
    answer = Answer(headers=HEADERS, trailers=TRAILERS, data=DATA)
    came = await called(client.using(metadata=SENT), kind, answer, 1 if kind in (UNARY_KIND, SERVER) else 2)
    assert came.error is None
    seen = {each.name: list(each.values) for each in came.seen.headers}
    assert [part.strip() for each in seen["x-conformance-test"] for part in each.split(",")] == ["Value1", "Value2"]
    if kind != CLIENT:  # whose typed method gives the message alone
        assert (_only(came.headers, HEADERS), _only(came.trailers, TRAILERS)) == (_meant(HEADERS), _meant(TRAILERS))


def _only(given: dict[str, list[str]], meant: Sequence[Header]) -> dict[str, list[str]]:
    return {each.name: given.get(each.name, []) for each in meant}


@every(SERVER, case="/no-response")
async def test_duplicate_metadata_without_response(client: ConformanceServiceClient, protocol: str, kind: str) -> None:
    """Duplicate Metadata, server-stream/no-response: a stream without messages has its metadata too."""
    came = await called(client, kind, Answer(headers=HEADERS, trailers=TRAILERS))
    assert (_only(came.headers, HEADERS), _only(came.trailers, TRAILERS)) == (_meant(HEADERS), _meant(TRAILERS))


FAILURE = Failure(code=int(Code.INTERNAL), message="it failed", metadata=[Header(name="x-error", values=["a", "b"])])
FAILING = [
    (UNARY_KIND, 0, "/error"),
    (CLIENT, 0, "/error"),
    (SERVER, 2, "/error-with-responses"),
    (SERVER, 0, "/error-with-no-responses"),
    (FULL, 2, "/error-with-responses"),
    (FULL, 0, "/error-no-responses"),
    (HALF, 2, "/error-with-responses"),
    (HALF, 0, "/error-with-no-responses"),
]


@pytest.mark.parametrize(
    "protocol, kind, responses",
    [
        pytest.param(protocol, kind, responses, id=f"{protocol}-{kind}{case}")
        for protocol in PROTOCOLS
        for kind, responses, case in FAILING
    ],
)
async def test_errors_with_duplicate_metadata(
    client: ConformanceServiceClient, protocol: str, kind: str, responses: int
) -> None:
    """Duplicate Metadata and Errors, …/error…: an error has its metadata, behind the messages before it."""
    answer = Answer(headers=HEADERS, trailers=TRAILERS, data=DATA[:responses], failure=FAILURE)
    came = await called(client.using(metadata=SENT), kind, answer, 2 if kind == FULL and responses else 1)
    assert came.error is not None
    assert (came.error.code, came.error.message, came.data) == (Code.INTERNAL, "it failed", DATA[:responses])
    for meant in (*TRAILERS, *FAILURE.metadata):
        values = [value for name, value in came.error.metadata if name == meant.name]
        assert values == list(meant.values)
    if kind not in (UNARY_KIND, CLIENT):
        for name, value in [(each.name, value) for each in HEADERS for value in each.values]:
            # a gRPC error without messages has one head for both (Trailers-Only)
            assert value in came.headers.get(name, []) or (name, value) in came.error.metadata


ERROR_CODES = [code for code in Code if code is not Code.OK]


@every(UNARY_KIND, SERVER)
@pytest.mark.parametrize("code", ERROR_CODES, ids=lambda code: code.name.lower())
async def test_error_codes(client: ConformanceServiceClient, protocol: str, kind: str, code: Code) -> None:
    """Errors, unary/… and server-stream/…: every code arrives as itself, with its text."""
    came = await called(client, kind, Answer(failure=Failure(code=int(code), message="the text")))
    assert came.error is not None
    assert (came.error.code, came.error.message) == (code, "the text")


@every(UNARY_KIND, CLIENT, SERVER, HALF, case="/error-with-metadata")
async def test_error_with_metadata(client: ConformanceServiceClient, protocol: str, kind: str) -> None:
    """Errors, …/error-with-metadata, unary/unicode-error-message: text of any alphabet, details, metadata."""
    failure = Failure(code=int(Code.ABORTED), message="Grüße, 世界 🌍 100 %", reason="WHY", metadata=FAILURE.metadata)
    came = await called(client, kind, Answer(failure=failure))
    assert came.error is not None
    assert (came.error.message, came.error.reason) == (failure.message, "WHY")
    assert ("x-error", "a") in came.error.metadata


@every(CLIENT)
@pytest.mark.parametrize("requests", [1, 3], ids=["error-one-request", "error-multiple-requests"])
async def test_client_stream_error(client: ConformanceServiceClient, protocol: str, kind: str, requests: int) -> None:
    """Errors, client-stream/error-…-request: the error comes whatever was sent."""
    came = await called(client, kind, Answer(failure=FAILURE), requests)
    assert came.error is not None
    assert came.error.code is Code.INTERNAL


# --- TLS Client Certs -----------------------------------------------------------------------------------------------


@every(CLIENT)
async def test_tls_client_certs(service: Conformance, tmp_path: Path, protocol: str, kind: str) -> None:
    """TLS Client Certs, client-stream: a client shows its certificate, and is served."""
    authority, clients = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    clients.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    for name, issued in (("server", authority.issue_cert("localhost")), ("own", clients.issue_cert("caller.test"))):
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        (tmp_path / f"{name}.pem").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    tls = ServerTls(
        certificate=tmp_path / "server.pem", key=tmp_path / "server.key", client_authorities=tmp_path / "clients.pem"
    )
    own = Tls(authorities=tmp_path / "ca.pem", certificate=tmp_path / "own.pem", key=tmp_path / "own.key")
    async with serving(make(service), tls=tls) as address:
        target = Address(host="localhost", port=address.port, secure=True)
        async with client_of(target, protocol, tls=own) as client:
            came = await called(client, kind, Answer(data=DATA[:1]), 2)
        assert (came.error, came.data) == (None, DATA[:1])
        async with client_of(target, protocol, tls=Tls(authorities=tmp_path / "ca.pem")) as client:
            refused = await called(client.using(timeout=5), kind, Answer(data=DATA[:1]), 2)
    assert refused.error is not None
    assert refused.error.code is Code.UNAVAILABLE
