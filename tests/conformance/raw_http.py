"""An HTTP/1.1 server that answers every request with the same exact bytes, and keeps what it was asked."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Fields = Sequence[tuple[str, str]]


def response(status: int, headers: Fields = (), body: bytes = b"") -> bytes:
    """Return a whole response; its length is added."""
    lines = [f"HTTP/1.1 {status} Raw", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1") + body


def envelope(data: bytes, flags: int = 0) -> bytes:
    """Return one envelope of a Connect stream."""
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data


@dataclass
class RawPeer:
    """Where the server is, and the heads and bodies that came."""

    url: str
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: int = 0
    certificates: list[Any] = field(default_factory=list)
    open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = field(default_factory=dict)


@asynccontextmanager
async def raw_http(
    answer: bytes, *, then_close: bool = False, silent: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawPeer]:
    """Serve `answer` on a free port; with `then_close` the connection ends after it.

    A `silent` one answers nothing, and `open` tells when the caller hung up.
    """
    peer = RawPeer("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        peer.certificates.append(writer.get_extra_info("peercert"))
        peer.open[writer] = asyncio.current_task()
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                peer.requests.append(await _request(reader))
                if silent:
                    await reader.read()
                    break
                writer.write(answer)
                await writer.drain()
                if then_close:
                    break
        writer.close()
        del peer.open[writer]

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    peer.url = f"https://localhost:{port}" if tls is not None else f"http://127.0.0.1:{port}"
    try:
        yield peer
    finally:
        server.close()
        serving = [task for task in peer.open.values() if task is not None]
        for writer in tuple(peer.open):
            writer.close()
        await asyncio.gather(*serving)
        await server.wait_closed()


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if fields.get(b"transfer-encoding") == b"chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return head, body
    return head, await reader.readexactly(int(fields.get(b"content-length", b"0")))
