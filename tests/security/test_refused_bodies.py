"""Bodies of callers who were not let in: read past a little, so that the refusal is seen, and no further."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from interlock.security.access import roles_from
from interlock.security.keys import load_keys
from interlock.security.tokens import Issuer
from interlock.server import Address, serving
from interlock.settings import Settings
from tests.sample.handlers import make

RPC = "/sample.v1.SampleService/Whisper"
DOORS = {
    "rest": ("/v1/whisper", "application/json", b"401"),
    "connect": (RPC, "application/json", b"401"),
    "grpc-web": (RPC, "application/grpc-web+proto", b"grpc-status: 16"),
}
CHUNK = b" " * 65_536


@pytest.fixture
async def address(directory: Path) -> AsyncIterator[Address]:
    """The sample, where a whisperer may whisper."""
    roles = roles_from({"whisperer": ["sample:whisper"], "idle": []})
    async with serving(make(settings=Settings(keys=directory), roles=roles)) as found:
        yield found


def head(door: str, *fields: str) -> bytes:
    path, kind, _ = DOORS[door]
    return "\r\n".join((f"POST {path} HTTP/1.1", "host: x", f"content-type: {kind}", *fields, "", "")).encode()


async def upload(address: Address, first: bytes) -> tuple[bytes, float]:
    """Send `first` and then as much as is taken, reading meanwhile; what came, and the seconds until the end."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    begun = time.monotonic()

    async def send() -> None:
        writer.write(first)
        while True:
            writer.write(CHUNK)
            await writer.drain()

    sending = asyncio.create_task(send())
    found = b""
    try:
        async with asyncio.timeout(30):
            while chunk := await reader.read(65_536):
                found += chunk
    except ConnectionError:
        pass  # the end of a connection whose caller is still sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()
    return found, time.monotonic() - begun


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("framing", ["content-length: 1073741824", "transfer-encoding: chunked"])
async def test_a_stranger_is_not_listened_to_for_long(address: Address, door: str, framing: str) -> None:
    """Of a gigabyte the beginning is taken; the answer is there, and says that the connection ends."""
    first = head(door, framing) + (b"40000000\r\n" if "chunked" in framing else b"")
    found, took = await upload(address, first)
    assert DOORS[door][2] in found.lower()
    assert b"connection: close" in found.lower()
    assert took < 5


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_little_is_read_of_strangers_and_more_of_others(directory: Path, door: str, version: str) -> None:
    """No credential, or too small a role: four megabytes; who was let in has 128, as has a path that leads nowhere."""
    app = make(settings=Settings(keys=directory), roles=roles_from({"whisperer": ["sample:whisper"], "idle": []}))
    issuer = Issuer(keys=load_keys(directory))
    path, kind, _ = DOORS[door]

    async def taken(role: str = "", path: str = path) -> int:
        read = 0

        async def receive() -> dict[str, Any]:
            nonlocal read
            read += len(CHUNK)
            return {"type": "http.request", "body": CHUNK, "more_body": True}

        async def send(_event: object) -> None:
            """Take it."""

        head = [(b"content-type", kind.encode()), (b"transfer-encoding", b"chunked")]
        if role:
            head.append((b"authorization", f"Bearer {issuer.mint('bob', [role])}".encode()))
        about = {"type": "http", "method": "POST", "path": path, "query_string": b"", "scheme": "http", "headers": head}
        await app({**about, "http_version": version, "client": ("192.0.2.7", 5)}, receive, send)
        return read

    reads_on = door == "rest" or version == "1.1"
    little = 4 << 20 if reads_on else 0
    assert [await taken(), await taken("idle")] == [little, little]
    assert await taken("whisperer") > (100 << 20 if reads_on else 0)
    if door == "rest":
        assert await taken(path="/nowhere") > 100 << 20


@pytest.mark.parametrize("door", DOORS)
async def test_who_sends_nothing_is_waited_for_a_second(address: Address, door: str) -> None:
    """A body that was announced and does not come holds no connection."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(head(door, "content-length: 1073741824") + b"x")
    async with asyncio.timeout(10):
        found = await reader.read(-1)
    writer.close()
    assert DOORS[door][2] in found.lower()


async def test_a_small_body_costs_no_connection(address: Address) -> None:
    """What a sound request might have had is read past whole, and the connection goes on."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    async with asyncio.timeout(20):
        for _ in range(3):
            writer.write(head("rest", f"content-length: {16 * len(CHUNK)}") + CHUNK * 16)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 401 " in answer
            assert b"connection: close" not in answer.lower()
            if b"chunked" in answer.lower():
                await reader.readuntil(b"0\r\n\r\n")
            else:
                length = int(answer.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
    writer.close()
