"""Collector, log and scraper that are slow or gone: calls go on, memory is bounded, and the process still ends well."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import httpx2
import pytest

from bench.identity import known
from bench.neighbours import CASES, Watched, called, served
from tests.server.processes import alive
from tests.waiting import until

CALLS = 3000
LONGEST = 3.0
"""Seconds that no call may take, also on a busy machine; each takes a few milliseconds."""
GROWTH = 48 << 20
"""Bytes by which memory may grow: queues are a few MiB, and an interpreter that has warmed up keeps some."""


@pytest.fixture(autouse=True)
def _identity() -> Iterator[None]:
    with known():
        yield


@pytest.mark.parametrize("name", CASES)
async def test_calls_go_on_whatever_a_neighbour_does(name: str) -> None:
    """All are answered soon, memory is bounded, a scraper who behaves is served, and SIGTERM ends the process."""
    settings, unread, beside = CASES[name]
    with settings() as chosen, served(unread=unread, **chosen) as service:
        await called(service, calls=500)
        with beside(service):
            seen = await called(service, calls=CALLS)
            text = await scraped(service)
        assert max(seen.waits) < LONGEST, seen.line()
        assert seen.grown < GROWTH, seen.line()
        assert counted(text, "service_requests_total{") >= CALLS
        dropped = counted(text, "service_log_lines_dropped_total")
        assert (dropped > 0) == unread
        began = time.monotonic()
        os.kill(service.pid, signal.SIGTERM)
        await until(lambda: not alive(service.pid), 30)
        assert time.monotonic() - began < 15


async def scraped(service: Watched) -> str:
    """Return what a scraper gets."""
    async with asyncio.timeout(10), httpx2.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{service.operations_port}/metrics")).text


def counted(text: str, start: str) -> float:
    """Return the sum of the samples whose line begins so."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))
