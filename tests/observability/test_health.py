"""Health as probes, as load balancers and as Google's own client see it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx2
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from interlock import App, Call
from interlock.contract.gen.grpc.health.v1.health_pb import HealthCheckRequest, HealthCheckResponse
from interlock.observability.health import Health, HealthService
from interlock.server import serving
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE
from tests.sample.handlers import make
from tests.waiting import until

SERVICE = "sample.v1.SampleService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
NO_CALL = Call(SAMPLE_SERVICE.operation(ECHO))


class Part:
    """Something readiness depends on, well until it is told otherwise."""

    def __init__(self) -> None:
        self.broken: Exception | None = None

    async def __call__(self) -> None:
        if self.broken is not None:
            raise self.broken


@pytest.fixture
def part() -> Part:
    """A check."""
    return Part()


@pytest.fixture
def app(part: Part) -> App:
    """The sample app that depends on it."""
    return make(checks={"database": part})


@pytest.fixture
async def stub(app: App) -> AsyncIterator[Any]:
    """Google's client of the health service, over a real port."""
    async with serving(app, drain_limit=5) as address, aio.insecure_channel(str(address)) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def request(service: str = "") -> Any:
    """Return a request about one service."""
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_the_server_and_each_service_are_checked(stub: Any, part: Part, service: str) -> None:
    """The empty name and the service's answer alike, well or not, and never say why."""
    assert (await stub.Check(request(service))).status == SERVING
    part.broken = ConnectionError("password for db-7 is wrong")
    answer = await stub.Check(request(service))
    assert answer.status == NOT_SERVING
    assert b"db-7" not in answer.SerializeToString()
    part.broken = None
    assert (await stub.Check(request(service))).status == SERVING


@pytest.mark.parametrize("service", ["nobody", "sample.v1", SERVICE + " ", "x" * 10_000, "\n"])
async def test_a_service_that_is_not_here_is_not_found(stub: Any, service: str) -> None:
    """Check answers NOT_FOUND for a name that is not served (grpc/doc/health-checking.md)."""
    with pytest.raises(aio.AioRpcError) as raised:
        await stub.Check(request(service))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_all_services_are_listed(stub: Any, part: Part) -> None:
    """List names the server and every service with its status."""
    listed = await stub.List(health_pb2.HealthListRequest())
    assert {name: each.status for name, each in listed.statuses.items()} == {"": SERVING, SERVICE: SERVING}
    part.broken = ValueError()
    listed = await stub.List(health_pb2.HealthListRequest())
    assert {each.status for each in listed.statuses.values()} == {NOT_SERVING}


async def test_a_watcher_is_told_of_changes_only(stub: Any, part: Part) -> None:
    """Watch tells the status at once and then each change, not each look."""
    watch = aiter(stub.Watch(request(SERVICE)))
    assert (await anext(watch)).status == SERVING
    part.broken = ValueError()
    assert (await anext(watch)).status == NOT_SERVING
    part.broken = None
    assert (await anext(watch)).status == SERVING


async def test_a_watcher_of_an_unknown_service_stays_on(stub: Any) -> None:
    """Watch answers SERVICE_UNKNOWN and keeps the stream open, for the service may appear."""
    watch = stub.Watch(request("nobody"), timeout=0.3)
    assert (await watch.read()).status == SERVICE_UNKNOWN
    with pytest.raises(aio.AioRpcError) as raised:
        await watch.read()
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_drain_is_told_and_held_up_by_nobody_who_watches(stub: Any, app: App) -> None:
    """While calls end, Check and Watch say NOT_SERVING; watchers are let go, so that they are not waited for."""
    watch = aiter(stub.Watch(request()))
    assert (await anext(watch)).status == SERVING
    async with asyncio.timeout(5):
        await app.drain(60)
    assert (await anext(watch)).status == NOT_SERVING
    with pytest.raises(aio.AioRpcError) as raised:
        await anext(watch)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (await stub.Check(request())).status == NOT_SERVING


async def test_a_change_while_a_message_is_on_its_way_is_not_missed() -> None:
    """A watcher who reads slowly still learns of what changed meanwhile."""
    health = Health([SERVICE])
    health.serving = True
    watch = HealthService(health).watch(HealthCheckRequest(), NO_CALL)
    assert (await anext(watch)).status is HealthCheckResponse.ServingStatus.SERVING
    health.serving = False  # the first message is not taken off the wire yet
    assert (await asyncio.wait_for(anext(watch), 5)).status is HealthCheckResponse.ServingStatus.NOT_SERVING


async def test_many_watchers_cost_one_change() -> None:
    """Every watcher is woken by a change, and none is left behind when they go."""
    health = Health([SERVICE])
    health.serving = True
    service = HealthService(health)
    watches = [service.watch(HealthCheckRequest(), NO_CALL) for _ in range(100)]
    await asyncio.gather(*(anext(watch) for watch in watches))
    waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
    await asyncio.sleep(0)
    health.serving = False
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert {answer.status for answer in answers} == {HealthCheckResponse.ServingStatus.NOT_SERVING}


async def test_an_app_is_ready_between_start_and_drain() -> None:
    """Before the start, and from the drain on, nothing is ready; a second start is."""
    health = Health()
    assert await health.failing() == {"serving": "starting or shutting down"}
    health.serving = True
    assert await health.failing() == {}
    health.drain()
    assert "serving" in await health.failing()
    health.serving = True
    assert await health.failing() == {}
    assert not health.draining


async def test_checks_run_at_once_and_each_names_itself() -> None:
    """All checks are asked together; those that fail are told by name with their text, however they fail."""
    together = asyncio.Barrier(2)

    async def wait() -> None:
        await asyncio.wait_for(together.wait(), 5)

    async def fail() -> None:
        raise ConnectionError("refused")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    def at_once() -> Any:
        raise OSError("not even a coroutine")

    health = Health()
    health.serving = True
    health.checks.update({"a": wait, "b": wait, "c": fail, "d": cancelled, "e": at_once})
    assert await health.failing() == {
        "c": "ConnectionError: refused",
        "d": "CancelledError",
        "e": "OSError: not even a coroutine",
    }


async def test_many_who_ask_at_once_are_one_look() -> None:
    """A flood of probes asks the database no more often than one probe does; the next look is a new one."""
    health, asked, go = Health(), 0, asyncio.Event()

    async def check() -> None:
        nonlocal asked
        asked += 1
        await go.wait()

    health.checks["database"] = check
    health.serving = True
    many = [asyncio.create_task(health.failing()) for _ in range(100)]
    await until(lambda: asked == 1, 5)
    many[0].cancel()  # whoever began it may leave
    go.set()
    assert await asyncio.gather(*many[1:]) == [{}] * 99
    assert await health.failing() == {}
    assert asked == 2


async def test_a_check_that_hangs_is_not_waited_for() -> None:
    """A part that does not answer within two seconds is not well."""

    async def hang() -> None:
        await asyncio.Event().wait()

    health = Health()
    health.serving = True
    health.checks["broker"] = hang
    assert await asyncio.wait_for(health.failing(), 5) == {"broker": "no answer within 2 s"}


async def test_probes_tell_operators_more_than_callers(app: App, part: Part) -> None:
    """On the API port readiness is yes or no; on the operations port it names what is not well; HEAD has no body."""
    async with serving(app, operations=True) as address, httpx2.AsyncClient() as client:
        for url in (address.url, address.operations_url):
            assert (await client.get(f"{url}/readyz")).json() == {"status": "ok"}
        part.broken = ConnectionError("db-7 is gone")
        for path in ("/readyz", "/health"):
            public = await client.get(address.url + path)
            assert (public.status_code, public.json()) == (503, {"status": "unavailable"})
            private = await client.get(address.operations_url + path)
            assert private.json()["failing"] == {"database": "ConnectionError: db-7 is gone"}
        assert (await client.get(f"{address.url}/livez")).status_code == 200
        head = await client.head(f"{address.url}/readyz")
        assert (head.status_code, head.content) == (503, b"")
        assert (await client.post(f"{address.url}/readyz")).status_code in (404, 405)
        unknown = await client.get(f"{address.operations_url}/v1/things")
        assert unknown.status_code == 404
        assert json.loads(unknown.content)["error"]["code"] == "NOT_FOUND"
