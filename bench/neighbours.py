"""What callers wait, what a call costs and what memory grows while collector, log and scraper are slow or gone.

`python -m bench.neighbours [SECONDS]`: one worker under the reference call over REST, eight callers at a time, each
case for so many seconds (default 5). The service logs 2 KiB a call; where there is a collector every trace is sampled.
"""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING

from bench import ROOT, reference
from bench.identity import authorization, known
from bench.processes import NotMeasured, Server, stop

if TYPE_CHECKING:
    from interlock import App

START_LIMIT = 30.0
TEXT = "x" * 2048
log = logging.getLogger("bench")


def make() -> "App":
    """Make the app: the reference call, whose handler logs much."""
    from interlock import App, Call  # noqa: PLC0415 - in the measured process only
    from interlock.settings import Settings  # noqa: PLC0415
    from shop.gen.api.order.v1.order_pb import GetOrderRequest, Order  # noqa: PLC0415

    class Chatty(type(reference.handler())):  # type: ignore[misc]  # made of the abstract class, at run time
        async def get_order(self, request: GetOrderRequest, call: Call) -> Order:
            log.info("looked up %s: %s", request.order_id, TEXT)
            return reference.order(request.order_id)

    return App(Chatty(), settings=Settings(service_name="orders"))


@dataclass(slots=True)
class Watched(Server):
    """A service that runs, and its operations port."""

    operations_port: int = 0


@contextmanager
def served(*, unread: bool = False, **settings: str) -> Iterator[Watched]:
    """Start the service and yield it once it is ready; `unread`: nobody reads what it writes, out or err."""
    ports = _free_ports()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT), str(ROOT / "examples" / "shop"))),
        "INTERLOCK_PORT": str(ports[0]),
        "INTERLOCK_OPERATIONS_PORT": str(ports[1]),
        "INTERLOCK_LOG_FORMAT": "json",
        **{f"INTERLOCK_{name.upper()}": value for name, value in settings.items()},
    }
    output = subprocess.PIPE if unread else subprocess.DEVNULL
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "interlock.cli", "serve", "bench.neighbours:make"],
        cwd=ROOT,
        env=environment,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        while not _answers(ports[1]):
            if process.poll() is not None or time.perf_counter() - began > START_LIMIT:
                raise NotMeasured("the service does not start: `interlock serve bench.neighbours:make` says why")
            time.sleep(0.02)
        yield Watched(process.pid, ports[0], began, ports[1])
    finally:
        stop(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
            probe.sendall(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return probe.recv(12).endswith(b"200")
    except OSError:
        return False


# --- neighbours -----------------------------------------------------------------------------------------------------


@contextmanager
def silent_collector() -> Iterator[dict[str, str]]:
    """Run a collector that takes connections, reads nothing and never answers; yield the settings that name it."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield {"otlp_endpoint": f"http://127.0.0.1:{listening.getsockname()[1]}", "trace_ratio": "1"}
        listening.shutdown(socket.SHUT_RDWR)
    for each in held:
        each.close()


@contextmanager
def no_collector() -> Iterator[dict[str, str]]:
    """Yield the settings of a collector that is not there."""
    yield {"otlp_endpoint": f"http://127.0.0.1:{_free_ports()[0]}", "trace_ratio": "1"}


@contextmanager
def slow_scrapers(port: int, count: int) -> Iterator[None]:
    """Ask for the metrics on so many connections, and read a byte a second of each."""
    connections = []
    for _ in range(count):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n" * 20)
        connections.append(connection)
    over = threading.Event()

    def read() -> None:
        while not over.wait(1.0):
            for each in connections:
                each.recv(1)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for each in connections:
            each.close()


@contextmanager
def many_scrapers(port: int, count: int) -> Iterator[None]:
    """Scrape with so many at a time, each once a second."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(1.0):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                while connection.recv(1 << 16):
                    pass

    threads = [threading.Thread(target=scrape, daemon=True) for _ in range(count)]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in threads:
            each.join()


# --- measuring ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What callers saw and the service used in one case; `waits` in seconds, sorted."""

    waits: list[float]
    cpu: float
    """CPU microseconds a call."""
    grown: int
    """Bytes by which the service's memory grew."""

    def line(self) -> str:
        """Return the figures as text."""
        cuts = [each * 1000 for each in quantiles(self.waits, n=100)]
        return (
            f"{len(self.waits):7} calls  median {cuts[49]:6.2f} ms  P99 {cuts[98]:6.2f} ms  "
            f"longest {max(self.waits) * 1000:6.1f} ms  {self.cpu:5.0f} µs CPU a call  "
            f"memory {self.grown / (1 << 20):+6.1f} MiB"
        )


async def called(service: Watched, *, seconds: float = 0.0, calls: int = 0, callers: int = 8) -> Seen:
    """Call for so many seconds, or so often, by `callers` at a time; RuntimeError for any answer but 200."""
    waits: list[float] = []
    before, cpu = service.memory(), service.cpu()
    ends = time.perf_counter() + seconds

    async def call_on() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        head = f"GET {reference.REST}{reference.ORDER_ID} HTTP/1.1\r\nhost: bench\r\nauthorization: {authorization()}"
        data = f"{head}\r\n\r\n".encode()
        while len(waits) < calls or time.perf_counter() < ends:
            began = time.perf_counter()
            writer.write(data)
            reply = await reader.readuntil(b"\r\n\r\n")
            if not reply.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(reply.decode())
            await reader.readexactly(int(reply.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
            waits.append(time.perf_counter() - began)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(call_on() for _ in range(callers)))
    used = (service.cpu() - cpu) / len(waits) * 1e6
    return Seen(waits=sorted(waits), cpu=used, grown=service.memory() - before)


Beside = Callable[[Watched], AbstractContextManager[None]]
_nobody: Beside = lambda _service: contextlib.nullcontext()  # noqa: E731 - a value in a table of such

CASES: dict[str, tuple[Callable[[], AbstractContextManager[dict[str, str]]], bool, Beside]] = {
    "all well": (lambda: contextlib.nullcontext({}), False, _nobody),
    "collector gone": (no_collector, False, _nobody),
    "collector silent": (silent_collector, False, _nobody),
    "log and output unread": (lambda: contextlib.nullcontext({"cloudwatch": "1s"}), True, _nobody),
    "20 scrapers, a byte a second": (
        lambda: contextlib.nullcontext({}),
        False,
        lambda service: slow_scrapers(service.operations_port, 20),
    ),
    "20 scrapes a second": (
        lambda: contextlib.nullcontext({}),
        False,
        lambda service: many_scrapers(service.operations_port, 20),
    ),
}
"""By name: settings, whether output stays unread, and who else is there."""


def measure(name: str, seconds: float) -> Seen:
    """Measure one case, warmed up first."""
    settings, unread, beside = CASES[name]
    with ExitStack() as stack:
        chosen = stack.enter_context(settings())
        service = stack.enter_context(served(unread=unread, **chosen))
        asyncio.run(called(service, calls=2000))
        stack.enter_context(beside(service))
        return asyncio.run(called(service, seconds=seconds))


def main() -> None:
    """Measure every case and print a line each."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    with known():
        for name in CASES:
            print(f"{name:30} {measure(name, seconds).line()}", flush=True)


if __name__ == "__main__":
    main()
