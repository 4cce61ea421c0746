"""A real Prometheus scrapes a service of two workers, whose totals are the requests, also after a worker is killed."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.server.processes import Process, free_port, serving_process

PROMETHEUS = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None, reason="prometheus is not installed (Debian: prometheus): no real one scraped a service"
)
QUERY = 'sum(service_requests_total{endpoint="/v1/echo/{text}", status="200"})'


@contextlib.contextmanager
def scraping(directory: Path, target: int) -> Iterator[str]:
    """Run a Prometheus that scrapes `target` each second, and yield its URL."""
    assert PROMETHEUS is not None
    port = free_port()
    config = directory / "prometheus.yaml"
    jobs = f"scrape_configs: [{{job_name: sample, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]"
    config.write_text(f"global: {{scrape_interval: 1s}}\n{jobs}\n")
    command = [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"]
    with (directory / "prometheus.txt").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def total(url: str) -> float:
    """Return what Prometheus counts, -1 while it does not answer or knows nothing."""
    try:
        async with httpx2.AsyncClient() as client:
            found = (await client.get(f"{url}/api/v1/query", params={"query": QUERY})).json()["data"]["result"]
    except httpx2.HTTPError:
        return -1
    return float(found[0]["value"][1]) if found else -1


async def counts(url: str, wanted: int) -> None:
    """Wait until Prometheus counts `wanted` requests."""
    seen = -2.0
    async with asyncio.timeout(40):
        while (seen := await total(url)) != wanted:
            assert seen <= wanted
            await asyncio.sleep(0.2)


async def ask(process: Process, times: int) -> None:
    """Send requests on new connections, which spread over the workers."""
    for number in range(times):
        assert (await process.get(f"/v1/echo/{number}")).status_code == 200


@needs_prometheus
async def test_totals_are_the_requests_also_after_a_worker_was_killed(tmp_path: Path) -> None:
    """What two workers counted is one number, which loses nothing when one of them dies."""
    with serving_process(tmp_path, "tests.server.apps:make", workers="2") as process:
        await process.ready()
        with scraping(tmp_path, process.operations_port) as url:
            await ask(process, 60)
            await counts(url, 60)
            victim = await process.worker()
            await counts(url, 61)
            os.kill(victim, signal.SIGKILL)
            sent = 61
            async with asyncio.timeout(30):  # the successor is there once two answer that are not the victim
                seen: set[int] = set()
                while len(seen - {victim}) < 2:
                    with contextlib.suppress(httpx2.HTTPError):
                        seen.add(await process.worker())
                        sent += 1
            await ask(process, 40)
            await counts(url, sent + 40)
