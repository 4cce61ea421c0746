"""Full duplex over HTTP/2: turns, windows, ends of either side, servers that leave or misbehave."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

from interlock import Cancelled, DeadlineExceeded, Error, Internal, RetryPolicy, Tls, Unavailable
from interlock.protocols.http2_connection import WINDOW, NotHttp2
from interlock.protocols.http2_duplex import Duplex
from interlock.protocols.http_pool import Host, PoolLimits
from tests.conformance.raw_http import envelope, raw_http, response
from tests.protocols.connect_peer import Foreign, connectrpc_server
from tests.protocols.raw_http2_server import OK, Talker, raw_http2
from tests.sample.gen.sample.v1.sample_pb import ChatRequest, ChatResponse
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.waiting import until

HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/")]
LIMITS = PoolLimits(connect=timedelta(seconds=20))


@asynccontextmanager
async def duplex_to(port: int, limits: PoolLimits = LIMITS) -> AsyncIterator[Duplex]:
    """Give connections to a port of the loopback."""
    duplex = Duplex(Host("http", "127.0.0.1", port, None), limits)
    try:
        yield duplex
    finally:
        await duplex.close()


def quiet(_talker: Talker, _event: Event) -> None:
    """Answer nothing."""


def echo(talker: Talker, event: Event) -> None:
    """Send back what comes, as far as the windows go; end when the other side ends."""
    if isinstance(event, RequestReceived):
        talker.http.send_headers(event.stream_id, OK)
    elif isinstance(event, DataReceived):
        talker.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        talker.http.send_data(event.stream_id, event.data)
    elif isinstance(event, StreamEnded):
        talker.http.end_stream(event.stream_id)


async def read(parts: AsyncIterator[bytes]) -> bytes:
    """Read a reply to its end."""
    return b"".join([part async for part in parts])


# --- talks ----------------------------------------------------------------------------------------------------------


async def test_each_request_may_wait_for_the_reply_before() -> None:
    """Turns over one stream, with another implementation; many at once over one connection."""
    foreign = Foreign()

    async def in_turns(client: SampleServiceClient, name: str) -> list[str]:
        said = asyncio.Queue[str]()
        came = []

        async def turns() -> AsyncIterator[ChatRequest]:
            for number in range(5):
                yield ChatRequest(text=f"{name}{number}")
                assert await said.get() == f"{name}{number}"

        async for reply in client.chat(turns()):
            came.append(reply.text)
            said.put_nowait(reply.text)
        return came

    async with connectrpc_server(foreign) as url, SampleServiceClient(url) as client:
        talks = await asyncio.gather(*(in_turns(client, name) for name in "abcdefgh"))
    assert talks == [[f"{name}{number}" for number in range(5)] for name in "abcdefgh"]
    assert len(set(foreign.addresses)) == 1


async def test_more_than_the_windows_hold_passes_both_ways() -> None:
    """8 MB there and back again, many times the windows of either side."""
    text = "x" * 1_000_000

    async with connectrpc_server(Foreign()) as url, SampleServiceClient(url) as client:
        sizes = [len(each.text) async for each in client.chat(ChatRequest(text=text) for _ in range(8))]
    assert sizes == [len(text)] * 8


async def test_a_reader_that_pauses_holds_the_server_back_and_nobody_else() -> None:
    """A stream that nobody reads takes its window and no more; another on the connection goes on."""
    sent = dict.fromkeys((1, 3), 0)
    begun: list[int] = []

    def pour(talker: Talker, event: Event) -> None:
        if isinstance(event, RequestReceived):
            talker.http.send_headers(event.stream_id, OK)
            begun.append(event.stream_id)
        for number in [
            number for number in begun if sent[number] < 4 * WINDOW and not talker.http.streams[number].closed
        ]:
            while size := min(talker.http.local_flow_control_window(number), talker.http.max_outbound_frame_size):
                talker.http.send_data(number, bytes(size))
                sent[number] += size

    async with raw_http2(pour) as (port, _), duplex_to(port) as duplex:
        ignored = await duplex.open(HEAD)
        await until(lambda: sent[1] == WINDOW)
        other = await duplex.open(HEAD)
        got = 0
        async for part in other.parts():
            got += len(part)
            if got > 3 * WINDOW:
                break
        assert sent[1] == WINDOW
        other.close()
        ignored.close()


async def test_a_server_that_takes_nothing_stops_the_sender_until_it_does() -> None:
    """Requests wait for the server's window, and go on when it opens."""
    held: list[tuple[int, int]] = []

    def hold(talker: Talker, event: Event) -> None:
        if isinstance(event, DataReceived):
            held.append((event.flow_controlled_length, event.stream_id))

    async with raw_http2(hold) as (port, talkers), duplex_to(port) as duplex:
        stream = await duplex.open(HEAD)
        sending = asyncio.create_task(stream.send(bytes(200_000)))
        await until(lambda: sum(size for size, _ in held) == 65_535)
        assert not sending.done()

        def take() -> bool:
            while held:
                talkers[0].http.acknowledge_received_data(*held.pop())
            talkers[0].flush()
            return sending.done()

        await until(take)
        await sending
        stream.close()


async def test_streams_above_the_servers_bound_get_a_connection_of_their_own() -> None:
    """MAX_CONCURRENT_STREAMS is kept."""
    async with (
        raw_http2(echo, {SettingCodes.MAX_CONCURRENT_STREAMS: 2}) as (port, talkers),
        duplex_to(port) as duplex,
    ):
        streams = await asyncio.gather(*(duplex.open(HEAD) for _ in range(5)))
        for stream in streams:
            await stream.send(b"hello")
            stream.end()
            assert (await stream.head())[0] == 200
            assert await read(stream.parts()) == b"hello"
            stream.close()
        assert len(talkers) == 3


async def test_an_idle_connection_is_closed() -> None:
    """Nothing stays open for streams that are over."""
    limits = PoolLimits(idle_time=timedelta(milliseconds=50))
    async with raw_http2(echo) as (port, talkers), duplex_to(port, limits) as duplex:
        for _ in range(2):
            stream = await duplex.open(HEAD)
            stream.end()
            assert await read(stream.parts()) == b""
            stream.close()
            await until(lambda: all(talker.writer.is_closing() for talker in talkers))
        assert len(talkers) == 2


# --- ends -----------------------------------------------------------------------------------------------------------


async def test_leaving_resets_the_stream() -> None:
    """A caller that leaves, fails, or is late tells the server (RST_STREAM CANCEL), and its requests are closed."""
    closed = []

    async def endless() -> AsyncIterator[ChatRequest]:
        try:
            yield ChatRequest(text="one")
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    def one(talker: Talker, event: Event) -> None:
        if isinstance(event, RequestReceived):
            talker.http.send_headers(event.stream_id, OK)
            talker.http.send_data(event.stream_id, envelope(ChatResponse(text="hi").to_binary()))

    async with raw_http2(one) as (port, talkers), SampleServiceClient(f"http://127.0.0.1:{port}") as client:
        async with client.chat(endless()) as talk:
            assert (await anext(talk)).text == "hi"
        with pytest.raises(DeadlineExceeded):
            [each async for each in client.using(timeout=0.2).chat(endless())]
        stream = client.chat(endless())
        assert (await anext(stream)).text == "hi"
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        def resets() -> list[Any]:
            return [each.error_code for each in talkers[0].events if isinstance(each, StreamReset)]

        await until(lambda: resets() == [ErrorCodes.CANCEL] * 3)
    assert closed == [True] * 3
    assert len(talkers) == 1


async def test_what_the_requests_raise_is_what_the_caller_gets() -> None:
    """In the middle of a talk too; an error of ours is not taken for the server's."""
    for mistake in (LookupError("the file is gone"), Internal("ours")):

        async def broken(mistake: Exception = mistake) -> AsyncIterator[ChatRequest]:
            yield ChatRequest(text="one")
            raise mistake

        async with connectrpc_server(Foreign()) as url, SampleServiceClient(url) as client:
            with pytest.raises(type(mistake)) as raised:
                [each async for each in client.chat(broken())]
        assert raised.value is mistake
        assert not getattr(mistake, "received", False)


async def test_a_server_may_end_before_the_requests_do() -> None:
    """A reply that is over ends the talk; the requests are closed, not awaited."""
    end = envelope(b"{}", 2)

    def at_once(talker: Talker, event: Event) -> None:
        if isinstance(event, RequestReceived):
            talker.http.send_headers(event.stream_id, OK)
            talker.http.send_data(event.stream_id, end, end_stream=True)
            talker.http.reset_stream(event.stream_id, ErrorCodes.NO_ERROR)

    async def endless() -> AsyncIterator[ChatRequest]:
        while True:
            yield ChatRequest(text="x" * 1000)

    async with raw_http2(at_once) as (port, _), SampleServiceClient(f"http://127.0.0.1:{port}") as client:
        assert [each async for each in client.chat(endless())] == []


async def test_goaway_lets_open_streams_finish() -> None:
    """Streams up to the last one named go on, later ones were not begun; new ones take a new connection."""

    def leave(talker: Talker, event: Event) -> None:
        if isinstance(event, RequestReceived):
            talker.http.send_headers(event.stream_id, OK)
            if event.stream_id == 3:
                talker.goaway(1)
        else:
            echo(talker, event)

    async with raw_http2(leave) as (port, talkers), duplex_to(port) as duplex:
        kept, refused = await duplex.open(HEAD), await duplex.open(HEAD)
        with pytest.raises(Unavailable) as raised:
            await read(refused.parts())
        assert raised.value.unsent
        refused.close()
        await kept.send(b"still there")
        kept.end()
        assert await read(kept.parts()) == b"still there"
        kept.close()
        await until(talkers[0].writer.is_closing)
        again = await duplex.open(HEAD)
        assert (await again.head())[0] == 200
        again.close()
        assert len(talkers) == 2


@pytest.mark.parametrize(
    "code, kind, unsent",
    [
        (ErrorCodes.REFUSED_STREAM, Unavailable, True),
        (ErrorCodes.CANCEL, Cancelled, False),
        (ErrorCodes.INTERNAL_ERROR, Internal, False),
    ],
)
async def test_a_reset_is_an_error(code: ErrorCodes, kind: type[Error], unsent: bool) -> None:
    """What the server's code says becomes the error's."""

    def reset(talker: Talker, event: Event) -> None:
        if isinstance(event, RequestReceived):
            talker.http.reset_stream(event.stream_id, code)

    client = SampleServiceClient
    async with raw_http2(reset) as (port, _), client(f"http://127.0.0.1:{port}", retries=RetryPolicy(retries=0)) as own:
        with pytest.raises(kind) as raised:
            [each async for each in own.chat([])]
    assert (raised.value.unsent, raised.value.received) == (unsent, True)


BREAKS: dict[str, Callable[[Talker], object]] = {
    "hangs up": lambda talker: talker.writer.close(),
    "sends no frames": lambda talker: talker.writer.write(b"\xff" * 100),
    "sends a frame that is too large": lambda talker: talker.writer.write(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"),
    "sends data to no stream": lambda talker: talker.writer.write(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x"),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_a_server_that_breaks_off_is_unavailable(name: str) -> None:
    """All streams of the connection are told, and the next has a new one."""

    def break_off(talker: Talker, event: Event) -> None:
        if isinstance(event, RequestReceived) and event.stream_id == 3:
            talker.flush()
            BREAKS[name](talker)

    async with raw_http2(break_off) as (port, talkers), duplex_to(port) as duplex:
        streams = [await duplex.open(HEAD) for _ in range(2)]
        for stream in streams:
            with pytest.raises(Unavailable) as raised:
                await stream.head()
            assert not raised.value.unsent
            with pytest.raises(Unavailable):
                await read(stream.parts())
            stream.close()
        (await duplex.open(HEAD)).close()
        assert len(talkers) == 2


async def test_closing_the_client_ends_its_talks() -> None:
    """A talk that waits is cancelled."""
    async with raw_http2(quiet) as (port, talkers):
        client = SampleServiceClient(f"http://127.0.0.1:{port}")
        waiting = asyncio.create_task(anext(client.chat([])))
        await until(lambda: any(isinstance(each, StreamEnded) for talker in talkers for each in talker.events))
        await client.close()
        with pytest.raises(Cancelled, match="the client was closed"):
            await waiting


# --- whom one talks to ----------------------------------------------------------------------------------------------


async def test_a_server_of_http_1_is_spoken_to_half_duplex() -> None:
    """It answers the preface as HTTP/1.1 does; from then on it is not asked again."""
    body = envelope(ChatResponse(text="hi").to_binary()) + envelope(b"{}", 2)
    async with (
        raw_http(response(200, (("content-type", "application/connect+proto"),), body)) as peer,
        SampleServiceClient(peer.url) as client,
    ):
        for _ in range(2):
            assert [each.text async for each in client.chat([ChatRequest(text="a")])] == ["hi"]
        verbs = [head.split(b" ")[0] for head, _ in peer.requests]
        assert (verbs.count(b"PRI"), verbs.count(b"POST")) == (1, 2)


async def test_a_talk_in_turns_over_http_1_is_told_that_it_can_not_be() -> None:
    """Requests that wait for replies end at the deadline, and the error says what is missing."""

    async def turns() -> AsyncIterator[ChatRequest]:
        yield ChatRequest(text="hello")
        await asyncio.Event().wait()

    async with raw_http(response(200)) as peer, SampleServiceClient(peer.url) as client:
        with pytest.raises(DeadlineExceeded, match="full duplex needs HTTP/2"):
            [each async for each in client.using(timeout=0.5).chat(turns())]


async def test_nobody_there_is_unsent() -> None:
    """No connection, or one that is closed at once: nothing was sent."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for step in (None, server.close):
        if step is not None:
            step()
            await server.wait_closed()
        async with duplex_to(port) as duplex:
            with pytest.raises(Unavailable) as raised:
                await duplex.open(HEAD)
        assert raised.value.unsent


@pytest.mark.parametrize("offered", ["h2", "http/1.1"])
async def test_tls_chooses_by_alpn(tmp_path: Path, offered: str) -> None:
    """`https://` speaks HTTP/2 where the server offers it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols([offered])
    async with raw_http2(echo, tls=context) as (port, _):
        duplex = Duplex(Host("https", "localhost", port, Tls(authorities=tmp_path / "ca.pem")), LIMITS)
        if offered == "h2":
            stream = await duplex.open(HEAD)
            assert (await stream.head())[0] == 200
            stream.close()
        else:
            with pytest.raises(NotHttp2):
                await duplex.open(HEAD)
        await duplex.close()
        stranger = Duplex(Host("https", "localhost", port, Tls()), LIMITS)
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await stranger.open(HEAD)
        await stranger.close()
