"""gRPC's client side: connections, TLS, neighbours that misbehave, and none at all."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc import aio

from interlock import (
    Call,
    Code,
    Deadline,
    Error,
    Internal,
    InvalidArgument,
    NotFound,
    RetryPolicy,
    Tls,
    TooLarge,
    Unavailable,
    Unimplemented,
    Unknown,
)
from interlock.protocols.grpc_client import GrpcTransport
from interlock.server import Address, serving
from interlock.server.embedded import Tls as ServerTls
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import CountUpRequest, EchoRequest, EchoResponse, SumRequest
from tests.sample.gen.sample.v1.sample_rpc import COUNT_UP, ECHO, SAMPLE_SERVICE, SUM, SampleServiceClient
from tests.sample.handlers import Sample, make
from tests.waiting import until

LIMIT = 4 << 20


class Peers(Sample):
    """Handlers that note where calls come from."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: list[str] = []
        self.certificates: list[tuple[str, ...]] = []

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        self.peers.append(call.peer.address)
        self.certificates.append(call.peer.certificates)
        return await super().echo(request, call)


@pytest.fixture
def sample() -> Peers:
    """The handlers."""
    return Peers()


@pytest.fixture
async def address(sample: Peers) -> AsyncIterator[Address]:
    """Where they are served."""
    async with serving(make(sample)) as served:
        yield served


# --- connections ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connections", [1, 3])
async def test_calls_take_turns_on_as_many_connections_as_wanted(
    address: Address, sample: Peers, connections: int
) -> None:
    """Each connection is a TCP connection of its own, and calls go round."""
    async with SampleServiceClient(str(address), connections=connections) as client:
        for _ in range(3 * connections):
            await client.echo()
    assert len(set(sample.peers)) == connections
    assert sample.peers == sample.peers[:connections] * 3


@pytest.mark.parametrize("connections", [0, -1])
def test_no_connection_is_too_few(connections: int) -> None:
    """A client needs at least one."""
    with pytest.raises(ValueError, match="at least 1"):
        GrpcTransport("nobody:1", connections=connections)


async def test_nothing_is_opened_before_the_first_call() -> None:
    """Making and closing a client needs no loop and no server."""
    client = SampleServiceClient("nobody.invalid:1")
    await client.close()
    await client.close()


async def test_closing_cancels_what_runs_and_may_be_undone(address: Address, sample: Peers) -> None:
    """Calls in flight end when the client is closed; one that is used again opens anew, for every method."""
    client = SampleServiceClient(str(address))
    await client.echo()
    assert (await client.list_things()).total_size == 0
    slow = asyncio.create_task(client.slow(seconds=60))
    await until(lambda: bool(asyncio.all_tasks()) and not slow.done())
    await asyncio.sleep(0.05)  # until the call is on its way
    await client.close()
    with pytest.raises((Error, asyncio.CancelledError)):
        await slow
    await until(lambda: sample.cancelled == ["CLIENT_GONE"])
    assert (await client.using(timeout=5).list_things()).total_size == 0
    assert (await client.echo(text="again")).text == "again"
    await client.close()


async def test_nobody_there_is_told_at_once() -> None:
    """A port where nobody listens, and a name that nobody has, are UNAVAILABLE quickly and say which."""
    for target, told in (("127.0.0.1:1", "127.0.0.1:1"), ("nobody.invalid:80", "nobody.invalid")):
        began = time.monotonic()
        async with SampleServiceClient(target) as client:
            with pytest.raises(Unavailable) as raised:
                await client.echo()
            with pytest.raises(Unavailable):
                [each async for each in client.count_up(count=1)]
        assert told in raised.value.message
        assert raised.value.received
        assert time.monotonic() - began < 5


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[SampleServiceClient]:
    """Serve bare TCP, give a client of it, and close whatever was opened."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await serve(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        async with SampleServiceClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            yield client
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        await server.wait_closed()


async def test_a_peer_that_says_nothing_is_given_up_at_the_deadline() -> None:
    """A port that accepts and never answers holds a call no longer than its time."""

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        return

    async with listening(silent) as client:
        with pytest.raises(Error) as raised:
            await asyncio.wait_for(client.using(timeout=0.2).echo(), 5)
    assert raised.value.code is Code.DEADLINE_EXCEEDED


async def test_connecting_takes_no_longer_than_allowed() -> None:
    """A port that accepts and never greets is UNAVAILABLE after the time to connect (30 s by default, CLI001)."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = GrpcTransport(f"127.0.0.1:{silent.getsockname()[1]}", connect=timedelta(milliseconds=300))
        operation = SAMPLE_SERVICE.operation(ECHO)
        with pytest.raises(Unavailable):
            await transport.handler(operation)(Call(operation, request=EchoRequest(), deadline=Deadline.after(30)))
        await transport.close()


async def test_defaults_are_those_of_the_standard() -> None:
    """Three retries, exponential from 100 ms with jitter; 30 s for a call (CLI001)."""
    policy = RetryPolicy()
    assert (policy.retries, policy.base, policy.multiplier) == (3, timedelta(milliseconds=100), 2.0)
    assert SAMPLE_SERVICE.operation(ECHO).timeout == timedelta(seconds=30)


async def test_a_peer_that_speaks_something_else_is_unavailable() -> None:
    """A web server of the last century at the other end is an error, not a hang."""

    async def old(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with listening(old) as client:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(client.using(timeout=5).echo(), 10)


# --- sizes ----------------------------------------------------------------------------------------------------------


async def test_too_large_is_told_on_both_sides() -> None:
    """Whoever finds a message too large, client or server, on the way there or back: the error is TooLarge."""
    app = make(settings=Settings(reply_bytes=2 * LIMIT))
    async with serving(app) as address, SampleServiceClient(str(address)) as client:
        with pytest.raises(TooLarge):
            await client.echo(data=bytes(LIMIT))  # our own limit for what is sent
        with pytest.raises(TooLarge):
            await client.blob(size=LIMIT)  # our own limit for what comes
        with pytest.raises(TooLarge):
            await client.blob(size=2 * LIMIT)  # the server's limit for what it sends
        assert len((await client.blob(size=LIMIT - 100)).data) == LIMIT - 100
    small = make(settings=Settings(request_bytes=100))
    async with serving(small) as address, SampleServiceClient(str(address)) as client:
        with pytest.raises(TooLarge):
            await client.echo(data=bytes(101))  # the server's limit for what it takes


async def test_a_compressing_caller_is_understood(address: Address) -> None:
    """A caller that compresses what it sends gets compressed replies, of every kind of call."""
    async with aio.insecure_channel(str(address), compression=grpc.Compression.Gzip) as channel:
        echo = channel.unary_unary(
            ECHO.path, request_serializer=EchoRequest.to_binary, response_deserializer=EchoResponse.from_binary
        )
        text = "x" * 100_000
        call = echo(EchoRequest(text=text))
        assert (await call).text == text
        count = channel.unary_stream(
            COUNT_UP.path,
            request_serializer=CountUpRequest.to_binary,
            response_deserializer=COUNT_UP.reply_type.from_binary,
        )
        assert [each.number async for each in count(CountUpRequest(count=100))] == list(range(1, 101))
        add = channel.stream_unary(
            SUM.path, request_serializer=SumRequest.to_binary, response_deserializer=SUM.reply_type.from_binary
        )
        assert (await add(iter([SumRequest(number=number) for number in range(100)]))).sum == 4950


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Callable[[str], tuple[Path, Path, Path]]:
    """Make an authority with a certificate for a name: paths of its own certificate, the certificate, and the key."""

    def make_files(name: str) -> tuple[Path, Path, Path]:
        ours = trustme.CA()
        issued = ours.issue_cert(name)
        paths = (tmp_path / f"{name}.ca.pem", tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        ours.cert_pem.write_to_path(str(paths[0]))
        issued.private_key_pem.write_to_path(str(paths[2]))
        paths[1].write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        return paths

    return make_files


async def test_tls_is_verified(sample: Peers, authority: Callable[[str], tuple[Path, Path, Path]]) -> None:
    """With the server's authority calls pass; with another, or the system's, nothing is sent and the text says why."""
    known, certificate, key = authority(
        "127.0.0.1"
    )  # a name could have a second address, whose refusal is told instead
    other, _, _ = authority("other.test")
    async with serving(make(sample), host="127.0.0.1", tls=ServerTls(certificate=certificate, key=key)) as address:
        target = str(address)
        async with SampleServiceClient(target, tls=Tls(authorities=known), connections=2) as client:
            assert (await client.echo(text="secret")).text == "secret"
        for wrong in (Tls(authorities=other), Tls()):
            async with SampleServiceClient(target, tls=wrong) as client:
                with pytest.raises(Unavailable, match=r"(?i)handshake|certificate|ssl"):
                    await client.echo()
        async with SampleServiceClient(target) as client:
            with pytest.raises(Unavailable):
                await client.using(timeout=5).echo()
    assert len(sample.peers) == 1


async def test_a_client_shows_its_certificate(
    sample: Peers, authority: Callable[[str], tuple[Path, Path, Path]]
) -> None:
    """Under mutual TLS the handler sees the caller's verified chain, and who shows none is turned away."""
    known, certificate, key = authority("localhost")
    clients, own_certificate, own_key = authority("billing.internal")
    tls = ServerTls(certificate=certificate, key=key, client_authorities=clients)
    async with serving(make(sample), tls=tls) as address:
        target = f"localhost:{address.port}"
        own = Tls(authorities=known, certificate=own_certificate, key=own_key)
        async with SampleServiceClient(target, tls=own) as client:
            await client.echo()
        async with SampleServiceClient(target, tls=Tls(authorities=known)) as client:
            with pytest.raises(Unavailable):
                await client.using(timeout=5).echo()
    ((leaf, *_),) = sample.certificates
    assert leaf.replace("\r", "").strip() in own_certificate.read_text().replace("\r", "")


async def test_files_that_are_not_there_are_told() -> None:
    """A missing certificate file is an OSError that names it."""
    async with SampleServiceClient("localhost:1", tls=Tls(authorities="/nowhere/ca.pem")) as client:
        with pytest.raises(OSError, match=r"/nowhere/ca\.pem"):
            await client.echo()


# --- neighbours that misbehave --------------------------------------------------------------------------------------

Behaviour = Callable[[Any, aio.ServicerContext], Awaitable[Any]]


@asynccontextmanager
async def behaving(name: str, handler: Any) -> AsyncIterator[SampleServiceClient]:
    """Serve one method by grpcio, and give a client of it."""
    server = aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sample.v1.SampleService", {name: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with SampleServiceClient(f"127.0.0.1:{port}") as client:
            yield client
    finally:
        await server.stop(None)


async def against(behave: Any, *, streams: bool = False, timeout: float = 5) -> Any:
    """Call Echo of a grpcio server that behaves so; return the reply, raise the error."""
    make_handler = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    async with behaving("Echo", make_handler(behave)) as client:
        return await asyncio.wait_for(client.using(timeout=timeout).call(ECHO, EchoRequest(text="x")), 10)


def failing(code: grpc.StatusCode, details: str = "no", *trailers: tuple[str, str | bytes]) -> Behaviour:
    """Return a behaviour that fails so."""

    async def behave(_request: Any, context: aio.ServicerContext) -> Any:
        await context.abort(code, details, trailers)

    return behave


BAD_DETAILS = {
    "garbage": b"\xff\xff\xff",
    "nothing": b"",
    "endless groups": b"\xa3\x06" * 1000,
    "another code": b"\x08\x07\x12\x05wrong",
    "no UTF-8": b"\x12\x02\xff\xfe",
    "huge": b"\x12\xff\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("packed", BAD_DETAILS.values(), ids=BAD_DETAILS)
async def test_details_that_can_not_be_read_hide_no_error(packed: bytes) -> None:
    """Whatever stands in the rich status, code and message of the plain one arrive."""
    with pytest.raises(NotFound, match=r"^NOT_FOUND: no$"):
        await against(failing(grpc.StatusCode.NOT_FOUND, "no", ("grpc-status-details-bin", packed)))


@pytest.mark.parametrize("name", ["host", "connection-x", "x-plain", "x.dotted", "via", "date"])
async def test_any_metadata_of_a_neighbour_is_taken_or_left(name: str) -> None:
    """Names that we would refuse to send are no reason to lose the reply or the error they came with."""

    async def succeed(_request: Any, context: aio.ServicerContext) -> bytes:
        await context.send_initial_metadata(((name, "1"),))
        context.set_trailing_metadata(((name, "2"),))
        return EchoResponse(text="y").to_binary()

    reply = await against(succeed)
    assert reply.message.text == "y"
    with pytest.raises(NotFound):
        await against(failing(grpc.StatusCode.NOT_FOUND, "no", (name, "2")))


@pytest.mark.parametrize("pushback, final", [("-1", True), ("100", False), ("soon", False)])
async def test_a_neighbour_may_ask_not_to_be_called_again(pushback: str, final: bool) -> None:
    """A pushback of -1 marks the error as final."""
    with pytest.raises(Unavailable) as raised:
        await against(failing(grpc.StatusCode.UNAVAILABLE, "down", ("grpc-retry-pushback-ms", pushback)))
    assert raised.value.final is final


@pytest.mark.parametrize("text", ["100 %", "a\nb", "so geht's nicht 🌧", "%zz", ""])
async def test_the_text_of_a_neighbour_arrives(text: str) -> None:
    """What another implementation encodes is decoded."""
    with pytest.raises(InvalidArgument) as raised:
        await against(failing(grpc.StatusCode.INVALID_ARGUMENT, text))
    assert raised.value.message == text
    assert raised.value.received


async def test_a_reply_that_is_no_message_is_internal() -> None:
    """Bytes that can't be decoded are the neighbour's mistake (grpc/doc/statuscodes.md)."""

    async def garble(_request: Any, _context: aio.ServicerContext) -> bytes:
        return b"\xff\xff\xff"

    with pytest.raises(Internal, match="is no valid") as raised:
        await against(garble)
    assert raised.value.received


async def test_a_garbled_message_ends_its_stream() -> None:
    """Bytes that can't be decoded end a stream with an error, after the messages before them."""

    async def garble(_request: Any, _context: aio.ServicerContext) -> AsyncIterator[bytes]:
        yield COUNT_UP.reply_type(number=1).to_binary()
        yield b"\xff\xff\xff"
        yield COUNT_UP.reply_type(number=3).to_binary()

    async with behaving("CountUp", grpc.unary_stream_rpc_method_handler(garble)) as client:
        stream = client.count_up(count=3)
        assert (await anext(stream)).number == 1
        with pytest.raises(Internal, match="is no valid"):
            await anext(stream)
        assert [each async for each in stream] == []


async def test_a_reply_without_a_message_is_unimplemented() -> None:
    """OK without the one message that is due is a cardinality violation."""

    async def nothing(_request: Any, _context: aio.ServicerContext) -> AsyncIterator[bytes]:
        for message in list[bytes]():
            yield message

    with pytest.raises(Unimplemented, match="no message"):
        await against(nothing, streams=True)


async def test_a_reply_of_two_messages_is_never_taken_for_one() -> None:
    """Two messages where one is due are an error, though grpcio finds out at the deadline only."""

    async def twice(_request: Any, _context: aio.ServicerContext) -> AsyncIterator[bytes]:
        yield EchoResponse().to_binary()
        yield EchoResponse().to_binary()

    with pytest.raises(Error) as raised:
        await against(twice, streams=True, timeout=0.3)
    assert raised.value.code in (Code.UNIMPLEMENTED, Code.INTERNAL, Code.DEADLINE_EXCEEDED)


async def test_a_neighbour_that_raises_is_unknown() -> None:
    """What another implementation makes of its own exceptions is UNKNOWN here too."""

    async def fail(_request: Any, _context: aio.ServicerContext) -> Any:
        raise ValueError("not ours")

    with pytest.raises(Unknown):
        await against(fail)


async def test_a_server_that_dies_in_the_middle_is_unavailable() -> None:
    """A connection that breaks under a stream is an error, not its end."""
    broken = asyncio.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async with serving(make()) as address:

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(address.host, address.port)
            passing = asyncio.gather(pass_on(reader, back), pass_on(there, writer), return_exceptions=True)
            await broken.wait()
            for each in (writer, back):
                each.transport.abort()
            await passing

        async with listening(proxy) as client:
            stream = client.count_up(count=1_000_000)
            assert (await anext(stream)).number == 1
            broken.set()
            with pytest.raises(Unavailable):
                [each async for each in stream]
