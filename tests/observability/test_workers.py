"""Two worker processes seen as one service: what an operator changes reaches both, what one saw the other shows."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.server.processes import Process, serving_process
from tests.waiting import until

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    """A service of two workers."""
    with serving_process(tmp_path, "tests.observability.apps:make", workers="2", log_format="json") as running:
        await running.ready()
        yield running


async def admin(process: Process, page: str, change: Any = None) -> Any:
    """Ask the operations port on a new connection, which either worker takes."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{process.operations_port}", timeout=20) as client:
        reply = await (client.get(page) if change is None else client.put(page, json=change))
    assert reply.status_code == 200, reply.text
    return reply.json()


async def levels(process: Process) -> dict[int, str]:
    """Return the log level of each of the two workers."""
    found: dict[int, str] = {}
    async with asyncio.timeout(20):
        while len(found) < 2:
            told = await admin(process, "/admin/log-level")
            found[told["pid"]] = told["level"]
    return found


async def eventually(ask: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the answer is yes."""
    async with asyncio.timeout(20):
        while not await ask():  # noqa: ASYNC110 - another process answers
            await asyncio.sleep(0.05)


async def become(process: Process, level: str) -> None:
    """Wait until both workers log from `level` on."""

    async def are() -> bool:
        return set((await levels(process)).values()) == {level}

    await eventually(are)


async def test_a_log_level_reaches_every_worker_and_those_to_come(process: Process) -> None:
    """One request changes it for the service, also for a worker that begins later; signals still switch it."""
    told = await admin(process, "/admin/log-level", {"level": "debug"})
    assert told["level"] == "debug"
    await become(process, "debug")
    before = set(await levels(process))
    os.kill(min(before), signal.SIGKILL)
    await process.says("is replaced")
    await become(process, "debug")
    assert set(await levels(process)) != before
    process.send(signal.SIGUSR1)
    await become(process, "info")


NONSENSE: list[Any] = [
    {"level": "debug", "for": "soon"},
    {"level": "debug", "for": "-1s"},
    {"level": "debug", "for": "999999999h"},
    {"level": "debug", "to": 1},
    {"level": ["debug"]},
    None,
]


async def test_a_log_level_ends_by_itself(process: Process) -> None:
    """With a time the usual level comes back, in every worker; nonsense is refused."""
    told = await admin(process, "/admin/log-level", {"level": "debug", "for": "3s"})
    assert told["until"] is not None
    await process.says("the log level is debug now", 2)
    await become(process, "info")
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{process.operations_port}") as client:
        for wrong in NONSENSE:
            assert (await client.put("/admin/log-level", json=wrong)).status_code == 400


async def test_errors_of_every_worker_are_on_one_page_also_after_a_crash(process: Process) -> None:
    """Whoever is asked shows what both saw; what a killed worker saw stays."""
    async with httpx2.AsyncClient(base_url=process.url) as client:
        failed = await client.post("/v1/fail", json={"unexpected": True, "message": "kaboom"})
        assert failed.status_code == 500

    async def told_by(pid: int) -> bool:
        page = await admin(process, "/admin/errors")
        return page["pid"] == pid and any("kaboom" in str(each.get("exception")) for each in page["errors"])

    pids = set(await levels(process))
    for pid in pids:
        await eventually(partial(told_by, pid))
    page = await admin(process, "/admin/errors")
    (line,) = (each for each in page["errors"] if "kaboom" in str(each.get("exception")))
    assert line["request_id"] == failed.headers["x-request-id"]
    os.kill(line["pid"], signal.SIGKILL)
    await process.says("is replaced")
    (survivor,) = pids - {line["pid"]}
    await eventually(partial(told_by, survivor))


async def test_a_failing_check_takes_the_service_out_and_back_in(process: Process, tmp_path: Path) -> None:
    """Both workers, over HTTP and gRPC; calls go on, and only operators read why."""
    broken = tmp_path / "broken"

    async def seen() -> tuple[int, int, int]:
        async with aio.insecure_channel(f"127.0.0.1:{process.port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            status = (await stub.Check(health_pb2.HealthCheckRequest())).status
        return (await process.get("/readyz")).status_code, await process.probe("/health"), status

    assert {await seen() for _ in range(6)} == {(200, 200, SERVING)}
    broken.write_text("the roof is off")
    assert {await seen() for _ in range(6)} == {(503, 503, NOT_SERVING)}
    assert "roof" not in (await process.get("/readyz")).text
    async with httpx2.AsyncClient() as client:
        told = (await client.get(f"http://127.0.0.1:{process.operations_port}/readyz")).json()
    assert told["failing"] == {"warehouse": "RuntimeError: the roof is off"}
    assert await process.probe("/livez") == 200
    assert (await process.get("/v1/echo/x")).status_code == 200
    broken.unlink()
    assert {await seen() for _ in range(6)} == {(200, 200, SERVING)}


async def test_a_killed_worker_leaves_its_counts_and_no_files(process: Process) -> None:
    """The total never goes back, and what the dead left is folded away once its successor is there."""

    async def total() -> float:
        async with httpx2.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{process.operations_port}/metrics")).text
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith('service_requests_total{endpoint="/v1/echo/{text}"')
        )

    async def is_whole() -> bool:
        found = await total()
        assert found <= 40
        return found == 40

    for number in range(40):
        await process.get(f"/v1/echo/{number}")
    await eventually(is_whole)
    victim, served = next(iter(await levels(process))), time.time()
    directory = Path(environment(victim)["INTERLOCK_METRICS_DIRECTORY"])
    left = snapshots(directory) - {"base.json"}
    await until(
        lambda: all(each.stat().st_mtime > served for each in directory.glob("*/*-*.json")), 20
    )  # snapshots of all
    os.kill(victim, signal.SIGKILL)
    await process.says("is replaced")
    await eventually(is_whole)
    await until(lambda: len([*directory.glob("*/*.lock")]) <= 3, 20)  # two workers' and that of the fold
    assert len(snapshots(directory)) == 3
    assert len(snapshots(directory) & left) == 1


def snapshots(directory: Path) -> set[str]:
    """Return the names of the files that hold counts."""
    return {path.name for path in directory.glob("*/*.json")}


def environment(pid: int) -> dict[str, str]:
    """Return the environment of a process."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(each.split("=", 1) for each in pairs if "=" in each)
