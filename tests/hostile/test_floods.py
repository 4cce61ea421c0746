"""Floods of HTTP/2 frames: streams opened and reset, headers without end, pings, settings, calls left open."""

import asyncio
import contextlib

import pytest

from tests.hostile import frames
from tests.hostile.frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    SETTINGS,
    frame,
    head,
    headers,
    opening,
    read,
)
from tests.hostile.target import PATIENCE, Target

pytestmark = pytest.mark.asyncio(loop_scope="module")

STREAMS = 20_000
HALF_OPEN = 300


async def test_rapid_reset(target: Target) -> None:
    """20,000 streams, each reset at once (CVE-2023-44487), over as many connections as the server makes of it."""
    sent = 0
    async with target.unharmed():
        block = head(frames.SLOW)
        for _ in range(200):
            reader, writer = await target.connect()
            with contextlib.suppress(OSError):
                writer.write(opening())
                for stream in range(1, 2 * STREAMS, 2):
                    writer.write(headers(stream, block) + frames.reset(stream))
                    sent += 1
                    if stream % 200 == 1:
                        await writer.drain()
                    if sent >= STREAMS or reader.at_eof():
                        break
            writer.close()
            if sent >= STREAMS:
                break
        await target.quiet()
    assert sent >= STREAMS


async def test_headers_without_end(target: Target) -> None:
    """20 MB of CONTINUATION frames are not kept; the connection ends (CVE-2024-27316)."""
    part = frames.fields((b"x-more", b"y" * 1000))
    flood = b"".join(frame(CONTINUATION, 0, 1, part) for _ in range(20_000))
    async with target.unharmed(growth=32 << 20):
        await _cut_off(target, opening(frame(HEADERS, 0, 1, head()), flood))


async def test_empty_continuations(target: Target) -> None:
    """CONTINUATION frames with nothing in them never end either."""
    async with target.unharmed(growth=32 << 20):
        await _cut_off(target, opening(frame(HEADERS, 0, 1, head()), frame(CONTINUATION, 0, 1) * 200_000))


async def _cut_off(target: Target, data: bytes) -> None:
    """Say it; the server hangs up by itself, and answers no call of it."""
    async with asyncio.timeout(PATIENCE):
        came = await target.say(data, wait=2 * PATIENCE)
    assert not read(came).fields


@pytest.mark.parametrize("kind", ["ping", "settings", "settings that change", "empty data", "priority", "unknown"])
async def test_flood(target: Target, kind: str) -> None:
    """100,000 frames that ask for an answer or for nothing, from a peer that reads none of what comes back."""
    piece = {
        "ping": frame(PING, 0, 0, b"12345678"),
        "settings": frame(SETTINGS),
        "settings that change": frame(SETTINGS, 0, 0, b"\x00\x04\x00\x00\xff\xff") * 4,
        "empty data": frame(frames.DATA, 0, 1),
        "priority": frame(frames.PRIORITY, 0, 3, b"\x00\x00\x00\x00\x10"),
        "unknown": frame(0xBE, 0, 0, b"what is this"),
    }[kind]
    async with target.unharmed(growth=32 << 20):
        reader, writer = await target.connect()
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(opening(headers(1, head(frames.SLOW))))
            async with asyncio.timeout(5):
                for _ in range(100):
                    writer.write(piece * 1000)
                    await writer.drain()
        writer.transport.abort()
        del reader


async def test_answers_that_nobody_reads(target: Target) -> None:
    """A peer asks for 4 MiB two hundred times, with wide windows, and reads nothing."""
    ask = frames.message(b"\x08\x80\x80\x80\x01")  # BlobRequest(size=2 MiB)
    wide = frame(SETTINGS, 0, 0, b"\x00\x04\x7f\xff\xff\xff") + frame(frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\x00\x00")
    calls = b"".join(
        headers(stream, head("/sample.v1.SampleService/Blob")) + frame(frames.DATA, END_STREAM, stream, ask)
        for stream in range(1, 100, 2)
    )
    async with target.unharmed(growth=256 << 20):
        _, writer = await target.connect()
        writer.write(opening(wide, calls))
        await asyncio.sleep(1)
        writer.transport.abort()
        await target.quiet()


async def test_half_open_calls(target: Target) -> None:
    """300 calls whose body never comes, on one connection after the other, hold nobody up; leaving ends them."""
    async with target.unharmed(), contextlib.AsyncExitStack() as opened:
        for _ in range(3):
            _, writer = await target.connect()
            opened.callback(writer.close)
            streams = range(1, 2 * HALF_OPEN // 3, 2)
            writer.write(opening(*(headers(stream, head()) for stream in streams)))
            await writer.drain()
        for _ in range(20):
            assert (await target.get("/v1/echo/between"))[0] == 200
    await target.quiet()


async def test_half_open_connections(target: Target) -> None:
    """300 connections that say nothing, or half a word, hold nobody up."""
    async with target.unharmed():
        writers = [(await target.connect())[1] for _ in range(HALF_OPEN)]
        for number, writer in enumerate(writers):
            writer.write((b"", b"GET /v1/ec", frames.PREFACE[:10], opening())[number % 4])
        for _ in range(20):
            assert (await target.get("/v1/echo/between"))[0] == 200
        for writer in writers:
            writer.close()


async def test_acknowledgements_of_nothing(target: Target) -> None:
    """SETTINGS and PING acknowledged that were never sent change nothing."""
    odd = frame(SETTINGS, ACK) * 100 + frame(PING, ACK, 0, b"87654321") * 10_000
    async with target.unharmed(growth=32 << 20):
        call = headers(1, head(b"/v1/echo/after", method=b"GET", content_type=b""), END_HEADERS | END_STREAM)
        came = await target.say(opening(odd, call), wait=PATIENCE, enough=lambda came: read(came).over(1))
    assert read(came).fields[1][":status"] == "200"
