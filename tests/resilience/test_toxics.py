"""Every fault of the proxy under every client: the right typed error, in time, and nothing is left behind."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from interlock import DeadlineExceeded, Error, HttpClient, RetryPolicy, Unavailable
from interlock.protocols.connect_client import ConnectOptions
from interlock.resilience.circuit_breaker import counting
from interlock.server import Address, serving
from interlock.testing import (
    Bandwidth,
    Blackhole,
    CutAfter,
    FaultyProxy,
    Latency,
    Reset,
    SlowClose,
    Timeout,
    until,
)
from interlock.testing.proxy import Fault
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import make

TIMEOUT, LATEST = 0.7, 5.0  # the latest is generous: another may need this machine
PATIENT = 20.0
FINE: tuple[type[Error], ...] = ()
LATE, BROKEN = (DeadlineExceeded,), (Unavailable,)

TOXICS: dict[str, tuple[Fault, tuple[type[Error], ...]]] = {
    "latency": (Latency(seconds=1.0), LATE),
    "latency, less than the deadline": (Latency(seconds=0.01), FINE),
    "jitter": (Latency(seconds=1.0, jitter=0.3), LATE),
    "bandwidth": (Bandwidth(bytes_per_second=200), LATE),
    "slow close": (SlowClose(seconds=0.5), FINE),
    "reset when made": (Reset(after_bytes=-1), BROKEN),
    "reset": (Reset(after_bytes=20), BROKEN),
    "timeout": (Timeout(seconds=0.1), BROKEN),
    "cut of requests": (CutAfter(after_bytes=40, way="up"), BROKEN),
    "cut of replies": (CutAfter(after_bytes=30, way="down"), BROKEN),
    "blackhole": (Blackhole(), LATE),
    "blackhole of replies": (Blackhole(way="down"), LATE),
}
Once: TypeAlias = Callable[[float], Awaitable[object]]
"""One call, with that many seconds of time."""


@asynccontextmanager
async def typed(
    kind: Callable[[SampleServiceClient], Awaitable[object]], target: str, **options: Any
) -> AsyncIterator[Once]:
    """Open a typed client that makes calls of a kind."""
    client = SampleServiceClient(target, retries=RetryPolicy(retries=0), breaker=counting(1000), **options)
    async with client:
        yield lambda seconds: kind(client.using(timeout=seconds))


@asynccontextmanager
async def outbound(url: str) -> AsyncIterator[Once]:
    """Open a client of HTTP APIs."""
    async with HttpClient(url, name="third", retries=RetryPolicy(retries=0), breaker=counting(1000)) as client:

        async def get(seconds: float) -> object:
            response = await client.get("/v1/echo/" + "x" * 100, timeout=seconds)
            return response.status_code == 200

        yield get


async def unary(client: SampleServiceClient) -> object:
    """Make a call."""
    return await client.echo(text="x" * 100)


async def stream(client: SampleServiceClient) -> object:
    """Read a stream to its end."""
    return [each.number async for each in client.count_up(count=3)]


async def talk(client: SampleServiceClient) -> object:
    """Send a stream, and read the answer."""
    return await client.sum([])


JSON = ConnectOptions(codec="json")
CLIENTS: dict[str, Callable[[Address], AbstractAsyncContextManager[Once]]] = {
    "gRPC": lambda at: typed(unary, str(at)),
    "gRPC, replies": lambda at: typed(stream, str(at)),
    "gRPC, requests": lambda at: typed(talk, str(at)),
    "Connect": lambda at: typed(unary, at.url),
    "Connect, replies": lambda at: typed(stream, at.url),
    "Connect, requests": lambda at: typed(talk, at.url),
    "Connect, JSON": lambda at: typed(unary, at.url, connect=JSON),
    "Connect, JSON, replies": lambda at: typed(stream, at.url, connect=JSON),
    "Connect, by name": lambda at: typed(unary, f"http://localhost:{at.port}"),
    "outbound": lambda at: outbound(at.url),
}


def descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208 - names only


def threads_of_ours() -> set[threading.Thread]:
    """Return the threads that run, but for those in which the loop looks names up: it keeps a few."""
    return {each for each in threading.enumerate() if not each.name.startswith("asyncio_")}


async def under(fault: Fault, expected: tuple[type[Error], ...], between: FaultyProxy, name: str) -> None:
    """Call through the fault; then without it, by the same client."""
    async with CLIENTS[name](between.address) as call:
        began = time.monotonic()
        with between.faulty(fault):
            ended, is_a_neighbours = await end_of(call(TIMEOUT if expected else PATIENT))
            assert ended in (expected or (None,)), fault
            assert is_a_neighbours or not expected, fault
        assert time.monotonic() - began < LATEST, fault
        await until(lambda: works(call), PATIENT)


async def end_of(call: Awaitable[object]) -> tuple[type[Error] | None, bool]:
    """Return the type of a call's error, and whether it counts as its neighbour's; keep nothing of it."""
    try:
        assert await call
    except Error as error:
        return type(error), error.received or error.unsent
    return None, False


async def works(call: Once) -> bool:
    """Tell whether a call goes well; gRPC lets a moment pass before it connects again."""
    try:
        return bool(await call(PATIENT))
    except Unavailable:
        return False


@pytest.mark.parametrize("name", CLIENTS)
async def test_each_fault_ends_in_its_error_and_nothing_is_left(
    name: str, proxy: Callable[[str, int], Awaitable[FaultyProxy]]
) -> None:
    """All faults at once, each on connections of its own; afterwards no task, socket or thread more than before."""
    async with serving(make()) as served:
        betweens = [await proxy(served.host, served.port) for _ in TOXICS]
        warm = await proxy(served.host, served.port)
        await under(Latency(seconds=0.0), FINE, warm, name)  # what is made once: pollers, imports
        await until(lambda: warm.connections == 0)
        gc.collect()
        tasks, files, threads = len(asyncio.all_tasks()), descriptors(), threads_of_ours()
        async with asyncio.TaskGroup() as group:
            for between, (fault, expected) in zip(betweens, TOXICS.values(), strict=True):
                group.create_task(under(fault, expected, between, name))
        await until(lambda: not any(each.connections for each in betweens))
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        await until(lambda: descriptors() <= files)
        assert threads_of_ours() <= threads
