"""The operators' pages: what they show and change, to whom, and the same by signal."""

import asyncio
import json
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from interlock import App
from interlock.observability.admin import PERMISSION
from interlock.observability.logging import AccessLog, log_level
from interlock.security.access import roles_from
from interlock.security.verifier import Verifier
from interlock.testing import Keyring
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import make
from tests.server.processes import serving_process


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    """Leave the level as it was."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


def port(app: App, client: str = "127.0.0.1", host: str = "localhost:8081") -> httpx2.AsyncClient:
    """Return a client of the operations port that comes from `client`."""
    transport: Any = httpx2.ASGITransport(app=app.operations, client=(client, 5000))
    return httpx2.AsyncClient(transport=transport, base_url=f"http://{host}")


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """A started app."""
    async with make(access_log=AccessLog(lambda _: None)) as running:
        yield running


async def test_the_first_page_names_the_others(app: App) -> None:
    """Every page it names is there."""
    async with port(app) as operator:
        index = (await operator.get("/admin")).json()
        assert index["services"] == ["sample.v1.SampleService"]
        for each in index["pages"]:
            assert (await operator.get(each)).status_code == 200
        assert (await operator.get("/admin/nothing")).status_code == 404
        assert (await operator.delete("/admin/tasks")).status_code == 405


async def test_tasks_and_errors_are_shown(app: App) -> None:
    """Where a task waits, and what went wrong lately with its call's ids."""

    async def waiting_for_ever() -> None:
        await asyncio.sleep(600)

    task = asyncio.create_task(waiting_for_ever(), name="mine")
    await asyncio.sleep(0)
    logging.getLogger("somebody").error("it failed: %s", "badly", exc_info=RuntimeError("the flux is missing"))
    async with port(app) as operator:
        (only,) = (await operator.get("/admin/errors")).json()["errors"]
    assert only["event"] == "it failed: badly"
    assert "the flux is missing" in only["exception"]
    for number in range(100):
        logging.getLogger("somebody").error("error %d", number)
    async with port(app) as operator:
        (mine,) = (each for each in (await operator.get("/admin/tasks")).json()["tasks"] if each["name"] == "mine")
        errors = (await operator.get("/admin/errors")).json()["errors"]
    task.cancel()
    assert mine["coroutine"].endswith("waiting_for_ever")
    assert "asyncio.sleep(600)" in " ".join(mine["stack"])
    assert len(errors) == 50
    assert errors[-1]["event"] == "error 99"


async def test_the_log_level_changes_at_run_time(app: App) -> None:
    """Of all loggers, and of access lines; nonsense is refused and changes nothing."""
    access_log = app._parts.access_log
    assert access_log is not None
    async with port(app) as operator:
        reply = await operator.put("/admin/log-level", json={"level": "debug"})
        assert (reply.status_code, reply.json()["level"]) == (200, "debug")
        assert logging.getLogger("anybody").isEnabledFor(logging.DEBUG)
        said = [access_log.failures_only]
        await operator.put("/admin/log-level", json={"level": "error"})
        said.append(access_log.failures_only)
        assert said == [False, True]
        for body in (b"", b"{", b"[]", b'{"level": "loud"}', b'{"level": ["debug"]}', b"[" * 100_000):
            assert (await operator.put("/admin/log-level", content=body)).status_code == 400
    assert log_level() == "error"


@pytest.mark.parametrize(
    "client, host, headers",
    [
        ("10.0.0.7", "localhost:8081", {}),
        ("127.0.0.1", "evil.example", {}),
        ("127.0.0.1", "localhost.evil.example:8081", {}),
        ("127.0.0.1", "localhost:8081", {"origin": "https://evil.example"}),
        ("127.0.0.1", "localhost:8081", {"x-forwarded-for": "10.0.0.7"}),
        ("127.0.0.1", "localhost:8081", {"x-forwarded-proto": "http"}),
        ("127.0.0.1", "localhost:8081", {"via": "1.1 proxy"}),
        ("127.0.0.6", "localhost:8081", {}),
        ("10.0.0.7", "10.0.0.1:8081", {"authorization": "Bearer nonsense"}),
    ],
)
async def test_strangers_are_refused(app: App, client: str, host: str, headers: dict[str, str]) -> None:
    """Other machines, pages in a browser by rebound names or from elsewhere, what a proxy passes on, a bad token."""
    async with port(app, client, host) as stranger:
        for each in ("/admin", "/admin/tasks", "/admin/nothing"):
            assert (await stranger.get(each, headers=headers)).status_code == 403
        assert (await stranger.put("/admin/log-level", json={"level": "debug"}, headers=headers)).status_code == 403
        assert (await stranger.get("/livez")).status_code == 200


@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
async def test_this_machine_may(app: App, client: str) -> None:
    """Under a loopback name."""
    for host in ("localhost:8081", "127.0.0.1:8081", "[::1]:8081", "localhost"):
        async with port(app, client, host) as operator:
            assert (await operator.get("/admin")).status_code == 200


@pytest.mark.parametrize("role, status", [("operator", 200), ("clerk", 403)])
async def test_a_token_with_the_permission_may(keys: Keyring, role: str, status: int) -> None:
    """From anywhere; one without may not."""
    roles = roles_from({"operator": [PERMISSION], "clerk": ["orders:read"]})
    headers = {"authorization": f"Bearer {keys.token(role)}"}
    async with (
        make(roles=roles, verifier=Verifier.at(keys.directory / "jwks.json")) as app,
        port(app, "10.0.0.7", "10.0.0.1:8081") as operator,
    ):
        assert (await operator.get("/admin", headers=headers)).status_code == status


async def test_an_app_that_stopped_keeps_no_handler() -> None:
    """Apps come and go in one process."""
    before = len(logging.getLogger().handlers)
    async with make() as app, SampleServiceClient(app) as client:
        await client.echo(text="x")
    assert len(logging.getLogger().handlers) == before


async def test_signals_reach_every_worker(tmp_path: Path) -> None:
    """SIGUSR1 switches debugging on and off, SIGUSR2 writes what the tasks do into the log."""
    with serving_process(tmp_path, "tests.server.apps:make", workers="2", log_format="json") as process:
        await process.ready()
        process.send(signal.SIGUSR1)
        await process.says("the log level is debug now, it was info", 2)
        process.send(signal.SIGUSR1)
        await process.says("the log level is info now, it was debug", 2)
        process.send(signal.SIGUSR2)
        await process.says('"event": "task ', 4)
        assert await process.probe("/livez") == 200
    json.loads(next(line for line in process.output.splitlines() if '"event": "task ' in line))
