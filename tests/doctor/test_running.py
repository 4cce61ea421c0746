"""`interlock doctor --at`: what is wrong with a service that runs, each fault with its remedy, in seconds."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from interlock.doctor import Finding, State, running
from interlock.observability.metrics import Metrics
from interlock.observability.scrape import Scrape
from tests.server.processes import free_port, serving_process

INTERLOCK = Path(sys.executable).parent / "interlock"


def doctor(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the command; return its exit code and findings by part."""
    command = [str(INTERLOCK), "doctor", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return done.returncode, {each["part"]: each for each in json.loads(done.stdout)}


def told(findings: list[Finding]) -> dict[str, Finding]:
    """Return the findings by part; whatever is not well must say what to do."""
    assert all(each.remedy for each in findings if each.state is not State.OK)
    return {each.part: each for each in findings}


async def test_nobody_is_there() -> None:
    """Which address, and how to name another."""
    (found,) = await running(f"127.0.0.1:{free_port()}")
    assert (found.part, found.state) == ("running", State.FAULT)
    assert "Connection refused" in found.told
    assert "--at" in found.remedy


async def test_a_service_that_runs_is_seen_through(tmp_path: Path) -> None:
    """Well at first; then a check that fails, and calls that do, each with its cause."""
    with serving_process(tmp_path, "tests.observability.apps:make", workers="2") as process:
        await process.ready()
        address = f"127.0.0.1:{process.operations_port}"
        await process.get("/v1/echo/x")
        found = told(await running(address, 0.1))
        assert {each.state for part, each in found.items() if part != "last warning"} == {State.OK}
        assert "is ready" in found["running"].told
        (tmp_path / "broken").write_text("the roof is off")
        async with httpx2.AsyncClient(base_url=process.url) as client:
            for _ in range(3):
                failed = await client.post("/v1/fail", json={"unexpected": True, "message": "kaboom"})
            late = await client.post("/v1/fail", json={"code": 14, "message": "the provider is away"})
        async with httpx2.AsyncClient() as client:
            deadline = time.monotonic() + 20
            while "kaboom" not in (await client.get(f"http://{address}/admin/errors")).text:
                assert time.monotonic() < deadline, "no worker told of the error"
            agreed = 0  # either worker is asked, and knows of the other's calls a second later
            while agreed < 10:
                assert time.monotonic() < deadline, "the workers' counts were not joined"
                scrape = Scrape.of((await client.get(f"http://{address}/metrics")).text)
                agreed = agreed + 1 if scrape.total("service_requests_total") == 5 else 0
        code, rows = await asyncio.to_thread(doctor, "--at", address)
    assert code == 1
    assert "the roof is off" in rows["warehouse"]["told"]
    assert "POST /v1/fail 500 x3" in rows["calls"]["told"]
    assert rows["calls"]["state"] == "fault"
    assert "RuntimeError: secret: kaboom" in rows["last error"]["told"]
    assert failed.headers["x-request-id"] in rows["last error"]["remedy"]
    assert "the provider is away" in rows["last failed call"]["told"]
    assert late.headers["x-request-id"] in rows["last failed call"]["remedy"]


READY = (200, b"{}")
STRANGERS: dict[str, tuple[dict[str, tuple[int, bytes]], str]] = {
    "another port of a service": ({"/readyz": READY}, "/metrics gives 404"),
    "a page": ({"/readyz": (503, b"<html>"), "/metrics": (200, b"")}, "JSONDecodeError"),
    "a list": ({"/readyz": (503, b"[]"), "/metrics": (200, b"")}, "AttributeError"),
    "bytes": ({"/readyz": (200, b"\xff"), "/metrics": (200, b"")}, "UnicodeDecodeError"),
    "other metrics": ({"/readyz": READY, "/metrics": (200, b'service_requests_total{a="b"} 1\n')}, "status"),
    "no end": ({"/readyz": (200, b"x" * (33 << 20))}, "32 MiB"),
    "errors of another kind": (
        {"/readyz": READY, "/metrics": (200, b""), "/admin/errors": (200, b'{"errors": [{}]}')},
        "timestamp",
    ),
}
"""By who listens: what it answers, and a word of what is told of it."""


@pytest.mark.parametrize("who", STRANGERS)
async def test_whoever_answers_is_one_fault(who: str) -> None:
    """Never a traceback; it names the address and how to name another."""
    pages, word = STRANGERS[who]
    with answering(pages) as address:
        (found,) = await running(f"http://{address}/", 0.0)
    assert (found.part, found.state) == ("running", State.FAULT)
    assert address in found.told
    assert word in found.told
    assert "--at" in found.remedy


@pytest.mark.parametrize("beginning", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"])
async def test_who_does_not_go_on_is_given_up(beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that says nothing, something else, or a byte now and then."""
    monkeypatch.setitem(running.__globals__, "LIMIT", 0.5)

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(beginning)
            while beginning.startswith(b"HTTP"):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.2)
            await asyncio.sleep(2)
        except ConnectionError:
            pass  # it was given up
        finally:
            writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(20):
            (found,) = await running(f"127.0.0.1:{port}", 0.0)
    assert "does not answer as an operations port" in found.told


def test_a_terminal_obeys_nothing_of_it() -> None:
    """What a service says is shown, not carried out."""
    pages = {
        "/readyz": (503, json.dumps({"failing": {"roof": "\x1b[2Joff"}}).encode()),
        "/metrics": (200, b'service_build_info{service="\x1b]0;x\x07"} 1\n'),
    }
    with answering(pages) as address:
        done = subprocess.run([INTERLOCK, "doctor", "--at", address], capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"\\x1b[2Joff" in done.stdout
    assert b"\x1b" not in done.stdout
    assert b"Traceback" not in done.stderr


@contextmanager
def showing(metrics: Metrics) -> Iterator[str]:
    """Serve these metrics as the operations port of a ready service would, and nothing for operators."""
    pages = {"/readyz": READY, "/metrics": (200, metrics.exposition()[1]), "/admin/errors": (403, b"{}")}
    with answering(pages) as address:
        yield address


@contextmanager
def answering(pages: Mapping[str, tuple[int, bytes]]) -> Iterator[str]:
    """Serve these pages, a status and a body each."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = pages.get(self.path, (404, b"{}"))
            self.send_response(status)
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


SEEDED: dict[str, tuple[State, str, dict[str, str], float, str]] = {
    "circuits": (State.FAULT, "service_circuit_breaker_state", {"target": "stock:80", "endpoint": "/a/B"}, 2, "stock"),
    "outbox": (State.FAULT, "service_outbox_age_seconds", {}, 90, "broker"),
    "dead letters": (State.FAULT, "service_dead_letters_kept", {"group": "a.B"}, 3, "dead-letters list"),
    "events": (State.NOTE, "service_event_lag", {"group": "a.B"}, 5000, "more workers"),
    "connections": (State.NOTE, "service_database_connections_awaited", {"pool": "write"}, 7, "pool_size"),
    "keys": (State.NOTE, "service_key_age_seconds", {"issuer": "x", "kid": "k"}, 91 * 86400, "keys rotate"),
    "overload": (State.NOTE, "service_requests_shed_total", {"endpoint": "/a/B"}, 9, "replicas"),
    "traces": (State.NOTE, "service_spans_lost_total", {}, 12, "collector"),
    "log": (State.NOTE, "service_log_lines_dropped_total", {}, 4, "disk"),
}
"""By part: how bad, the metric that tells it, its labels and value, and a word of the remedy."""


@pytest.mark.parametrize("part", SEEDED)
async def test_what_the_numbers_say(part: str) -> None:
    """Each number that alerts is also found by looking, with the remedy; one that is low says nothing."""
    state, name, labels, value, remedy = SEEDED[part]
    found = {}
    for shown in (value, 0.0):
        metrics = Metrics("orders")
        show = metrics.counter if name.endswith("_total") else metrics.gauge
        key = tuple(labels.values())
        show(name.removesuffix("_total"), "…", lambda key=key, shown=shown: {key: shown}, labels=tuple(labels))  # type: ignore[misc]
        with showing(metrics) as address:
            found[shown] = told(await running(address, 0.0))
    assert part not in found[0.0]
    assert found[value][part].state is state
    assert remedy in found[value][part].remedy


async def test_slow_calls_tell_what_they_waited_for() -> None:
    """Endpoints over two seconds, and the shares of database and neighbours."""
    metrics = Metrics("orders")
    for _ in range(10):
        metrics.requests.series("GET", "/v1/orders").add(3.0, "200")
        metrics.database(2.5)
    with showing(metrics) as address:
        found = told(await running(address, 0.0))
    assert "GET /v1/orders x10" in found["slow"].told
    assert "of 30.0 s in all, in the database 25.0 s" in found["slow"].remedy
