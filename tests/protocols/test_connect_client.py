"""Connect's client side: connectrpc's server at the other end, pools, TLS, neighbours that misbehave."""

import ast
import asyncio
import gc
import json
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from interlock import (
    Call,
    Code,
    DeadlineExceeded,
    Error,
    Internal,
    NotFound,
    RetryPolicy,
    Tls,
    TooLarge,
    Unavailable,
    Unknown,
)
from interlock.contract.stub import Rpc
from interlock.deadline import Deadline
from interlock.errors import error_class
from interlock.protocols.connect_client import ConnectOptions, ConnectTransport
from interlock.protocols.http_pool import Host, PoolLimits, Pools, shared_pools
from tests.conformance.raw_http import envelope, raw_http, response
from tests.protocols.connect_peer import Foreign, connectrpc_server
from tests.sample.gen.sample.v1.sample_pb import (
    ChatRequest,
    CountUpRequest,
    EchoRequest,
    EchoResponse,
    SumRequest,
)
from tests.sample.gen.sample.v1.sample_rpc import COUNT_UP, ECHO, SAMPLE_SERVICE, SampleServiceClient
from tests.waiting import until

ONCE = RetryPolicy(retries=0)
PROTO, STREAM = ("content-type", "application/proto"), ("content-type", "application/connect+proto")
OPTIONS = {
    "proto": ConnectOptions(),
    "json": ConnectOptions(codec="json"),
    "compressed": ConnectOptions(compress_above=0),
    "json by GET": ConnectOptions(codec="json", use_get=True),
}


@pytest.fixture
def foreign() -> Foreign:
    """The handlers of connectrpc's server."""
    return Foreign()


@pytest.fixture(params=OPTIONS)
async def client(request: pytest.FixtureRequest, foreign: Foreign) -> AsyncIterator[SampleServiceClient]:
    """A client of connectrpc's server, by each way to speak."""
    async with (
        connectrpc_server(foreign) as url,
        SampleServiceClient(url, connect=OPTIONS[request.param], retries=ONCE) as connected,
    ):
        yield connected


# --- what another implementation understands ------------------------------------------------------------------------


async def test_every_kind_of_call_is_understood(client: SampleServiceClient, foreign: Foreign) -> None:
    """Unary, both streams and half-duplex: messages and metadata arrive there and back."""
    view = client.using(metadata=[("x-test-a", "1"), ("x-test-b-bin", b"\x00\xff")], timeout=7)
    reply = await view.call(ECHO, EchoRequest(text="hé", number=3, data=b"\x00"))
    assert reply.message == EchoResponse(text="hé", number=3, data=b"\x00")
    assert dict(reply.headers.items()) == {"reply-x-test-a": "1", "reply-x-test-b-bin": b"\x00\xff"}
    assert dict(reply.trailers.items()) == {"last-x-test-a": "1", "last-x-test-b-bin": b"\x00\xff"}
    assert 0 < int(foreign.heads[0][1]["connect-timeout-ms"]) <= 7000
    stream = view.count_up(count=3)
    assert [each.number async for each in stream] == [1, 2, 3]
    assert stream.headers.get("reply-x-test-a") == stream.trailers.get("last-x-test-a") == "1"
    assert (await client.sum(SumRequest(number=number) for number in range(5))).sum == 10
    assert [each.text async for each in client.chat([ChatRequest(text="a"), ChatRequest(text="b")])] == ["a", "b"]
    assert [each async for each in client.chat([])] == []


async def test_an_error_keeps_code_text_and_details(client: SampleServiceClient) -> None:
    """What the other side says comes as the typed error of its code."""
    for code in [each for each in Code if each is not Code.OK]:
        with pytest.raises(error_class(code)) as raised:
            await client.using(timeout=20).fail(code=int(code), message="näh", reason="WHY")
        error = raised.value
        assert (error.code, error.message, error.reason, error.domain) == (code, "näh", "WHY", "foreign")
        assert error.received


async def test_a_stream_may_fail_behind_its_messages(client: SampleServiceClient) -> None:
    """The messages before the error are there, then the error, then nothing."""
    stream = client.count_up(count=3, fail_after=2)
    assert [(await anext(stream)).number for _ in range(2)] == [1, 2]
    with pytest.raises(NotFound) as raised:
        await anext(stream)
    assert raised.value.reason == "OVER"
    assert [each async for each in stream] == []


async def test_a_deadline_ends_what_takes_too_long(client: SampleServiceClient) -> None:
    """Unary calls and streams end in time."""
    with pytest.raises(DeadlineExceeded):
        await client.using(timeout=0.2).slow(seconds=60)
    with pytest.raises(DeadlineExceeded):
        [each async for each in client.using(timeout=0.2).count_up(CountUpRequest(count=9, pause=_seconds(60)))]


def _seconds(number: float) -> Any:
    from protobuf.wkt.google.protobuf.duration_pb import Duration

    return Duration.from_timedelta(timedelta(seconds=number))


async def test_leaving_a_stream_closes_it(foreign: Foreign) -> None:
    """The other side sees that the caller has gone, and the connection does not linger."""
    async with connectrpc_server(foreign) as url, SampleServiceClient(url) as client:
        async with client.count_up(CountUpRequest(count=1000, pause=_seconds(0.01))) as numbers:
            assert (await anext(numbers)).number == 1
        await until(lambda: foreign.cancelled == ["count_up"])


async def test_what_is_safe_may_go_as_get(foreign: Foreign) -> None:
    """With `use_get` a SAFE operation is a GET while its URL is short; others, and long ones, are POST."""
    async with (
        connectrpc_server(foreign) as url,
        SampleServiceClient(url, connect=ConnectOptions(use_get=True)) as client,
    ):
        assert (await client.list_things(page_size=7)).total_size == 7
        await client.list_things(filter="x" * 9000)
        await client.echo()
        assert [verb for verb, _ in foreign.heads] == ["GET", "POST", "POST"]
        await client.slow(seconds=0)  # SAFE in our contract, but connectrpc was not told: it is sent again as POST
        await client.slow(seconds=0)
        assert [verb for verb, _ in foreign.heads[3:]] == ["POST", "POST"]


# --- connections ----------------------------------------------------------------------------------------------------


def sockets() -> int:
    """Return how many sockets this process has open, by asking the system."""
    return sum("socket:" in str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink())


async def test_connections_are_kept_and_shared(foreign: Foreign) -> None:
    """Calls one after another use one connection, also those of another client of the host; closing closes it."""
    before = sockets()
    async with connectrpc_server(foreign) as url:
        listening = sockets()
        first, second = SampleServiceClient(url), SampleServiceClient(url)
        for client in (first, second, first):
            await client.echo()
        assert len(set(foreign.addresses)) == 1
        await first.close()
        await second.echo()
        await second.close()
        assert len(set(foreign.addresses)) == 1
        await until(lambda: sockets() == listening)
        await first.echo()  # a closed client opens anew
        await first.close()
    await until(lambda: sockets() == before)


async def test_at_most_ten_connections_wait_idle_for_a_host() -> None:
    """Thirty calls at once open thirty connections; ten of them are kept (CLI003)."""
    async with raw_http(response(200, (PROTO,))) as peer, SampleServiceClient(peer.url) as client:
        await asyncio.gather(*(client.echo() for _ in range(30)))
        assert peer.connections <= 30
        await client.echo()
        await until(lambda: len(peer.open) <= 10)
        opened = peer.connections
        await client.echo()
        assert peer.connections == opened


async def test_defaults_are_those_of_the_standard() -> None:
    """At most 100 idle connections, 10 for a host, idle 90 s, 30 s to connect, and a call of 30 s (CLI003)."""
    limits = shared_pools().limits
    assert (limits.idle, limits.idle_per_host) == (100, 10)
    assert (limits.idle_time, limits.connect) == (timedelta(seconds=90), timedelta(seconds=30))
    timeout = SAMPLE_SERVICE.operation(ECHO).timeout
    assert timeout == timedelta(seconds=30)


async def called(url: str, pools: Pools, rpc: Rpc[Any, Any] = ECHO, request: Any = None) -> ConnectTransport:
    """Call once over pools of the test's own, and leave the transport open."""
    transport = ConnectTransport(url, pools=pools)
    operation = SAMPLE_SERVICE.operation(rpc)
    await transport.handler(operation)(Call(operation, request=request or EchoRequest(), deadline=Deadline.after(10)))
    return transport


async def test_idle_connections_are_closed_in_time() -> None:
    """What nobody has used for the idle time is closed without another request, and opened again for one."""
    pools = Pools(PoolLimits(idle_time=timedelta(milliseconds=100)))
    async with raw_http(response(200, (PROTO,))) as peer:
        transport = await called(peer.url, pools)
        assert len(peer.open) == 1
        await until(lambda: not peer.open)
        again = await called(peer.url, pools)
        assert peer.connections == 2
        await transport.close()
        await again.close()


async def test_all_hosts_together_keep_their_bound() -> None:
    """Where more hosts are called than idle connections are allowed, those used longest ago are closed."""
    pools = Pools(PoolLimits(idle=4, idle_per_host=2))
    answer = response(200, (PROTO,))
    async with raw_http(answer) as a, raw_http(answer) as b, raw_http(answer) as c:
        transports = [await called(peer.url, pools) for peer in (a, b, c)]
        await until(lambda: (len(a.open), len(b.open), len(c.open)) == (0, 1, 1))
        for each in transports:
            await each.close()
        await until(lambda: not a.open and not b.open and not c.open)


async def test_a_pool_that_is_in_use_is_not_closed_for_another() -> None:
    """A new host gets its connection, which is not kept, while the calls of the others go on."""
    pools = Pools(PoolLimits(idle=1, idle_per_host=1))
    busy = pools.join(Host("http", "busy.invalid", 80, None))
    async with raw_http(response(200, (PROTO,))) as peer:
        busy._transport = httpx2.AsyncHTTPTransport()
        busy.busy = 1
        transport = await called(peer.url, pools)
        assert busy.is_open
        await until(lambda: not peer.open)
        await transport.close()
    await busy.close()


async def test_nothing_is_left_behind(foreign: Foreign) -> None:
    """After streams left early, failed calls and late ones there are no more tasks and sockets than before."""
    async with connectrpc_server(foreign) as url:
        tasks, open_before = len(asyncio.all_tasks()), sockets()
        async with SampleServiceClient(url, retries=ONCE) as client:
            for _ in range(5):
                async with client.count_up(count=1000) as numbers:
                    await anext(numbers)
                with pytest.raises(NotFound):
                    await client.fail(code=5)
                with pytest.raises(DeadlineExceeded):
                    await client.using(timeout=0.05).slow(seconds=9)
                never = client.count_up(count=1)
                await never.close()
        gc.collect()
        await until(lambda: sockets() <= open_before and len(asyncio.all_tasks()) <= tasks)


async def test_closing_cancels_what_runs() -> None:
    """A call in flight ends as CANCELLED when its client is closed, its task goes on, and the connection is closed."""
    async with raw_http(b"", silent=True) as peer:
        client = SampleServiceClient(peer.url, retries=ONCE)
        unary = asyncio.create_task(client.slow(seconds=60))
        stream = asyncio.create_task(anext(client.count_up(count=1)))
        await until(lambda: len(peer.requests) == 2)
        await client.close()
        for waiting in (unary, stream):
            with pytest.raises(Error) as raised:
                await waiting
            assert raised.value.code is Code.CANCELLED
        await until(lambda: not peer.open)


async def test_a_cancelled_task_stays_cancelled() -> None:
    """Whoever cancels the caller's task gets a cancelled task, and the connection is closed."""
    async with raw_http(b"", silent=True) as peer, SampleServiceClient(peer.url) as client:
        slow = asyncio.create_task(client.slow(seconds=60))
        await until(lambda: len(peer.requests) == 1)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        await until(lambda: not peer.open)


# --- nobody there, or somebody else ---------------------------------------------------------------------------------


async def test_nobody_there_is_told_at_once() -> None:
    """A port where nobody listens, and a name that nobody has, are UNAVAILABLE, unsent, the cause kept (CLI002)."""
    for target in ("http://127.0.0.1:1", "http://nobody.invalid:80"):
        began = time.monotonic()
        async with SampleServiceClient(target, retries=ONCE) as client:
            with pytest.raises(Unavailable) as raised:
                await client.echo()
            assert (raised.value.unsent, raised.value.received) == (True, True)
            assert isinstance(raised.value.__cause__, httpx2.ConnectError)
            with pytest.raises(Unavailable):
                [each async for each in client.count_up(count=1)]
        assert time.monotonic() - began < 20


async def test_a_peer_that_says_nothing_is_given_up_at_the_deadline() -> None:
    """A port that accepts and never answers holds a call no longer than its time."""
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        async with SampleServiceClient(f"http://127.0.0.1:{silent.getsockname()[1]}") as client:
            with pytest.raises(DeadlineExceeded):
                await asyncio.wait_for(client.using(timeout=0.2).echo(), 10)
            with pytest.raises(DeadlineExceeded):
                await asyncio.wait_for(anext(client.using(timeout=0.2).count_up(count=1)), 10)


BROKEN = {
    "nothing at all": (b"", Unavailable),
    "no HTTP": (b"220 mail.invalid ESMTP\r\n\r\n", Unavailable),
    "cut off in the head": (b"HTTP/1.1 200 OK\r\ncontent-ty", Unavailable),
    "cut off in the body": (response(200, (PROTO,), b"x" * 100)[:-50], Unavailable),
    "a body that is no message": (response(200, (PROTO,), b"\xff\xff"), Internal),
    "no content type": (response(200, (), b""), Unknown),
    "a redirect": (response(302, (("location", "http://elsewhere.invalid/"),)), Unknown),
    "an error of 10 MB": (response(500, (("content-type", "application/json"),), b" " * 10_000_000), TooLarge),
    "deep JSON": (response(500, (("content-type", "application/json"),), b"[" * 100_000), Unknown),
    "JSON of another form": (response(500, (("content-type", "application/json"),), b"[1]"), Unknown),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_unary_reply_of_any_bytes_is_an_error_of_ours(name: str) -> None:
    """Whatever comes back, the caller gets a typed error."""
    answer, kind = BROKEN[name]
    async with raw_http(answer, then_close=True) as peer, SampleServiceClient(peer.url, retries=ONCE) as client:
        with pytest.raises(Error) as raised:
            await asyncio.wait_for(client.using(timeout=20).echo(), 30)
    assert type(raised.value) is kind
    assert raised.value.received


NUMBER = COUNT_UP.reply_type(number=1).to_binary()
BROKEN_STREAMS = {
    "cut off in a message": (envelope(NUMBER) + envelope(NUMBER)[:-1], Internal),
    "unknown flags": (envelope(NUMBER, flags=64), Internal),
    "a message of 2 GB": (b"\x00\x7f\xff\xff\xff", TooLarge),
    "an end that is no JSON": (envelope(NUMBER) + envelope(b"bye", flags=2), Internal),
    "an end that is a list": (envelope(b"[]", flags=2), Internal),
    "an error that is text": (envelope(b'{"error": "no"}', flags=2), Internal),
    "a message behind the end": (envelope(b"{}", flags=2) + envelope(NUMBER), Internal),
    "a broken message": (envelope(b"\xff\xff"), Internal),
}


@pytest.mark.parametrize("name", BROKEN_STREAMS)
async def test_a_stream_of_any_bytes_is_an_error_of_ours(name: str) -> None:
    """Whatever stands in a stream, the caller gets what was sound before it and a typed error."""
    body, kind = BROKEN_STREAMS[name]
    async with raw_http(response(200, (STREAM,), body)) as peer, SampleServiceClient(peer.url, retries=ONCE) as client:
        with pytest.raises(Error) as raised:
            [each async for each in client.using(timeout=20).count_up(count=1)]
    assert type(raised.value) is kind
    assert raised.value.received


async def test_metadata_that_could_not_be_ours_is_left_out() -> None:
    """Fields with bytes beyond ASCII, or `-bin` values that are not base64, don't lose the reply they came with."""
    fields = (
        PROTO,
        ("X-Plain", "1"),
        ("x-odd", "\xe9"),
        ("x-odd-bin", "!"),
        ("trailer-x-odd-bin", "*"),
        ("x-bin", "AA"),
    )
    async with raw_http(response(200, fields)) as peer, SampleServiceClient(peer.url) as client:
        reply = await client.call(ECHO, EchoRequest())
    assert dict(reply.headers.items()) == {"x-plain": "1", "x-bin": b"\x00"}
    assert not reply.trailers


async def test_a_proxy_may_say_when_to_come_back() -> None:
    """`Retry-After` of a reply that no Connect server made is obeyed like that of an error (CLI004)."""
    answer = response(503, (("retry-after", "7"),))
    async with raw_http(answer) as peer, SampleServiceClient(peer.url, retries=ONCE) as client:
        with pytest.raises(Unavailable) as raised:
            await client.echo()
    assert raised.value.retry_after == timedelta(seconds=7)


async def test_an_error_may_ask_not_to_be_retried() -> None:
    """A pushback of -1 marks the error as final, and a SAFE call is not tried again."""
    body = json.dumps({"code": "unavailable", "message": "down"}).encode()
    fields = (("content-type", "application/json"), ("grpc-retry-pushback-ms", "-1"))
    async with raw_http(response(503, fields, body)) as peer, SampleServiceClient(peer.url) as client:
        with pytest.raises(Unavailable) as raised:
            await client.list_things()
        assert len(peer.requests) == 1
    assert raised.value.final


async def test_a_safe_call_is_tried_again() -> None:
    """The policies are those of every transport: three retries for what is SAFE and UNAVAILABLE (CLI001)."""
    quick = RetryPolicy(base=timedelta(milliseconds=1))
    async with raw_http(response(503)) as peer, SampleServiceClient(peer.url, retries=quick) as client:
        with pytest.raises(Unavailable):
            await client.list_things()
        assert len(peer.requests) == 4
        with pytest.raises(Unavailable):
            await client.echo()
        assert len(peer.requests) == 5


async def test_what_the_requests_raise_is_what_the_caller_gets(foreign: Foreign) -> None:
    """A stream of requests that fails ends the call with its own error."""

    async def broken() -> AsyncIterator[SumRequest]:
        yield SumRequest(number=1)
        raise LookupError("the file is gone")

    async with connectrpc_server(foreign) as url, SampleServiceClient(url) as client:
        with pytest.raises(LookupError, match="the file is gone"):
            await client.sum(broken())
        assert (await client.echo(text="on")).text == "on"


async def test_the_engine_is_loaded_with_the_client() -> None:
    """A first call imports nothing of the HTTP engine: that would take its time from the deadline."""
    code = """
import asyncio, sys
from tests.conformance.raw_http import raw_http, response
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient

async def main():
    async with raw_http(response(200, (("content-type", "application/proto"),))) as peer:
        async with SampleServiceClient(peer.url) as client:
            before = set(sys.modules)
            await client.echo()
            print(sorted(name for name in set(sys.modules) - before if not name.startswith("interlock.")))

asyncio.run(main())
"""
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    told, _ = await ran.communicate()
    imported = ast.literal_eval(told.decode())
    engine = ("httpx2", "httpcore2", "h11", "h2", "hpack", "anyio", "ssl", "certifi")
    assert [name for name in imported if name.split(".")[0] in engine] == []


# --- sizes ----------------------------------------------------------------------------------------------------------


async def test_sizes_are_bounded_both_ways(foreign: Foreign) -> None:
    """What is too large is not sent, and not taken, compressed or not; what fits goes."""
    limit = 4 << 20
    async with connectrpc_server(foreign) as url, SampleServiceClient(url, retries=ONCE) as client:
        with pytest.raises(TooLarge):
            await client.echo(data=bytes(limit))
        with pytest.raises(TooLarge):
            await client.blob(size=limit)
        with pytest.raises(TooLarge):
            [each async for each in client.chat([ChatRequest(text="x"), ChatRequest(text="x" * limit)])]
        assert len((await client.blob(size=limit - 100)).data) == limit - 100
        assert len((await client.echo(data=bytes(limit - 100))).data) == limit - 100


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://", "https://user:secret@x", "http://x?y=1", "http://x/#z", "http://[::1"])
def test_a_target_must_be_a_plain_url(url: str) -> None:
    """What is no URL of a host is refused where it is written, and its password not shown."""
    with pytest.raises(ValueError, match="is no") as raised:
        SampleServiceClient(url)
    assert "secret" not in str(raised.value)


def test_tls_needs_https() -> None:
    """Certificates for a target without TLS are a mistake."""
    with pytest.raises(ValueError, match="has no TLS"):
        SampleServiceClient("http://localhost:1", tls=Tls())


async def test_files_that_are_not_there_are_told() -> None:
    """A missing certificate file is an OSError."""
    async with SampleServiceClient("https://localhost:1", tls=Tls(authorities="/nowhere/ca.pem")) as client:
        with pytest.raises(OSError, match="No such file"):
            await client.echo()


async def test_a_prefix_of_the_path_is_kept() -> None:
    """A target may stand behind a path."""
    async with raw_http(response(200, (PROTO,))) as peer, SampleServiceClient(f"{peer.url}/api/rpc/") as client:
        await client.echo()
    assert peer.requests[0][0].startswith(b"POST /api/rpc/sample.v1.SampleService/Echo HTTP/1.1\r\n")


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """An authority whose certificate lies at `tmp_path / "ca.pem"`."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


def server_tls(authority: trustme.CA, *, clients: trustme.CA | None = None) -> ssl.SSLContext:
    """Return the context of a server for `localhost`; with `clients` it wants certificates of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_tls_is_verified(authority: trustme.CA, tmp_path: Path) -> None:
    """With the server's authority calls pass; with another, or the system's, nothing is sent and the text says why."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    async with raw_http(response(200, (PROTO,)), tls=server_tls(authority)) as peer:
        async with SampleServiceClient(peer.url, tls=Tls(authorities=tmp_path / "ca.pem")) as client:
            await client.echo()
        for wrong in (Tls(authorities=tmp_path / "other.pem"), Tls(), None):
            async with SampleServiceClient(peer.url, tls=wrong, retries=ONCE) as client:
                with pytest.raises(Unavailable, match=r"(?i)certificate") as raised:
                    await client.echo()
                assert raised.value.unsent
        name = peer.url.replace("localhost", "127.0.0.1")
        async with SampleServiceClient(name, tls=Tls(authorities=tmp_path / "ca.pem"), retries=ONCE) as client:
            with pytest.raises(Unavailable, match=r"(?i)mismatch"):
                await client.echo()
        assert len(peer.requests) == 1


async def test_a_client_shows_its_certificate(authority: trustme.CA, tmp_path: Path) -> None:
    """Under mutual TLS the server sees the caller's certificate, and who shows none is turned away."""
    clients = trustme.CA()
    own = clients.issue_cert("billing.internal")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    trusted = Tls(authorities=tmp_path / "ca.pem")
    shown = Tls(authorities=tmp_path / "ca.pem", certificate=tmp_path / "own.pem")
    async with raw_http(response(200, (PROTO,)), tls=server_tls(authority, clients=clients)) as peer:
        async with SampleServiceClient(peer.url, tls=shown) as client:
            await client.echo()
        assert ("DNS", "billing.internal") in peer.certificates[0]["subjectAltName"]
        async with SampleServiceClient(peer.url, tls=trusted, retries=ONCE) as client:
            with pytest.raises(Unavailable):
                await client.using(timeout=5).echo()
        assert len(peer.requests) == 1
