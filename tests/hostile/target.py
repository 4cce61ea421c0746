"""The attacked process, and what must hold of it during and after an attack."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.server.processes import Process
from tests.waiting import until

GROWTH_BYTES = 96 << 20
"""How much a worker's resident memory may grow under one attack."""
NEW_SERIES = 64
"""How many series of metrics one attack may add."""
PATIENCE = 20.0
"""Seconds in which another caller must be answered, on a machine whose cores are all busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is measured before and after."""

    worker: int
    resident: int
    series: int


class Target:
    """One served worker under attack."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def state(self) -> State:
        """Measure the worker."""
        worker = int(json.loads((await self.get("/v1/echo/pid"))[1])["data"]["text"])
        status = _status(worker)
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        text = await self._metrics()
        series = sum(1 for line in text.splitlines() if line and not line.startswith("#"))
        return State(worker=worker, resident=int(found[1]) * 1024, series=series)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open one connection to the API port."""
        return await asyncio.open_connection("127.0.0.1", self.process.port)

    async def say(
        self, data: bytes, *, pieces: int = 1 << 16, wait: float = 5.0, enough: Callable[[bytes], bool] | None = None
    ) -> bytes:
        """Connect, send bytes, and return what comes until the server closes, it is `enough`, or `wait` seconds on."""
        reader, writer = await self.connect()
        reading = asyncio.create_task(_read(reader, enough))
        try:
            with contextlib.suppress(OSError):
                for start in range(0, len(data), pieces):
                    writer.write(data[start : start + pieces])
                    await writer.drain()
            await asyncio.wait([reading], timeout=wait)
            reading.cancel()
            return await reading
        finally:
            writer.close()

    @asynccontextmanager
    async def unharmed(self, *, growth: int = GROWTH_BYTES) -> AsyncIterator[None]:
        """Attack in the block. Another caller is answered all the while, and afterwards the worker is well."""
        before = await self.state()
        over = asyncio.Event()
        bystander = asyncio.create_task(self._bystander(over))
        try:
            yield
        finally:
            over.set()
            answered = await asyncio.wait_for(bystander, PATIENCE + 5)
        assert answered > 0
        after = await self.state()
        assert after.worker == before.worker, "the worker was replaced"
        assert after.resident - before.resident < growth, f"{(after.resident - before.resident) >> 20} MiB more"
        assert after.series - before.series <= NEW_SERIES, f"{after.series - before.series} more series"
        assert "Traceback" not in self.process.output, self.process.output[-3000:]
        assert "panicked" not in self.process.output, self.process.output[-3000:]

    async def _bystander(self, over: asyncio.Event) -> int:
        """Ask now and then, on one connection and on new ones; return how often."""
        answered = 0
        reader, writer = await self.connect()
        try:
            while not over.is_set() or not answered:
                for answering in (_asked(reader, writer, "/v1/echo/kept"), self.get("/v1/echo/new")):
                    status, body = await asyncio.wait_for(answering, PATIENCE)
                    assert status == 200, body
                    answered += 1
                await asyncio.sleep(0.02)
        finally:
            writer.close()
        return answered

    async def quiet(self) -> None:
        """Wait until no call runs any longer."""
        await until(self._idle, 30)

    async def _idle(self) -> bool:
        text = await self._metrics()
        running = re.findall(r"^service_requests_in_flight(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE)
        assert running, "the metric of running calls has another name"
        return all(float(each) == 0 for each in running)

    async def _metrics(self) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.process.operations_port)
        return (await _got(reader, writer, "/metrics"))[1].decode()

    async def get(self, path: str) -> tuple[int, bytes]:
        """Ask on a new connection; return status and body."""
        return await _got(*await self.connect(), path)


def _status(worker: int) -> str:
    return Path(f"/proc/{worker}/status").read_text()


async def _read(reader: asyncio.StreamReader, enough: Callable[[bytes], bool] | None) -> bytes:
    came = bytearray()
    with contextlib.suppress(OSError, asyncio.CancelledError):
        while data := await reader.read(1 << 16):
            came += data
            if enough is not None and enough(bytes(came)):
                break
    return bytes(came)


async def _got(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> tuple[int, bytes]:
    try:
        return await _asked(reader, writer, path)
    finally:
        writer.close()


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> tuple[int, bytes]:
    """Send a GET over HTTP/1.1, by hand: a client's own work must not be what is waited for."""
    writer.write(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"^content-length: (\d+)", lines, re.MULTILINE)
    assert length is not None, lines
    return int(lines.split(" ")[1]), await reader.readexactly(int(length[1]))
