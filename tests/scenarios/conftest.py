"""The sample app behind every door."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from grpc import aio

from interlock import App
from interlock.resilience.retry import RetryPolicy
from interlock.server import serving
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample, make
from tests.scenarios.doors import EVENTS, LINES, Door, Grpcio, Rest, Typed
from tests.scenarios.foreign_doors import FOREIGN_DOORS, foreign_door

ONCE = RetryPolicy(retries=0)  # scenarios are about single calls
OPEN_DOORS = ("in process", "client", "grpcio")
"""Those whose streams a test can hold open."""
RPC_DOORS = (*OPEN_DOORS, *FOREIGN_DOORS)
BINARY_DOORS = tuple(each for each in RPC_DOORS if each != "connectrpc json")
REST_STREAMS = {"rest lines": LINES, "rest events": EVENTS}
DOORS = (*RPC_DOORS, "rest")
STREAM_DOORS = (*RPC_DOORS, *REST_STREAMS)
TYPED_DOORS = ("in process", "client")


@pytest.fixture
def sample() -> Sample:
    """The handlers, to look into."""
    return Sample()


@pytest.fixture
def app(sample: Sample) -> App:
    """The app under test; a test may override it."""
    return make(sample)


@pytest.fixture(params=DOORS)
async def door(request: pytest.FixtureRequest, app: App) -> AsyncIterator[Door]:
    """One door after the other; parametrize it indirectly to choose."""
    async for opened in opened_door(request.param, app):
        yield opened


async def opened_door(name: str, app: App) -> AsyncIterator[Door]:
    """Open one door to a started app and close it after."""
    if name == "in process":
        async with app, SampleServiceClient(app, retries=ONCE) as client:
            yield Typed(name, client)
        return
    async with serving(app) as address:
        if name == "client":
            async with SampleServiceClient(str(address), retries=ONCE) as client:
                yield Typed(name, client)
        elif name == "grpcio":
            options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
            async with aio.insecure_channel(str(address), options) as channel:
                yield Grpcio(channel)
        elif name in FOREIGN_DOORS:
            async with foreign_door(name, address) as door:
                yield door
        else:
            async with httpx2.AsyncClient(base_url=address.url) as client:
                yield Rest(name, client, REST_STREAMS.get(name, "application/json"))
