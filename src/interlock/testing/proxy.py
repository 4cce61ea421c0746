"""A TCP proxy that does to connections what networks do: for tests of what a client makes of it.

    async with FaultyProxy("127.0.0.1", served.address.port) as proxy:
        client = OrderServiceClient(str(proxy.address))
        with proxy.faulty(Latency(seconds=0.2)):
            …

Faults hold from when they are set, for connections that are open too, and can be combined.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, TypeAlias

from interlock.server import Address

Way: TypeAlias = Literal["up", "down", "both"]
"""Towards the server, towards the client, or both."""

_CHUNK = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What is sent arrives `seconds` later, more or less `jitter`."""

    seconds: float
    jitter: float = 0.0
    way: Way = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """No more than so many bytes arrive in a second."""

    bytes_per_second: float
    way: Way = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowClose:
    """The end of a connection arrives `seconds` late."""

    seconds: float
    way: Way = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """The connection is reset once more than `after_bytes` arrived, or when it is made (-1)."""

    after_bytes: int = 0
    way: Way = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout:
    """Nothing arrives any more, and after `seconds` the connection is closed."""

    seconds: float
    way: Way = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutAfter:
    """The connection is closed when so many bytes arrived, in the middle of whatever they belong to."""

    after_bytes: int
    way: Way = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blackhole:
    """Connections are taken and nothing arrives, for ever."""

    way: Way = "both"


Fault: TypeAlias = Latency | Bandwidth | SlowClose | Reset | Timeout | CutAfter | Blackhole


@dataclass(slots=True, eq=False)
class _Pipe:
    """One way of one connection."""

    way: Way
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    passed: int = 0


@dataclass(slots=True, eq=False)
class _Connection:
    """Both ways of one connection, and the tasks that carry them."""

    pipes: tuple[_Pipe, _Pipe]
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    closed: bool = False

    def close(self, *, reset: bool = False) -> None:
        """End both sides at once; with `reset` the other ends see a RST instead of a FIN."""
        self.closed = True
        for pipe in self.pipes:
            if reset:
                raw = pipe.writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if reset:
                pipe.writer.transport.abort()
            else:
                pipe.writer.close()
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()


class FaultyProxy:
    """Hands connections on to `host:port` while its block runs, with the faults that are set."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._faults: tuple[Fault, ...] = ()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._bound = 0
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted = 0

    @property
    def address(self) -> Address:
        """Where it listens; RuntimeError outside its block."""
        if not self._bound:
            raise RuntimeError("the proxy listens inside its block only")
        return Address(host="127.0.0.1", port=self._bound)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def set(self, *faults: Fault) -> None:
        """Replace the faults that hold; none heals."""
        self._faults = faults
        self._changed.set()
        self._changed = asyncio.Event()

    @contextlib.contextmanager
    def faulty(self, *faults: Fault) -> Iterator[None]:
        """Add faults while the block runs."""
        before = self._faults
        self.set(*before, *faults)
        try:
            yield
        finally:
            self.set(*before)

    async def stop(self) -> None:
        """Be gone: refuse connections and cut those that are open; `start` listens on the same port again."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in tuple(self._open):
            connection.close(reset=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    async def start(self) -> None:
        """Listen; the block does so by itself."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._bound)
        self._bound = self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> "FaultyProxy":
        await self.start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._between(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _between(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        connection = _Connection((_Pipe("up", reader, up_writer), _Pipe("down", up_reader, writer)))
        self._open.add(connection)
        if any(isinstance(each, Reset) and each.after_bytes < 0 for each in self._faults):
            connection.close(reset=True)
        connection.tasks = {asyncio.create_task(self._carry(pipe, connection)) for pipe in connection.pipes}
        try:
            await asyncio.gather(*connection.tasks, return_exceptions=True)
        finally:
            for each in connection.tasks:
                each.cancel()
            self._open.discard(connection)
            connection.close()

    def _on(self, pipe: _Pipe) -> list[Fault]:
        return [each for each in self._faults if each.way in ("both", pipe.way)]

    async def _carry(self, pipe: _Pipe, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while chunk := await pipe.reader.read(_CHUNK):
                if not await self._pass(pipe, connection, chunk):
                    return
        for fault in self._on(pipe):
            if isinstance(fault, SlowClose):
                await asyncio.sleep(fault.seconds)
        with contextlib.suppress(OSError):
            pipe.writer.write_eof()

    async def _pass(self, pipe: _Pipe, connection: _Connection, chunk: bytes) -> bool:
        """Hand a chunk on as the faults have it; False when the connection is over."""
        for fault in await self._through_silence(pipe, connection):
            match fault:
                case Latency():
                    await asyncio.sleep(max(0.0, fault.seconds + fault.jitter * random.uniform(-1, 1)))  # noqa: S311 - no secret
                case Bandwidth():
                    await asyncio.sleep(len(chunk) / fault.bytes_per_second)
                case Reset() | CutAfter():
                    left = fault.after_bytes - pipe.passed
                    if len(chunk) > left:
                        await self._write(pipe, chunk[: max(0, left)])
                        connection.close(reset=isinstance(fault, Reset))
                        return False
                case _:
                    pass
        if connection.closed:
            return False
        await self._write(pipe, chunk)
        return True

    async def _through_silence(self, pipe: _Pipe, connection: _Connection) -> list[Fault]:
        """Wait while nothing may pass; return the other faults."""
        while True:
            faults, changed = self._on(pipe), self._changed
            if any(isinstance(each, Blackhole) for each in faults):
                await changed.wait()
                continue
            timeout = next((each for each in faults if isinstance(each, Timeout)), None)
            if timeout is None:
                return faults
            try:
                await asyncio.wait_for(changed.wait(), timeout.seconds)
            except TimeoutError:
                connection.close()
                return []

    async def _write(self, pipe: _Pipe, chunk: bytes) -> None:
        pipe.passed += len(chunk)
        pipe.writer.write(chunk)
        await pipe.writer.drain()
