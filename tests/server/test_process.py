"""`interlock serve` from start to end."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import httpx2
import pytest
from grpc import aio

from tests.sample.gen.sample.v1.sample_pb import SlowRequest, SlowResponse
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.server.processes import alive, serving_process
from tests.waiting import until

MAKE = "tests.server.apps:make"


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_banner_comes_when_requests_are_answered(tmp_path: Path, workers: str) -> None:
    """Once the banner is there both ports answer, and it names what is served and where; h2corn's own is not there."""
    with serving_process(tmp_path, MAKE, workers=workers) as process:
        await process.ready()
        assert (await process.get("/v1/echo/hello")).json()["data"]["text"] == "hello"
        assert await process.probe("/readyz") == 200
        assert f"http://127.0.0.1:{process.port}" in process.output
        assert "sample.v1.SampleService" in process.output
        assert "h2corn" not in process.output
        process.send(signal.SIGTERM)
        assert await process.ended() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_sigterm_lets_every_call_in_flight_finish(tmp_path: Path, workers: str) -> None:
    """REST and gRPC calls that were accepted before SIGTERM are answered, then the process ends with 0."""
    with serving_process(tmp_path, MAKE, workers=workers) as process:
        await process.ready()
        async with (
            httpx2.AsyncClient(timeout=20) as client,
            aio.insecure_channel(f"127.0.0.1:{process.port}") as channel,
        ):
            slow = channel.unary_unary("/sample.v1.SampleService/Slow", SlowRequest.to_binary, SlowResponse.from_binary)
            rest = [asyncio.create_task(client.get(process.url + "/v1/slow?seconds=1")) for _ in range(20)]
            rpcs = [asyncio.ensure_future(slow(SlowRequest(seconds=1.0))) for _ in range(20)]
            await asyncio.sleep(0.5)
            process.send(signal.SIGTERM)
            assert [each.status_code for each in await asyncio.gather(*rest)] == [200] * 20
            assert len(await asyncio.gather(*rpcs)) == 20
        assert await process.ended() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_calls_over_the_drain_limit_are_cut(tmp_path: Path, workers: str) -> None:
    """A call longer than the drain limit is cancelled and told so; the process still ends well, and in time."""
    with serving_process(tmp_path, MAKE, "--drain-limit", "500ms", workers=workers) as process:
        await process.ready()
        slow = asyncio.create_task(process.get("/v1/slow?seconds=20"))
        await asyncio.sleep(0.5)
        process.send(signal.SIGTERM)
        assert (await slow).status_code == 503
        async with asyncio.timeout(5):
            assert await process.ended() == 0


async def test_a_draining_process_is_not_ready_and_still_tells(tmp_path: Path) -> None:
    """While calls in flight finish, the operations port answers, with not ready, and new connections are refused."""
    with serving_process(tmp_path, MAKE) as process:
        await process.ready()
        slow = asyncio.create_task(process.get("/v1/slow?seconds=2"))
        await asyncio.sleep(0.5)
        process.send(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert await process.probe("/readyz") == 503
        assert await process.probe("/livez") == 200
        with pytest.raises(httpx2.ConnectError):
            await process.get("/v1/echo/late")
        assert (await slow).status_code == 200
        assert await process.ended() == 0


async def test_the_readiness_grace_goes_on_accepting(tmp_path: Path) -> None:
    """In the grace the process says that it is not ready and accepts all the same."""
    with serving_process(tmp_path, MAKE, readiness_grace="1s") as process:
        await process.ready()
        process.send(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert await process.probe("/readyz") == 503
        assert (await process.get("/v1/echo/late")).status_code == 200
        assert await process.ended() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_second_interrupt_ends_at_once(tmp_path: Path, workers: str) -> None:
    """Ctrl-C drains; a second one does not wait for calls in flight."""
    with serving_process(tmp_path, MAKE, workers=workers) as process:
        await process.ready()
        slow = asyncio.create_task(process.get("/v1/slow?seconds=20"))
        await asyncio.sleep(0.5)
        process.send(signal.SIGINT)
        await asyncio.sleep(0.3)
        assert process.code is None
        process.send(signal.SIGINT)
        async with asyncio.timeout(3):
            assert await process.ended() == 130
        with pytest.raises(httpx2.TransportError):
            await slow


async def test_requests_in_a_loop_survive_a_rolling_reload(tmp_path: Path) -> None:
    """SIGHUP puts new workers in the place of the old, and no retryable call of our client fails meanwhile."""
    with serving_process(tmp_path, MAKE, workers="2", log_level="info") as process:
        await process.ready()
        before = await process.workers(2)
        count, over = 0, False
        async with SampleServiceClient(f"127.0.0.1:{process.port}") as client:

            async def ask() -> None:
                nonlocal count
                while not over:
                    await client.list_things()
                    count += 1
                    await asyncio.sleep(0.01)

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            process.send(signal.SIGHUP)
            await process.says("all workers are replaced")
            await asyncio.sleep(0.3)
            over = True
            await asyncio.gather(*asking)
        assert count > 100
        assert not before & await process.workers(2)
        await until(lambda: not any(alive(pid) for pid in before))


async def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """A worker that was killed is named with the signal, and another one takes its place."""
    with serving_process(tmp_path, MAKE, workers="2") as process:
        await process.ready()
        before = await process.workers(2)
        killed = before.pop()
        os.kill(killed, signal.SIGKILL)
        await process.says("was ended by SIGKILL")
        await process.says("is replaced")
        after = await process.workers(2)
        assert killed not in after
        assert before <= after
        process.send(signal.SIGTERM)
        assert await process.ended() == 0


async def test_a_worker_that_hangs_is_replaced_in_production(tmp_path: Path) -> None:
    """A handler that blocks its event loop costs the worker its life, and others go on."""
    with serving_process(tmp_path, MAKE, workers="2", environment="production", hang_limit="3s") as process:
        await process.ready()
        blocked = asyncio.create_task(process.get("/v1/echo/block"))
        await process.says("is silent for")
        await process.says("is replaced")
        with pytest.raises(httpx2.TransportError):
            await blocked


async def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """No worker outlives a parent that was killed."""
    with serving_process(tmp_path, MAKE, workers="2") as process:
        await process.ready()
        workers = await process.workers(2)
        process.end()
        await until(lambda: not any(alive(pid) for pid in workers))


async def test_a_worker_is_replaced_after_its_requests(tmp_path: Path) -> None:
    """`max_requests` makes way for a new worker, and no request fails on the way."""
    with serving_process(tmp_path, MAKE, "--max-requests", "20") as process:
        await process.ready()
        first = await process.worker()
        for _ in range(40):
            assert (await process.get("/v1/echo/x")).status_code == 200
        await process.says("has served its requests")
        await until(lambda: not alive(first))


async def test_reload_follows_changes_and_survives_mistakes(tmp_path: Path) -> None:
    """A change starts the app anew; a mistake is told and the next change is waited for."""
    module = tmp_path / "changing.py"
    module.write_text("from tests.server.apps import make\n")
    with serving_process(tmp_path, "changing:make", "--reload") as process:
        await process.ready()
        first = await process.worker()
        module.write_text("from tests.server.apps import make\n# changed\n")
        await process.ready(times=2)
        assert await process.worker() != first
        module.write_text("def make(:\n")
        await process.says("SyntaxError")
        module.write_text("from tests.server.apps import make\n")
        await process.ready(times=3)
        assert (await process.get("/v1/echo/x")).status_code == 200
        process.send(signal.SIGINT)
        assert await process.ended() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    "target,told",
    [
        ("tests.server.apps", "is not of the form module:make"),
        ("nowhere:make", "there is no module 'nowhere'"),
        ("tests.server.apps:mak", "has no 'mak'; it has make"),
        ("tests.server.apps:not_a_function", "is an int, not a function"),
        ("tests.server.apps:asynchronous", "is async; write a plain `def`"),
        ("tests.server.apps:wrong", "returned a dict, not an App"),
        ("tests.server.apps:failing", "RuntimeError: the flux is missing"),
        ("tests.server.apps:unsettled", "INTERLOCK_DATABASE_URL is not set"),
    ],
)
async def test_an_app_that_is_not_fit_is_refused_once(tmp_path: Path, target: str, told: str, workers: str) -> None:
    """What is wrong with the target is told once, without frames of ours, and the exit code is 1."""
    with serving_process(tmp_path, target, workers=workers) as process:
        assert await process.ended() == 1
        assert process.output.count(told) == 1
        assert "interlock/server" not in process.output


async def test_a_start_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """A worker that is not ready within the start limit ends the attempt."""
    with serving_process(tmp_path, "tests.server.apps:never_ready", workers="2", start_limit="2s") as process:
        assert await process.ended() == 1
        assert "INTERLOCK_START_LIMIT" in process.output


@pytest.mark.parametrize("setting", ["port", "operations_port"])
async def test_a_taken_port_is_named_with_the_setting(tmp_path: Path, setting: str) -> None:
    """Who starts on a taken port learns which, how to see by whom, and what to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving_process(tmp_path, MAKE, **{setting: str(port)}) as process:
            assert await process.ended() == 1
            assert f"port {port} on 127.0.0.1 is taken" in process.output
            assert f"INTERLOCK_{setting.upper()}" in process.output
            assert "Traceback" not in process.output


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_settings_that_come_too_late_are_told_of(tmp_path: Path, workers: str) -> None:
    """A port given inside `make()` is not listened on, and that is said once, with what to do."""
    with serving_process(tmp_path, "tests.server.apps:own_port", "--workers", workers) as process:
        await process.ready()
        assert (await process.get("/health")).status_code == 200
        assert process.output.count("port=9, which is ignored") == 1
        assert "INTERLOCK_PORT" in process.output
