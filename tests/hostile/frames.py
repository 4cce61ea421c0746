"""Bytes of HTTP/2 (RFC 9113 §4, §6) as an attacker writes them, nothing checked; and what is said to them, read."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hpack import Decoder

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


@dataclass(slots=True)
class Said:
    """What a server said on one connection, by stream: header fields and trailers, data, which it ended or reset."""

    fields: dict[int, dict[str, str]] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)
    goaway: int | None = None

    def over(self, *streams: int) -> bool:
        """Tell whether these streams, or the connection, have ended."""
        return self.goaway is not None or all(each in self.ended or each in self.resets for each in streams)

    def status(self, stream: int) -> str:
        """Return how a call of gRPC ended, "" where it did not."""
        return self.fields.get(stream, {}).get("grpc-status", "") if stream in self.ended else ""


def read(came: bytes) -> Said:
    """Read frames as far as they came whole; header blocks must stand in one frame."""
    said, decoder, at = Said(), Decoder(), 0
    while at + 9 <= len(came) and at + 9 + (length := int.from_bytes(came[at : at + 3], "big")) <= len(came):
        kind, flags, stream = came[at + 3], came[at + 4], int.from_bytes(came[at + 5 : at + 9], "big")
        payload = came[at + 9 : at + 9 + length]
        if kind == HEADERS:
            assert flags & END_HEADERS, "a header block in several frames"
            said.fields.setdefault(stream, {}).update(
                (str(name), str(value)) for name, value in decoder.decode(payload)
            )
        elif kind == DATA:
            said.data[stream] = said.data.get(stream, b"") + payload
        elif kind == RST_STREAM:
            said.resets.setdefault(stream, int.from_bytes(payload, "big"))
        elif kind == GOAWAY:
            said.goaway = int.from_bytes(payload[4:8], "big")
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            said.ended.add(stream)
        at += 9 + length
    return said
