"""The section about attacks: what other callers wait meanwhile, as percentiles.

`python -m bench.hostile PORT ATTACK` is the attacker, a process of its own that goes on until it is stopped.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from statistics import quantiles

from bench import ROOT, reference
from bench.figures import Effort, Goal, Section
from bench.identity import authorization
from bench.load import WrongReply
from bench.processes import Cores, NotMeasured, on, serving, stop
from tests.hostile import frames
from tests.hostile.frames import DATA, END_STREAM, frame, head, headers, opening

GOAL_MILLISECONDS = 50.0
SECONDS = 4.0
"""How long each attack lasts in a full round."""
PAUSE = 0.005
"""Seconds between two requests of the caller who is measured."""
P99, P50 = "P99", "median"

Attack = Callable[[int], Coroutine[None, None, None]]


def hostile(effort: Effort) -> Section:
    """Measure what a caller on a connection of its own waits while others attack."""
    section = Section(
        "hostile",
        "Under attack: how long another caller waits for GET of an order",
        "one caller over HTTP/1.1, a request every 5 ms; one worker on one core, attacker and caller share another",
    )
    cores = Cores.available()
    rounds: dict[str, list[list[float]]] = {name: [] for name in ATTACKS}
    with serving("interlock", cores=cores.server) as server, on(cores.load):
        for _ in range(effort.rounds):
            for name in ATTACKS:
                with _attacking(server.port, name):
                    rounds[name].append(asyncio.run(_waited(server.port, max(1.0, SECONDS * effort.share))))
    for name, measured in rounds.items():
        section.add(name, P50, "ms", [quantiles(each, n=100)[49] * 1000 for each in measured])
        percentiles = [quantiles(each, n=100)[98] * 1000 for each in measured]
        section.add(name, P99, "ms", percentiles, Goal(GOAL_MILLISECONDS, at_most=True))
        section.add(name, "longest", "ms", [max(each) * 1000 for each in measured])
    return section


@contextmanager
def _attacking(port: int, name: str) -> Iterator[None]:
    """Attack while the block runs, from a process that lets the caller go first."""
    command = [sys.executable, "-m", "bench.hostile", str(port), name]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise NotMeasured(f"the attacker {name!r} does not start")
        yield
    finally:
        stop(process)


async def _waited(port: int, seconds: float) -> list[float]:
    """Return what each request took, in seconds; at least two are made."""
    waited: list[float] = []
    async with _connected(port) as (reader, writer):
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end or len(waited) < 2:
            await _ask(reader, writer)
            waited.append(time.perf_counter() - began)
            await asyncio.sleep(PAUSE)
    return waited


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = reference.REST + reference.ORDER_ID
    writer.write(f"GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: {authorization()}\r\n\r\n".encode())
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"content-length: (\d+)", lines)
    body = await reader.readexactly(int(length[1])) if length else b""
    if not lines.startswith("http/1.1 200"):
        raise WrongReply(f"{path} gave {lines[9:12]} under attack: {body[:200]!r}")


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _again_and_again(data: bytes, *, pause: float = 0.0) -> Attack:
    """Send the same bytes on one connection after the other; read none of what comes back."""

    async def attack(port: int) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with _connected(port) as (_, writer), asyncio.timeout(1):
                    for start in range(0, len(data), 1 << 14):
                        writer.write(data[start : start + (1 << 14)])
                        await writer.drain()
                        await asyncio.sleep(0)
            await asyncio.sleep(pause)

    return attack


def _held(data: bytes, connections: int) -> Attack:
    """Send the bytes on many connections, and leave them open."""

    async def attack(port: int) -> None:
        async with contextlib.AsyncExitStack() as opened:
            for _ in range(connections):
                _, writer = await opened.enter_async_context(_connected(port))
                with contextlib.suppress(OSError):
                    writer.write(data)
            await asyncio.Event().wait()

    return attack


async def _peace(_port: int) -> None:
    await asyncio.Event().wait()


def _posted(path: str, body: bytes, *lines: str) -> bytes:
    first = (f"POST {path} HTTP/1.1", "host: bench", f"content-length: {len(body)}", *lines, "", "")
    return "\r\n".join(first).encode() + body


def _resets() -> bytes:
    block = head(reference.UNARY)
    return opening(*(headers(stream, block) + frames.reset(stream) for stream in range(1, 2000, 2)))


def _unknown() -> bytes:
    blocks = ((2 * at + 1, head(b"/no/%d" % at, content_type=b"")) for at in range(100))
    return opening(*(headers(stream, block, flags=5) for stream, block in blocks))


ATTACKS: dict[str, Attack] = {
    "no attack": _peace,
    "streams opened and reset": _again_and_again(_resets()),
    "CONTINUATION without end": _again_and_again(
        opening(frame(frames.HEADERS, 0, 1, head()), frame(frames.CONTINUATION, 0, 1, bytes(1000)) * 2000)
    ),
    "pings": _again_and_again(opening(frame(frames.PING, 0, 0, b"12345678") * 20_000)),
    "settings": _again_and_again(opening(frame(frames.SETTINGS) * 20_000)),
    "300 connections half open": _held(b"GET /v1/ec", 300),
    "20 calls half open": _held(opening(*(headers(stream, head(reference.UNARY)) for stream in range(1, 40, 2))), 1),
    "JSON 100,000 deep": _again_and_again(
        _posted(reference.UNARY, b"[" * 100_000, "content-type: application/json"), pause=0.005
    ),
    "unknown paths": _again_and_again(_unknown(), pause=0.005),
    "broken frames": _again_and_again(opening(frame(DATA, END_STREAM, 0, b"x"))),
}
"""What is done to the server, by name."""


def main() -> None:
    """Attack until it is stopped."""
    port, name = int(sys.argv[1]), sys.argv[2]
    os.nice(5)
    print("attacking", flush=True)
    asyncio.run(ATTACKS[name](port))


if __name__ == "__main__":
    main()
