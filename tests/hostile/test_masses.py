"""Too much of everything: bombs, header fields, unknown paths, and those who take for ever."""

import asyncio
import contextlib
import gzip
import json
import time
import zlib
from typing import Any

import brotli
import httpx2
import pytest
import zstandard

from tests.hostile import frames
from tests.hostile.conftest import BODY_SECONDS, HEAD_SECONDS
from tests.hostile.frames import END_STREAM, Said, frame, head, headers, message, opening, read
from tests.hostile.target import PATIENCE, Target

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED = "resource_exhausted"
EXHAUSTED = "8"


def gzip_bomb(size: int) -> bytes:
    """Return `size` bytes that become a thousand times as many: one block of zeros, repeated (RFC 1951 §3.2.3)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    head_of_file = gzip.compress(b"")[:10]
    return head_of_file + block * (size // len(block) + 1)


def bomb(coding: str) -> bytes:
    """Return at most 4 MiB that become 1 GiB or more."""
    if coding == "gzip":
        return gzip_bomb(3 << 20)
    zeros = bytes(64 << 20)
    if coding == "zstd":
        return bytes(zstandard.ZstdCompressor(level=1).compress(zeros)) * 16
    packer: Any = brotli.Compressor(quality=1)
    return b"".join([packer.process(zeros) for _ in range(4)]) + bytes(packer.finish())


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """A bomb in every coding."""
    return {coding: bomb(coding) for coding in ("gzip", "zstd", "br")}


def compressed_call(door: str, coding: str, body: bytes) -> tuple[str, dict[str, str], bytes]:
    """Return path, header fields and content of a compressed request through a door."""
    match door:
        case "rest":
            return "/v1/echo", {"content-type": "application/json", "content-encoding": coding}, body
        case "connect":
            return frames.ECHO, {"content-type": "application/json", "content-encoding": coding}, body
        case "connect stream":
            kind = {"content-type": "application/connect+json", "connect-content-encoding": coding}
            return "/sample.v1.SampleService/Sum", kind, message(body, flag=1) + message(b"{}", flag=2)
        case _:
            kind = {"content-type": f"application/{door}", "grpc-encoding": coding, "te": "trailers"}
            return frames.ECHO, kind, message(body, flag=1)


@pytest.mark.parametrize("coding", ["gzip", "zstd", "br"])
@pytest.mark.parametrize("door", ["rest", "connect", "connect stream", "grpc", "grpc-web"])
async def test_a_bomb_is_not_inflated(target: Target, bombs: dict[str, bytes], door: str, coding: str) -> None:
    """Compressed bytes within the limit that become a gigabyte are refused, in little memory and little time."""
    path, fields, content = compressed_call(door, coding, bombs[coding])
    began = time.monotonic()
    async with (
        target.unharmed(growth=64 << 20),
        httpx2.AsyncClient(
            base_url=target.process.url, timeout=30, http1=door != "grpc", http2=door == "grpc"
        ) as client,
    ):
        answers = []
        for _ in range(3):  # what one keeps of its body would add up
            answers += await asyncio.gather(*(client.post(path, content=content, headers=fields) for _ in range(4)))
    assert [each for each in answers if not _too_large(door, each)] == []
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("door", ["rest", "connect", "connect stream", "grpc-web"])
async def test_ten_megabytes_of_gzip(target: Target, door: str) -> None:
    """A bomb of 10 MB, ten gigabytes inflated, is over the limit as it stands."""
    path, fields, content = compressed_call(door, "gzip", gzip_bomb(10 << 20))
    async with target.unharmed(growth=64 << 20), httpx2.AsyncClient(base_url=target.process.url, timeout=30) as client:
        answer = await client.post(path, content=content, headers=fields)
    assert _too_large(door, answer), answer.text


def _too_large(door: str, answer: httpx2.Response) -> bool:
    """Tell whether a request was refused for its size, as its door says that."""
    match door:
        case "rest":
            return answer.status_code == 413 and answer.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"
        case "connect":
            return answer.status_code == 429 and answer.json()["code"] == REFUSED
        case "connect stream":
            return answer.status_code == 200 and json.loads(answer.content[5:])["error"]["code"] == REFUSED
        case _:
            return answer.status_code == 200 and answer.headers.get("grpc-status") == EXHAUSTED


async def test_ten_megabytes_of_gzip_over_grpc(target: Target) -> None:
    """The frame's head says how large it is: the call ends with its status before the rest is sent."""
    content = message(gzip_bomb(10 << 20), flag=1)[:500_000]
    parts = b"".join(frame(frames.DATA, 0, 1, content[at : at + 16_000]) for at in range(0, len(content), 16_000))
    call = headers(1, head(extra=[(b"grpc-encoding", b"gzip")]))
    async with target.unharmed(growth=32 << 20):
        said = await _said(target, opening(call, parts))
    assert said.status(1) == EXHAUSTED


async def _said(target: Target, data: bytes) -> Said:
    """Say it, and return what is said until the first stream is over."""
    return read(await target.say(data, wait=PATIENCE, enough=lambda came: read(came).over(1)))


async def test_ten_thousand_unknown_paths(target: Target) -> None:
    """Each is answered, and no series of metrics is made of it."""
    async with target.unharmed(growth=48 << 20):
        await _ask_unknown(target, range(1))
        before = (await target.state()).series
        await _ask_unknown(target, range(1, 34))
        await target.quiet()
        assert (await target.state()).series == before


async def _ask_unknown(target: Target, rounds: range) -> None:
    """Ask for 300 paths that are not there in each round, a hundred on a connection."""
    for turn in rounds:
        for kind in (b"", b"application/grpc", b"application/proto"):
            paths = [b"/no/%d/%d" % (turn, at) for at in range(100)]
            blocks = [head(path, content_type=kind) for path in paths]
            call = opening(*(headers(2 * at + 1, block, flags=5) for at, block in enumerate(blocks)))
            assert await _hundred_answered(target, call)


async def _hundred_answered(target: Target, data: bytes) -> bool:
    """Say it, and tell whether all its hundred streams were ended."""
    reader, writer = await target.connect()
    writer.write(data)
    ended, buffer = 0, b""
    try:
        async with asyncio.timeout(PATIENCE):
            while ended < 100:
                buffer += await reader.readexactly(9 - len(buffer)) if len(buffer) < 9 else b""
                length, kind, flags = int.from_bytes(buffer[:3], "big"), buffer[3], buffer[4]
                await reader.readexactly(length)
                buffer = b""
                if kind == frames.RST_STREAM or (kind in (frames.DATA, frames.HEADERS) and flags & END_STREAM):
                    ended += 1
        return True
    finally:
        writer.close()


HEADS = {
    "one field of 1 MB": [("x-big", "y" * 1_000_000)],
    "one field of 20 KB": [("x-big", "y" * 20_000)],
    "10,000 fields": [(f"x-{each}", "y") for each in range(10_000)],
    "1,000 of one name": [("x-test-same", "y")] * 1000,
    "a cookie of 30 KB": [("cookie", "a=" + "b" * 30_000)],
}


FAR_TOO_LARGE = "one field of 1 MB"
"""A head that no server would read to its end."""


@pytest.mark.parametrize("door", ["rest", "connect"])
@pytest.mark.parametrize("name", HEADS)
async def test_a_head_that_is_too_large(target: Target, name: str, door: str) -> None:
    """It is refused with 431; one that is far too large ends the connection."""
    path = "/v1/echo" if door == "rest" else frames.ECHO
    fields = [("host", "x"), ("content-type", "application/json"), ("content-length", "2"), *HEADS[name]]
    request = f"POST {path} HTTP/1.1\r\n" + "".join(f"{each}: {value}\r\n" for each, value in fields) + "\r\n{}"
    async with target.unharmed(growth=32 << 20):
        came = await target.say(request.encode(), wait=PATIENCE, enough=lambda came: b"\r\n\r\n" in came)
    assert came[9:12] in ((b"", b"431") if name == FAR_TOO_LARGE else (b"431",)), came[:200]


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_of_http2_that_is_too_large(target: Target, name: str) -> None:
    """It is refused with its status, by us or by the server below; one that is far too large, with GOAWAY."""
    block = head(extra=[(each.encode(), value.encode()) for each, value in HEADS[name]])
    parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    call = headers(1, parts[0], flags=0) + b"".join(frame(frames.CONTINUATION, 0, 1, part) for part in parts[1:])
    end = frame(frames.CONTINUATION, frames.END_HEADERS, 1) + frame(frames.DATA, END_STREAM, 1, message(b""))
    async with target.unharmed(growth=32 << 20):
        said = await _said(target, opening(call, end))
    if name == FAR_TOO_LARGE:
        assert said.goaway
        assert not said.fields
    else:
        assert said.status(1) == EXHAUSTED or said.fields[1][":status"] == "431"
    assert not said.data


@pytest.mark.parametrize("name", ["content-type", "grpc-timeout", "grpc-encoding", "authorization", "host"])
async def test_a_field_that_stands_twice(target: Target, name: str) -> None:
    """Its call ends one way or the other, and nothing breaks."""
    pairs = [(name.encode(), b"1S"), (name.encode(), b"other")]
    call = headers(1, head(extra=pairs)) + frame(frames.DATA, END_STREAM, 1, message(b""))
    async with target.unharmed(growth=32 << 20):
        said = await _said(target, opening(call))
    assert 1 in said.ended or 1 in said.resets


async def test_heads_that_pause(target: Target) -> None:
    """200 callers who send a byte now and then, and then none, are cut off `header_timeout` later; others go on.

    Who never stops sending keeps its connection while the head stays within its bounds, as docs/limits.md says.
    """
    async with target.unharmed():
        began = time.monotonic()
        line = b"GET /v1/e"
        closed = await asyncio.gather(*(_slowly(target, line) for _ in range(200)))
        assert all(closed)
        assert time.monotonic() - began < HEAD_SECONDS + PATIENCE


@pytest.mark.parametrize("kind", ["application/json", "application/proto", "application/grpc-web+proto"])
async def test_bodies_that_stop(target: Target, kind: str) -> None:
    """30 callers who announce a body and stop half-way are cut off after `body_idle_timeout`."""
    path = "/v1/echo" if kind == "application/json" else frames.ECHO
    lines = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 100\r\n\r\n"
    async with target.unharmed():
        began = time.monotonic()
        closed = await asyncio.gather(*(_stalled(target, lines.encode() + b"{") for _ in range(30)))
        assert all(closed)
        assert time.monotonic() - began < BODY_SECONDS + PATIENCE
        await target.quiet()


async def test_streams_that_stop(target: Target) -> None:
    """A call over HTTP/2 whose body stops half-way ends after `body_idle_timeout`, its connection lives on."""
    streams = range(1, 40, 2)
    calls = b"".join(headers(stream, head()) + frame(frames.DATA, 0, stream, b"\x00") for stream in streams)
    async with target.unharmed():
        came = await target.say(
            opening(calls), wait=BODY_SECONDS + PATIENCE, enough=lambda came: read(came).over(*streams)
        )
        await target.quiet()
    said = read(came)
    assert said.over(*streams)
    assert said.goaway is None


async def _slowly(target: Target, data: bytes) -> bool:
    reader, writer = await target.connect()
    reading = asyncio.create_task(reader.read())
    try:
        with contextlib.suppress(OSError):
            for each in data:
                writer.write(bytes((each,)))
                done, _ = await asyncio.wait([reading], timeout=0.1)
                if done:
                    break
        await asyncio.wait([reading], timeout=PATIENCE)
        return reading.done()
    finally:
        reading.cancel()
        writer.close()
        await asyncio.gather(reading, return_exceptions=True)


async def _stalled(target: Target, data: bytes) -> bool:
    reader, writer = await target.connect()
    writer.write(data)
    try:
        async with asyncio.timeout(BODY_SECONDS + PATIENCE):
            with contextlib.suppress(OSError):
                await reader.read()
        return True
    except TimeoutError:
        return False
    finally:
        writer.close()
