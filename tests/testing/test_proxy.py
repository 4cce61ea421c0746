"""The proxy that fails: each fault by itself on plain sockets, then under the client of every protocol."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest

from interlock import DeadlineExceeded, Error, Unavailable
from interlock.resilience.circuit_breaker import counting
from interlock.resilience.retry import RetryPolicy
from interlock.testing import (
    Bandwidth,
    Blackhole,
    CutAfter,
    FaultyProxy,
    Latency,
    Reset,
    SlowClose,
    Timeout,
    app_running,
    until,
)
from interlock.testing.proxy import Fault
from interlock.testing.surroundings import Surroundings
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import make

Put = Callable[[str, int], Awaitable[FaultyProxy]]
NEVER_OPENS = counting(max_failures=1000)


@pytest.fixture
async def mirror() -> AsyncIterator[int]:
    """A server that sends back what it gets, on a free port."""

    async def reflect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(reflect, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def exchange(between: FaultyProxy, data: bytes) -> bytes:
    """Send data and the end, and return what comes back until the end."""
    reader, writer = await asyncio.open_connection(between.address.host, between.address.port)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


async def test_without_faults_everything_passes(mirror: int, proxy: Put) -> None:
    """A megabyte comes back whole, and the connection is gone afterwards."""
    between = await proxy("127.0.0.1", mirror)
    data = bytes(range(256)) * 4096
    assert await exchange(between, data) == data
    await until(lambda: between.connections == 0)
    assert between.accepted == 1


@pytest.mark.parametrize(
    "fault, least",
    [
        (Latency(seconds=0.1, jitter=0.02), 0.15),
        (Bandwidth(bytes_per_second=1000, way="up"), 0.1),
        (SlowClose(seconds=0.1, way="down"), 0.1),
    ],
    ids=["latency", "bandwidth", "slow close"],
)
async def test_what_is_slow_arrives_whole(mirror: int, proxy: Put, fault: Fault, least: float) -> None:
    """It takes as long as was said, and nothing is lost."""
    between = await proxy("127.0.0.1", mirror)
    began = time.monotonic()
    with between.faulty(fault):
        assert await exchange(between, b"x" * 100) == b"x" * 100
    assert time.monotonic() - began >= least
    assert await exchange(between, b"healed") == b"healed"


async def test_what_breaks_breaks(mirror: int, proxy: Put) -> None:
    """Cut after so many bytes, reset at once or in the middle, closed after a silence, refused while it is gone."""
    between = await proxy("127.0.0.1", mirror)
    with between.faulty(CutAfter(after_bytes=3, way="down")):
        assert await exchange(between, b"abcdef") == b"abc"
    for at in (-1, 3):
        with between.faulty(Reset(after_bytes=at)), pytest.raises(OSError, match=r"[Rr]eset|Broken pipe"):
            await exchange(between, b"abcdef")
    with between.faulty(Timeout(seconds=0.05)):
        assert await exchange(between, b"abc") == b""
    await between.stop()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await exchange(between, b"abc")
    await between.start()
    assert await exchange(between, b"abc") == b"abc"


async def test_a_blackhole_swallows_until_it_is_healed(mirror: int, proxy: Put) -> None:
    """Nothing arrives while it holds, and everything once it does not."""
    between = await proxy("127.0.0.1", mirror)
    between.set(Blackhole())
    waiting = asyncio.create_task(exchange(between, b"abc"))
    await until(lambda: between.connections == 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.05)
    between.set()
    assert await waiting == b"abc"


async def test_a_server_that_is_not_there_ends_the_connection(proxy: Put) -> None:
    """Behind it nobody listens: the connection ends, and the proxy goes on."""
    between = await proxy("127.0.0.1", 1)
    (ended,) = await asyncio.gather(exchange(between, b"abc"), return_exceptions=True)
    assert ended == b"" or isinstance(ended, OSError)


BREAKING: dict[str, tuple[tuple[Fault, ...], tuple[type[Error], ...]]] = {
    "slow": ((Latency(seconds=1.0),), (DeadlineExceeded,)),
    "jitter": ((Latency(seconds=1.0, jitter=0.3),), (DeadlineExceeded,)),
    "narrow": ((Bandwidth(bytes_per_second=50),), (DeadlineExceeded,)),
    "reset when made": ((Reset(after_bytes=-1),), (Unavailable,)),
    "reset": ((Reset(after_bytes=20),), (Unavailable,)),
    "cut": ((CutAfter(after_bytes=60, way="down"),), (Unavailable,)),
    "silence, then closed": ((Timeout(seconds=0.1),), (Unavailable,)),
    "blackhole": ((Blackhole(),), (DeadlineExceeded,)),
    "slow close": ((SlowClose(seconds=5.0),), ()),
}


@pytest.mark.parametrize("protocol", ["grpc", "connect"])
async def test_every_client_ends_every_fault_in_its_typed_error(
    protocol: str, proxy: Put, surroundings: Surroundings
) -> None:
    """Within its deadline, with no task left behind; once the fault is gone the same client works again."""
    async with app_running(make(), surroundings, port=True) as served:
        assert served.address is not None
        for name, (faults, expected) in BREAKING.items():
            between = await proxy(served.address.host, served.address.port)  # gRPC shares connections to one address
            target = between.address.url if protocol == "connect" else str(between.address)
            client = SampleServiceClient(target, retries=RetryPolicy(retries=0), breaker=NEVER_OPENS)
            async with client:
                before = len(asyncio.all_tasks())
                began = time.monotonic()
                with between.faulty(*faults):
                    if expected:
                        with pytest.raises(expected) as raised:
                            await client.using(timeout=0.7).echo(text="x")
                        assert raised.value.received or raised.value.unsent, name
                    else:
                        assert (await client.echo(text="x")).text == "x"
                assert time.monotonic() - began < 5, name  # generous: another may need this machine
                await until(partial(at_rest, before, between))
            between.set()
            async with SampleServiceClient(target) as healed:
                await until(partial(answers, healed))  # gRPC lets a second pass before it connects again


async def answers(client: SampleServiceClient) -> bool:
    """Tell whether a call goes well."""
    try:
        return (await client.using(timeout=10).echo(text="x")).text == "x"
    except Unavailable:
        return False


def at_rest(before: int, between: FaultyProxy) -> bool:
    """Tell whether there are no more tasks than before, but for the proxy's own."""
    return len(asyncio.all_tasks()) <= before + 3 * between.connections
