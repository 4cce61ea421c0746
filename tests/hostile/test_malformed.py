"""Frames, heads and bodies that are no HTTP, no gRPC, no JSON: each is refused or cut off, and never more than that."""

import asyncio
import struct
from base64 import b64encode

import httpx2
import pytest

from interlock import Code
from tests.hostile import frames
from tests.hostile.frames import END_HEADERS, END_STREAM, SETTINGS, frame, head, headers, message, opening, read
from tests.hostile.target import PATIENCE, Target

pytestmark = pytest.mark.asyncio(loop_scope="module")

REST = "/v1/echo"
CONNECT = {"connect-protocol-version": "1"}
PROTOCOL_ERROR = 1

BROKEN_FRAMES = {
    "a frame of 16 MiB": frame(frames.DATA, 0, 1, b"", length=0xFFFFFF) + b"x" * 65536,
    "data before headers": frame(frames.DATA, 0, 1, b"x"),
    "data on stream 0": frame(frames.DATA, 0, 0, b"x"),
    "headers on stream 0": headers(0, head()),
    "headers on an even stream": headers(2, head()),
    "headers on a stream of the past": headers(5, head()) + headers(3, head()),
    "headers that are no HPACK": headers(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
    "an index beyond the table": headers(1, b"\xfe"),
    "a table size beyond the limit": headers(1, b"\x3f\xe1\xff\xff\x7f"),
    "a Huffman string that is none": headers(1, b"\x00\x84\xff\xff\xff\xff\x01a"),
    "a promise of a client": frame(frames.PUSH_PROMISE, END_HEADERS, 1, b"\x00\x00\x00\x02"),
    "a window update of 0": frame(frames.WINDOW_UPDATE, 0, 0, b"\x00\x00\x00\x00"),
    "a window beyond 2^31": frame(frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "a window update of 3 bytes": frame(frames.WINDOW_UPDATE, 0, 0, b"\x00\x00\x01"),
    "a reset of an idle stream": frames.reset(9),
    "a reset of 3 bytes": frame(frames.RST_STREAM, 0, 1, b"\x00\x00\x01"),
    "settings of 5 bytes": frame(SETTINGS, 0, 0, b"\x00\x04\x00\x00\x01"),
    "settings on a stream": frame(SETTINGS, 0, 1),
    "settings of a frame size of 1": frame(SETTINGS, 0, 0, b"\x00\x05\x00\x00\x00\x01"),
    "settings of a window beyond 2^31": frame(SETTINGS, 0, 0, b"\x00\x04\xff\xff\xff\xff"),
    "a ping of 7 bytes": frame(frames.PING, 0, 0, b"1234567"),
    "a continuation of nothing": frame(frames.CONTINUATION, END_HEADERS, 1, head()),
    "another frame amid headers": headers(1, head(), flags=0) + frame(frames.PING, 0, 0, b"12345678"),
    "padding longer than the frame": frame(frames.HEADERS, END_HEADERS | 8, 1, b"\xff" + head()),
}

BROKEN_HEADS = {
    "no path": frames.fields((b":method", b"POST"), (b":scheme", b"http")),
    "two paths": head(extra=[(b":path", b"/v1/echo")]),
    "a pseudo field behind others": frames.fields((b"x", b"y")) + head(),
    "an unknown pseudo field": frames.fields((b":admin", b"yes")) + head(),
    "capitals in a name": head(extra=[(b"X-Loud", b"yes")]),
    "a line break in a value": head(extra=[(b"x-test-text", b"a\r\nset-cookie: admin=1")]),
    "a line feed in a value": head(extra=[(b"x-test-text", b"a\nb")]),
    "a NUL in a value": head(extra=[(b"x-test-text", b"a\x00b")]),
    "a line break in a name": head(extra=[(b"x-test\r\nset-cookie", b"b")]),
    "a line break in the path": head(b"/v1/echo\r\nx: y"),
    "a connection field": head(extra=[(b"connection", b"close")]),
    "a transfer encoding": head(extra=[(b"transfer-encoding", b"chunked")]),
    "an empty name": head(extra=[(b"", b"y")]),
}


async def test_broken_frames_end_their_connections(target: Target) -> None:
    """The server says why with GOAWAY; it answers no call of them."""
    async with target.unharmed():
        came = await said(target, {name: opening(each) for name, each in BROKEN_FRAMES.items()}, 1)
    assert not [name for name, answer in came.items() if not read(answer).goaway]
    assert not [name for name, answer in came.items() if read(answer).fields]


async def test_broken_heads_reach_no_handler(target: Target) -> None:
    """Their streams are reset as malformed (RFC 9113 §8.1.1), and nothing of them comes back."""
    end = frame(frames.DATA, END_STREAM, 1, message(b""))
    async with target.unharmed():
        came = await said(target, {name: opening(headers(1, each) + end) for name, each in BROKEN_HEADS.items()}, 1)
    assert not [name for name, answer in came.items() if read(answer).resets != {1: PROTOCOL_ERROR}]
    assert not [name for name, answer in came.items() if read(answer).fields or read(answer).data]


async def said(target: Target, attacks: dict[str, bytes], *streams: int) -> dict[str, bytes]:
    """Say all at a time, each on its own connection; return what comes until `streams` are over, or in a second."""
    enough = (lambda came: read(came).over(*streams)) if streams else None
    wait = PATIENCE if streams else 1.0
    answers = await asyncio.gather(*(target.say(each, wait=wait, enough=enough) for each in attacks.values()))
    return dict(zip(attacks, answers, strict=True))


GRPC_BODIES = {
    "nothing": (b"", Code.UNIMPLEMENTED),
    "half a frame's head": (b"\x00\x00\x00", Code.INTERNAL),
    "a frame cut off": (message(b"abc", length=100), Code.INTERNAL),
    "a frame of 4 GiB": (message(b"abc", length=0xFFFFFFFF), Code.RESOURCE_EXHAUSTED),
    "a flag that is none": (message(b"", flag=0x7E), Code.INTERNAL),
    "two messages": (message(b"") * 2, Code.UNIMPLEMENTED),
    "a compressed flag without compression": (message(b"\x0a\x01a", flag=1), Code.INTERNAL),
    "no protobuf": (message(b"\xff\xff\xff\xff"), Code.INTERNAL),
    "text that is no UTF-8": (message(b"\x0a\x02\xff\xfe"), Code.INTERNAL),
    "a field longer than the message": (message(b"\x0a\xff\xff\xff\xff\x0f"), Code.INTERNAL),
    "groups that nest": (message(b"\x0b" * 100_000), Code.INTERNAL),
    "messages that nest": (message(b"\x32" * 100_000), Code.INTERNAL),
    "rubbish behind the message": (message(b"") + b"rubbish", Code.UNIMPLEMENTED),
}
"""Bodies of a unary call, and the status that each deserves (grpc/doc/statuscodes.md)."""


def calls(body: bytes, kind: str) -> bytes:
    """Return a call with that body, in frames of 16 kB, and a sound one on the next stream."""
    encode = b64encode if kind.endswith("-text") else bytes
    block = head(content_type=b"application/" + kind.encode())
    data = encode(body)
    parts = [data[at : at + 16000] for at in range(0, len(data), 16000)] or [b""]
    broken = b"".join(frame(frames.DATA, 0, 1, part) for part in parts[:-1])
    broken += frame(frames.DATA, END_STREAM, 1, parts[-1])
    sound = frame(frames.DATA, END_STREAM, 3, encode(message(b"\x0a\x02hi")))
    return opening(headers(1, block), broken, headers(3, block), sound)


@pytest.mark.parametrize("kind", ["grpc", "grpc-web+proto", "grpc-web-text"])
async def test_broken_grpc_bodies(target: Target, kind: str) -> None:
    """Each call ends with the status it deserves, and another on its connection is answered."""
    async with target.unharmed():
        came = await said(target, {name: calls(each, kind) for name, (each, _) in GRPC_BODIES.items()}, 1, 3)
    statuses = {name: read(answer).status(1) for name, answer in came.items()}
    assert statuses == {name: str(int(code)) for name, (_, code) in GRPC_BODIES.items()}
    echoed = b64encode(message(b"\x0a\x02hi")) if kind.endswith("-text") else message(b"\x0a\x02hi")
    assert not [name for name, answer in came.items() if not read(answer).data.get(3, b"").startswith(echoed)]
    assert not [name for name, answer in came.items() if read(answer).goaway is not None]


JSON_BODIES = {
    "100,000 lists": b"[" * 100_000,
    "100,000 objects": b'{"place":' * 100_000,
    "100,000 lists in a field": b'{"tags":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no UTF-8": b'{"text": "\xff\xfe"}',
    "half a surrogate": b'{"text": "\\ud800"}',
    "a NUL": b"\x00",
    "cut off": b'{"text": "abc',
    "twice": b"{}{}",
    "a number without end": b'{"big": ' + b"9" * 1_000_000 + b"}",
    "an exponent without end": b'{"ratio": 1e' + b"9" * 100_000 + b"}",
    "nan": b'{"ratio": nan}',
    "a name a megabyte long": b'{"' + b"x" * 1_000_000 + b'": 1}',
    "100,000 unknown names": b"{" + b",".join(b'"x%d": 1' % each for each in range(100_000)) + b"}",
    "another kind of value": b'"text"',
    "a byte order mark in UTF-16": '{"text": "x"}'.encode("utf-16"),
}

UNKNOWN = {"connect": {"a name a megabyte long", "100,000 unknown names"}}
UNKNOWN["connect stream"] = UNKNOWN["connect"] | {"no UTF-8", "an exponent without end"}  # values of unknown names


@pytest.mark.parametrize("door", ["rest", "connect", "connect stream"])
async def test_broken_json_bodies(target: Target, door: str) -> None:
    """They are the caller's mistake, told briefly; unknown names are so over REST alone."""
    path, kind, extra = {
        "rest": (REST, "application/json", {}),
        "connect": (frames.ECHO, "application/json", CONNECT),
        "connect stream": ("/sample.v1.SampleService/Sum", "application/connect+json", CONNECT),
    }[door]
    wrong = {}
    async with target.unharmed(), httpx2.AsyncClient(base_url=target.process.url, timeout=20) as client:
        for name, body in JSON_BODIES.items():
            content = message(body) if door == "connect stream" else body
            answer = await client.post(path, content=content, headers={"content-type": kind, **extra})
            told = answer.text
            refused = answer.status_code == 400 or '"invalid_argument"' in told
            if refused is (name in UNKNOWN.get(door, ())) or len(told) > 20_000:
                wrong[name] = f"{answer.status_code} {told[:200]}"
    assert not wrong


async def test_a_body_shorter_than_it_says(target: Target) -> None:
    """A caller who announces more than it sends, and leaves, is no call."""
    async with target.unharmed():
        for kind in ("application/json", "application/proto", "application/grpc-web+proto"):
            path = REST if kind == "application/json" else frames.ECHO
            lines = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 1000\r\n\r\n"
            _, writer = await target.connect()
            writer.write(lines.encode() + b'{"te')
            await writer.drain()
            writer.close()
        await target.quiet()


SMUGGLED = {
    "a length and chunks": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "two lengths": b"content-length: 2\r\ncontent-length: 40\r\n\r\n{}",
    "a length that is none": b"content-length: +2\r\n\r\n{}",
    "a negative length": b"content-length: -1\r\n\r\n{}",
    "chunks that are none": b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk beyond 2^64": b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "another transfer encoding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"x-folded: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
    "a space before the colon": b"content-length : 2\r\n\r\n{}",
    "a bare carriage return": b"x-bare: a\rb\r\ncontent-length: 2\r\n\r\n{}",
    "a NUL in a value": b"x-nul: a\x00b\r\ncontent-length: 2\r\n\r\n{}",
}


async def test_ambiguous_heads_of_http1(target: Target) -> None:
    """Where two readers could see two requests there is none (RFC 9112 §11.2)."""
    start = b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    async with target.unharmed():
        came = await said(target, {name: start + each for name, each in SMUGGLED.items()})
    assert not {name: answer for name, answer in came.items() if b" 200 " in answer}


async def test_bytes_that_are_no_request(target: Target) -> None:
    """Rubbish of any length is refused or cut off."""
    rubbish = {
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        "zeros": b"\x00" * 100_000,
        "a path of a megabyte": b"GET " + b"/" * 1_000_000,
        "an unknown version": b"GET / HTTP/9.9\r\n\r\n",
        "another preface": frames.PREFACE.replace(b"SM", b"XX") + bytes(100),
        "words": struct.pack(">I", 0xDEADBEEF) * 1000,
    }
    async with target.unharmed():
        came = await said(target, rubbish)
    assert not {name: answer for name, answer in came.items() if b" 200 " in answer}
