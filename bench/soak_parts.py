"""What takes part in a soak: banks and servers that are killed and come back, and a disk that can be filled."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from asyncio import Lock
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]  # published without types

from interlock.data import Database
from interlock.errors import Error
from interlock.events.broker import BrokerUnavailable, open_broker
from interlock.events.brokers.rabbitmq import RabbitBroker
from interlock.testing.nats_server import nats_process
from interlock.testing.postgresql import postgresql_process
from interlock.testing.rabbitmq_server import rabbitmq_process
from interlock.testing.servers import NoServer, ServerProcess
from interlock.testing.waiting import until
from tests.ledger import banks

_FAILURE = re.compile(r"(?:\w+\.)*(\w+)(?::|$)")
_FOLLOWED = ("The above exception was the direct cause", "During handling of the above exception")
_EXPECTED = frozenset(("BrokerUnavailable", "NoRoom", "Unavailable"))
"""What a bank may end with: its broker or its database was away, or the disk full, when it started."""


class Process(Protocol):
    """Something that is killed with -9 and started again."""

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...


class Bank:
    """A bank's process: `part` is sender, receiver, or quiet, a sender that sends no more."""

    def __init__(self, part: str, database_url: str, broker_url: str, notes: Path) -> None:
        self.part = part
        self.log = notes / f"{part}.log"
        self._rest = (database_url, broker_url, str(notes))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, in a session of its own: Ctrl-C reaches the soak alone."""
        command = [sys.executable, "-m", "tests.ledger.process", self.part, *self._rest]
        with self.log.open("ab") as said:
            self._process = subprocess.Popen(command, start_new_session=True, stdout=said, stderr=said)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it for good, in good order."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
            self.kill()

    def last_words(self) -> list[str]:
        """Return what it ended with, or logged with a trace, but for servers that were away."""
        said = self.log.read_text(errors="replace") if self.log.exists() else ""
        found: dict[str, None] = {}
        for trace in said.split("Traceback (most recent call last):\n")[1:]:
            words = next((line for line in trace.splitlines() if line and not line.startswith(" ")), "")
            told = _FAILURE.match(words)
            if not any(each in trace for each in _FOLLOWED) and not (told and told[1] in _EXPECTED):
                found[words] = None
        return [f"the {self.part} said: {each[:200]}" for each in found]


class Victim:
    """A process under fire; one hand at a time starts or kills it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.kills = 0
        self._lock = Lock()

    async def kill(self) -> None:
        """Kill it and have it back."""
        async with self._lock:
            await asyncio.to_thread(self.process.kill)
            self.kills += 1
        await self.revive()

    async def revive(self) -> None:
        """Start it if it has ended by itself; what it waits for may be away, so that it ends again."""
        async with self._lock:
            if not self.process.running:
                with suppress(NoServer):
                    await asyncio.to_thread(self.process.start)


class Disk:
    """A small file system of its own at `directory`, where one can be mounted; it is full but for `leaves` bytes."""

    def __init__(self, directory: Path, mounted: bool, leaves: int) -> None:
        self.directory = directory
        self.mounted = mounted
        self._leaves = leaves
        self._ballast = directory / "ballast"

    def fill(self) -> None:
        """Take what is free, also what has become free since."""
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):
            for size in (1 << 20, 4096):
                while self._free() - size >= self._leaves:
                    file.write(bytes(size))

    def clear(self) -> None:
        """Give all of it free."""
        self._ballast.unlink(missing_ok=True)

    def _free(self) -> int:
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_bsize


@contextmanager
def disk(*, megabytes: int = 384, leaves: int = 0) -> Iterator[Disk]:
    """Mount a tmpfs while the block runs, or make a plain directory: one may not mount everywhere."""
    with tempfile.TemporaryDirectory(prefix="interlock-soak-disk-") as made:
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "interlock-soak", made]
        try:
            mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            mounted = False
        try:
            yield Disk(Path(made), mounted, leaves)
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", made], check=True)


RABBITMQ_KEEPS = 24 << 20
"""Bytes that are left to RabbitMQ, less than the 50 MB at which it stops publishers by itself: with none at all it
loses what it has confirmed, and needs its alarm to come first."""


@contextmanager
def broker(kind: str, directory: Path) -> Iterator[tuple[str, ServerProcess | None]]:
    """Run a broker that stores below `directory`; yields its URL, and its process if it is one."""
    name = f"soak{uuid4().hex[:8]}"
    with ExitStack() as stack:
        match kind:
            case "embedded":
                yield f"embedded:{directory}/broker.db", None
            case "nats":
                server = stack.enter_context(nats_process(directory))
                yield f"{server.url}?stream={name}", server
            case _:
                server = stack.enter_context(rabbitmq_process(directory))
                yield f"{server.url}?name={name}", server


@asynccontextmanager
async def databases(engine: str, directory: Path) -> AsyncIterator[tuple[list[str], ServerProcess | None]]:
    """Make a database for each bank; yields their URLs, and the server's process if there is one."""
    names = ("sending", "receiving")
    if engine == "sqlite":
        yield [f"sqlite:///{directory}/{name}.db" for name in names], None
        return
    with postgresql_process(directory) as server:
        connection = await until(lambda: _connected(server.url), 20.0)
        for name in names:
            await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        yield [f"{server.url.rpartition('/')[0]}/{name}" for name in names], server


async def _connected(url: str) -> asyncpg.Connection | None:
    try:
        return await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError):
        return None


async def groups_known(broker_url: str) -> None:
    """Have both banks' groups at the broker, where one that is new would miss what was published before."""
    opened = open_broker(broker_url)
    if isinstance(opened, RabbitBroker):
        await opened.start()
        await opened.make_group(banks.RECEIVER, ["transfer.sent"])
        await opened.make_group(banks.SENDER, ["transfer.received"])
        await opened.stop()


async def dead_letters(broker_url: str) -> int:
    """Count all dead letters."""
    opened = open_broker(broker_url)

    async def started() -> bool:
        try:
            await opened.start()
        except BrokerUnavailable:
            return False
        return True

    await until(started, 60.0, pause=0.2)
    try:
        return len(await opened.dead_letters(limit=1000))
    finally:
        await opened.stop()


async def books(database: Database, limit: float = 60.0) -> banks.Books:
    """Read a bank's books, its database being away now and then."""

    async def read() -> banks.Books | None:
        try:
            return await banks.read_books(database)
        except Error:
            return None

    return await until(read, limit, pause=0.2)
