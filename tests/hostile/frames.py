"""Bytes of HTTP/2 (RFC 9113 §4, §6) as an attacker writes them: nothing is checked."""

from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
ECHO = "/sample.v1.SampleService/Echo"
SLOW = "/sample.v1.SampleService/Slow"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """Return one frame; `length` is what it says of its payload, where that is not the truth."""
    said = len(payload) if length is None else length
    return said.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def opening(*frames: bytes) -> bytes:
    """Return how a connection begins, and frames behind it."""
    return PREFACE + frame(SETTINGS) + b"".join(frames)


def fields(*pairs: tuple[bytes, bytes]) -> bytes:
    """Return header fields as literals that are not indexed (RFC 7541 §6.2.2), whatever is in them."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in pairs)


def _string(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes((len(value),)) + value
    rest, prefix = len(value) - 127, bytearray(b"\x7f")
    while rest >= 128:
        prefix.append(rest % 128 + 128)
        rest //= 128
    prefix.append(rest)
    return bytes(prefix) + value


def head(
    path: str | bytes = ECHO, *, method: bytes = b"POST", content_type: bytes = b"application/grpc",
    extra: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:  # fmt: skip
    """Return the header block of a request."""
    raw = path if isinstance(path, bytes) else path.encode()
    pairs = [(b":method", method), (b":scheme", b"http"), (b":path", raw), (b":authority", b"test")]
    if content_type:
        pairs += [(b"content-type", content_type), (b"te", b"trailers")]
    return fields(*pairs, *extra)


def headers(stream: int, block: bytes, flags: int = END_HEADERS) -> bytes:
    """Return a HEADERS frame."""
    return frame(HEADERS, flags, stream, block)


def reset(stream: int, code: int = 8) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def message(data: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """Return a gRPC frame or a Connect envelope; `length` as in `frame`."""
    said = len(data) if length is None else length
    return bytes((flag,)) + said.to_bytes(4, "big") + data
