"""`python -m bench.restarts`: a service of two processes is restarted again and again under load.

Each process has two workers and an address of its own. In turn one is told to replace its workers (SIGHUP), or ended
(SIGTERM) and started anew once it has drained, as a deployment would. Meanwhile gRPC and Connect clients call an
operation that may be repeated, and one that carries a key; none of their callers may see an error.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import ROOT, report
from bench.figures import Goal, Section
from interlock import Error
from interlock.protocols.connect_client import ConnectTransport
from interlock.protocols.http_pool import Pools
from interlock.testing import until
from interlock.testing.servers import free_port
from tests.sample.gen.sample.v1.sample_pb import CreateThingRequest, ListThingsRequest
from tests.sample.gen.sample.v1.sample_rpc import CREATE_THING, LIST_THINGS, SampleServiceClient

HOSTS = ("127.0.0.1", "127.0.0.2")
RESULTS = Path(__file__).parent / "results/restarts.json"
PATIENCE = 60.0
"""Seconds, at most, for one restart; several times what it takes where others need the machine too."""


class Instance:
    """One `interlock serve` with two workers, on an address of its own."""

    def __init__(self, host: str, port: int, directory: Path) -> None:
        self._host = host
        self._port = port
        self._log = directory / f"{host}.txt"
        self._log.touch()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        environment |= {
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
            "INTERLOCK_HOST": self._host,
            "INTERLOCK_PORT": str(self._port),
            "INTERLOCK_OPERATIONS_PORT": str(free_port()),
            "INTERLOCK_WORKERS": "2",
            "INTERLOCK_LOG_LEVEL": "info",
            "INTERLOCK_OPERATIONS": json.dumps({"sample.v1.SampleService/CreateThing": {"rate_limit": "1000000/1s"}}),
        }
        command = [sys.executable, "-m", "interlock.cli", "serve", "tests.sample.handlers:make"]
        before = self._said("Ctrl-C stops")
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, cwd=self._log.parent, env=environment, stdout=log, stderr=log
            )
        await self._says("Ctrl-C stops", before)

    async def replace_workers(self) -> None:
        """Have all its workers replaced."""
        before = self._said("all workers are replaced")
        self._signal(signal.SIGHUP)
        await self._says("all workers are replaced", before)

    async def stop(self) -> None:
        """End it, and wait until it has drained; what ends badly is an error."""
        self._signal(signal.SIGTERM)
        process = self._process
        assert process is not None
        async with asyncio.timeout(PATIENCE):
            await process.wait()
        if process.returncode:
            raise RuntimeError(f"a service ended with {process.returncode}:\n{self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it whatever it does."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _said(self, text: str) -> int:
        return self._log.read_text().count(text)

    async def _says(self, text: str, before: int) -> None:
        process = self._process
        assert process is not None
        await until(lambda: self._said(text) > before or process.returncode is not None, PATIENCE)
        if process.returncode is not None:
            raise RuntimeError(f"a service does not start:\n{self._log.read_text()[-2000:]}")


@dataclass(slots=True)
class Tally:
    """What became of the calls of one client."""

    calls: int = 0
    again: int = 0
    slowest: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)


async def ask(client: SampleServiceClient, tally: Tally, over: asyncio.Event) -> None:
    """Call until it is over; an error that a caller sees is counted, nothing is done about it."""
    number = 0
    while not over.is_set():
        number += 1
        began = time.perf_counter()
        try:
            if number % 2:
                reply = await client.call(LIST_THINGS, ListThingsRequest())
                tally.again += reply.attempts > 1
            else:
                made = await client.call(CREATE_THING, CreateThingRequest(name=f"t-{number}"))
                tally.again += made.attempts > 1
        except Error as error:
            tally.errors[f"{type(error).__name__}: {error.message}"] += 1
        tally.calls += 1
        tally.slowest = max(tally.slowest, time.perf_counter() - began)
        await asyncio.sleep(0.005)


@asynccontextmanager
async def clients(port: int) -> AsyncIterator[dict[str, SampleServiceClient]]:
    """Give a client of each protocol, of both addresses."""

    async def both(_name: str, _port: int) -> Sequence[str]:
        return HOSTS

    grpc = SampleServiceClient("ipv4:" + ",".join(f"{host}:{port}" for host in HOSTS), connections=2)
    connect = SampleServiceClient(ConnectTransport(f"http://service.test:{port}", pools=Pools(resolve=both)))
    async with grpc, connect:
        yield {"gRPC": grpc, "Connect": connect}


async def measure(restarts: int, *, callers: int = 4, progress: Callable[[int], None] = lambda _: None) -> Section:
    """Restart so many times under the load of `callers` for each client, and return what their callers saw."""
    tallies: dict[str, Tally] = {}
    longest = 0.0
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        instances = [Instance(host, port, directory) for host in HOSTS]
        for each in instances:
            stack.callback(each.kill)
        await asyncio.gather(*(each.start() for each in instances))
        over = asyncio.Event()
        async with clients(port) as connected, asyncio.TaskGroup() as group:
            for name, client in connected.items():
                tallies[name] = Tally()
                for _ in range(callers):
                    group.create_task(ask(client, tallies[name], over))
            try:
                for number in range(restarts):
                    began = time.perf_counter()
                    await _restart(instances[number // 2 % 2], anew=bool(number % 2))
                    longest = max(longest, time.perf_counter() - began)
                    progress(number + 1)
            finally:
                over.set()
        await asyncio.gather(*(each.stop() for each in instances))
    return _section(restarts, tallies, longest)


def _restart(instance: Instance, *, anew: bool) -> Awaitable[None]:
    async def start_anew() -> None:
        await instance.stop()
        await instance.start()

    return start_anew() if anew else instance.replace_workers()


def _section(restarts: int, tallies: dict[str, Tally], longest: float) -> Section:
    section = Section(
        "restarts",
        f"{restarts} rolling restarts under load, of two processes with two workers each",
        f"SIGHUP and SIGTERM in turn, a restart took {longest:.1f} s at most; calls that may be repeated",
    )
    for name, tally in tallies.items():
        section.add(name, "calls", "", [tally.calls])
        section.add(name, "failed", "", [sum(tally.errors.values())], Goal(0, at_most=True))
        section.add(name, "tried again", "", [tally.again])
        section.add(name, "slowest", "ms", [tally.slowest * 1000])
        for error, times in tally.errors.items():
            section.missing[f"{name}, {times} x"] = error
    return section


def main() -> int:
    """Measure, print and keep the figures; return 1 if a call failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--restarts", type=int, default=100, metavar="N", help="how many (default: 100)")
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    given = parser.parse_args()
    section = asyncio.run(measure(given.restarts, progress=lambda done: print(f"\r{done}", end="", file=sys.stderr)))
    print(file=sys.stderr)
    report.show(section, report.console())
    if not given.dry:
        report.write([section], RESULTS)
    return int(any(figure.met is False for figure in section.figures))


if __name__ == "__main__":
    sys.exit(main())
