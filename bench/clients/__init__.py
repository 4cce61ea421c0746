"""The clients that are measured: each a program, `python -m bench.clients.NAME PORT CALLS`, that prints its cost."""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import repeat

AT_ONCE = 16
"""Calls in flight."""


async def measure(call: Callable[[], Awaitable[object]]) -> None:
    """Make the calls asked for, after a tenth of them to warm up, and print CPU microseconds and calls a second."""
    calls = int(sys.argv[2])
    await _make(call, calls // 10)
    began, used = time.perf_counter(), _cpu()
    await _make(call, calls)
    took, cost = time.perf_counter() - began, _cpu() - used
    print(json.dumps({"cpu": cost / calls * 1e6, "rate": calls / took}))


def target() -> str:
    """Return the address of the server."""
    return f"127.0.0.1:{sys.argv[1]}"


async def _make(call: Callable[[], Awaitable[object]], calls: int) -> None:
    left = repeat(None, calls)

    async def caller() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
