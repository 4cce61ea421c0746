"""gRPC's wire forms that both sides share: frames, timeouts, messages (grpc/doc/PROTOCOL-HTTP2.md).

Connect's streams have the same frames.
"""

import re

from interlock.errors import Internal, InvalidArgument, TooLarge
from interlock.protocols.compression import GZIP, Compression

HEADER_BYTES = 5
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])\Z")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PLAIN = re.compile(r"[ -$&-~]*\Z")


def parse_timeout(value: bytes) -> float:
    """Return the seconds of a `grpc-timeout` value; InvalidArgument for anything that is not one."""
    match = _TIMEOUT.match(value)
    if match is None:
        raise InvalidArgument("grpc-timeout must be at most 8 digits and a unit of H, M, S, m, u, n")
    return int(match[1]) * _UNITS[match[2]]


def encode_message(text: str) -> bytes:
    """Percent-encode a status message: all but printable ASCII, and `%` itself."""
    if _PLAIN.match(text):
        return text.encode("ascii")
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in text.encode("utf-8", "replace")
    )


def frame(message: bytes, *, compressed: bool = False) -> bytes:
    """Prefix a message with its flag and length."""
    return (b"\x01" if compressed else b"\x00") + len(message).to_bytes(4, "big") + message


class Unframer:
    """Cuts a byte stream into messages, bounding each at `limit` bytes before it is held.

    `compression` is what compressed messages of the stream are in, None where it named none.
    """

    __slots__ = ("_buffer", "_compression", "_limit")

    def __init__(self, limit: int, compression: Compression | None = None) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._compression = compression

    def feed(self, data: bytes) -> None:
        """Add bytes as they came."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the next whole message, or None until more has come; TooLarge or Internal for a bad frame."""
        buffer = self._buffer
        if len(buffer) < HEADER_BYTES:
            return None
        flag, length = buffer[0], int.from_bytes(buffer[1:5], "big")
        check_frame(flag, length, self._limit, self._compression)
        end = HEADER_BYTES + length
        if len(buffer) < end:
            return None
        message = bytes(buffer[HEADER_BYTES:end])
        del buffer[:end]
        return inflated(message, self._limit, self._compression) if flag else message

    def finish(self) -> None:
        """Check that the stream ended between two messages; Internal if it was cut off."""
        if self._buffer:
            raise cut_off()


def check_frame(flag: int, length: int, limit: int, compression: Compression | None) -> None:
    """Refuse a frame that is too large, of an unknown kind, or compressed where nothing was announced.

    The codes are those of grpc/doc/statuscodes.md: what breaks the wire's form is INTERNAL.
    """
    if flag > 1:
        raise Internal(f"unknown frame flag {flag}")
    if length > limit:
        raise TooLarge(f"the message of {length} bytes is larger than the limit of {limit}")
    if flag and compression is None:
        raise Internal("a message is compressed, but the head of the request names no compression")


def cut_off() -> Internal:
    """Return the error for a body that ends too early."""
    return Internal("the request body ends inside a message")


def inflated(data: bytes, limit: int, compression: Compression | None = GZIP) -> bytes:
    """Decompress the message of a frame that `check_frame` let through; Internal if it is broken, TooLarge."""
    assert compression is not None  # noqa: S101 - as checked
    try:
        return compression.inflate(data, limit)
    except InvalidArgument as broken:
        raise Internal(broken.message) from broken
