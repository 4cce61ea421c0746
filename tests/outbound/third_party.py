"""A third party for tests: an HTTP/1.1 server on a real port that answers as its script says, down to the bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; header names are lower-case."""

    verb: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer: TypeAlias = "bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]"


def response(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return a response; underscores in the names of headers are hyphens."""
    fields = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + body


_HELLO = response(200, b"hello")


@dataclass
class ThirdParty:
    """What it was asked, and its answers: the script's first, then `otherwise`; `connections` counts those made."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    script: list[Answer] = field(default_factory=list)
    otherwise: Answer = _HELLO
    connections: int = 0
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await _read(reader)) is not None:
                self.asked.append(request)
                answer = self.script.pop(0) if self.script else self.otherwise
                if isinstance(answer, bytes):
                    writer.write(answer)
                else:
                    await answer(writer)
                await writer.drain()
                if writer.is_closing():
                    return
        except (OSError, asyncio.IncompleteReadError, ValueError, asyncio.CancelledError):  # ValueError: half a chunk
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while (size := int(await reader.readline(), 16)) > 0:
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    verb, path, _ = first.split()
    return Asked(verb, path, headers, body)


async def hang(_writer: asyncio.StreamWriter) -> None:
    """Answer nothing."""
    await asyncio.sleep(60)


async def cut(writer: asyncio.StreamWriter) -> None:
    """Send half of a body, then close."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def reset(writer: asyncio.StreamWriter) -> None:
    """Close without a word."""
    writer.transport.abort()


@asynccontextmanager
async def third_party() -> AsyncIterator[ThirdParty]:
    """Run one."""
    party = ThirdParty()
    server = await asyncio.start_server(party._serve, "127.0.0.1", 0)
    party.port = server.sockets[0].getsockname()[1]
    try:
        yield party
    finally:
        server.close()
        for task in list(party._tasks):
            task.cancel()
        await asyncio.gather(*party._tasks, return_exceptions=True)
        await server.wait_closed()
