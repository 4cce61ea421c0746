"""`interlock serve` as a process of its own, on free ports, told by environment, ended after the test."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2

import interlock
from tests.waiting import until

SOURCE = Path(interlock.__file__).parents[1]
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Process:
    """One `interlock serve`; `output` is what it has written so far."""

    def __init__(self, directory: Path, target: str, *arguments: str, **variables: str) -> None:
        self.port = self.operations_port = free_port()
        while self.operations_port == self.port:
            self.operations_port = free_port()
        self._log = directory / "output.txt"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join((str(SOURCE), str(ROOT))),
            "INTERLOCK_PORT": str(self.port),
            "INTERLOCK_OPERATIONS_PORT": str(self.operations_port),
            **{f"INTERLOCK_{name.upper()}": value for name, value in variables.items()},
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "interlock.cli", "serve", target, *arguments],
                cwd=directory,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """The process id of the parent."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where REST is served."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """All that it wrote."""
        return self._log.read_text()

    @property
    def code(self) -> int | None:
        """The exit code, once there is one."""
        return self._process.poll()

    async def ready(self, times: int = 1) -> "Process":
        """Wait for the banner."""
        await until(lambda: self.output.count("Ctrl-C stops") >= times or self.code is not None, 20)
        assert self.code is None, self.output
        return self

    async def says(self, text: str, times: int = 1) -> None:
        """Wait until it has written `text`."""
        try:
            await until(lambda: self.output.count(text) >= times, 20)
        except TimeoutError:
            raise AssertionError(f"no {text!r} in:\n…{self.output[-2000:]}") from None

    async def ended(self) -> int:
        """Wait for its end; return the exit code."""
        await until(lambda: self.code is not None, 30)
        assert self.code is not None
        return self.code

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def get(self, path: str) -> httpx2.Response:
        """Ask by REST on a new connection."""
        async with httpx2.AsyncClient(timeout=20) as client:
            return await client.get(self.url + path)

    async def probe(self, path: str) -> int:
        """Return the status of a path on the operations port."""
        async with httpx2.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{self.operations_port}{path}")).status_code

    async def worker(self) -> int:
        """Return the process id of who answers."""
        return int((await self.get("/v1/echo/pid")).json()["data"]["text"])

    async def workers(self, count: int) -> set[int]:
        """Return the process ids of all `count` workers."""
        found: set[int] = set()
        async with asyncio.timeout(10):
            while len(found) < count:
                found.add(await self.worker())
        return found

    def end(self) -> None:
        """End it whatever it does; its workers follow."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def serving_process(directory: Path, target: str, *arguments: str, **variables: str) -> Iterator[Process]:
    """Start a process, and end it with the block."""
    process = Process(directory, target, *arguments, **variables)
    try:
        yield process
    finally:
        process.end()
