"""The app is plain ASGI: the same calls pass on pyvoy, a server that others wrote on Envoy."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from grpc import aio
from protobuf.wkt.google.protobuf.duration_pb import Duration

from interlock import Code
from interlock.server import Address
from tests.sample.gen.sample.v1.sample_pb import ChatRequest, CountUpRequest, EchoRequest, FailRequest, SumRequest
from tests.sample.gen.sample.v1.sample_rpc import CHAT, COUNT_UP, ECHO, FAIL, SUM
from tests.scenarios.doors import Door, Failed, Grpcio
from tests.scenarios.foreign_doors import FOREIGN_DOORS, foreign_door

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).resolve().parents[2]
DOORS = ("grpcio", *FOREIGN_DOORS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address() -> AsyncIterator[Address]:
    """Where pyvoy serves the sample app."""
    from pyvoy import PyvoyServer  # its wheel holds Envoy, which does not run everywhere

    path = os.pathsep.join((str(ROOT), str(ROOT / "src"), *sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHOME": sys.base_prefix}  # the Python that Envoy embeds
    server = PyvoyServer("tests.scenarios.asgi_app", lifespan=True, env=environment)
    try:
        await server.__aenter__()
    except Exception as failed:
        pytest.skip(f"PYVOY DOES NOT RUN HERE, so nothing was proven on a second server: {failed!r}")
    try:
        yield Address(host="127.0.0.1", port=server.listener_port)
    finally:
        await server.__aexit__(None, None, None)


@pytest_asyncio.fixture(params=DOORS, loop_scope="module")
async def door(request: pytest.FixtureRequest, address: Address) -> AsyncIterator[Door]:
    """One door after the other."""
    if request.param == "grpcio":
        async with aio.insecure_channel(str(address)) as channel:
            yield Grpcio(channel)
    else:
        async with foreign_door(request.param, address) as opened:
            yield opened


async def test_unary(door: Door) -> None:
    """A message travels both ways, with headers and trailers."""
    came = await door.call(ECHO, EchoRequest(text="grüße" * 1000), metadata=[("x-test-text", "a b")])
    assert came.message.text == "grüße" * 1000
    assert came.headers["reply-x-test-text"] == "a b"
    assert came.trailers["trailer-x-test-text"] == "a b"


async def test_failure(door: Door) -> None:
    """An error keeps code, message, reason and delay."""
    request = FailRequest(
        code=int(Code.FAILED_PRECONDITION), message="so nicht 🌧", reason="OUT_OF_STOCK", retry_after=Duration(seconds=2)
    )
    with pytest.raises(Failed) as raised:
        await door.call(FAIL, request)
    failed = raised.value
    assert (failed.codes, failed.message) == ({Code.FAILED_PRECONDITION}, "so nicht 🌧")
    assert (failed.reason, failed.retry_after) == ("OUT_OF_STOCK", 2.0)


async def test_streams(door: Door) -> None:
    """Streams of every kind arrive in order."""
    counted = await door.call(COUNT_UP, CountUpRequest(count=100))
    assert [each.number for each in counted.messages] == list(range(1, 101))
    summed = await door.call(SUM, *(SumRequest(number=number) for number in range(100)))
    assert summed.message.sum == 4950
    said = await door.call(CHAT, *(ChatRequest(text=str(number)) for number in range(20)))
    assert [each.text for each in said.messages] == [str(number) for number in range(20)]
