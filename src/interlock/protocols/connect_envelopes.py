"""The envelopes that a Connect client reads from a stream: messages, and the one that ends it."""

from interlock.errors import Internal, TooLarge
from interlock.protocols.compression import Compression
from interlock.protocols.connect_reply import decompressed
from interlock.protocols.grpc_wire import HEADER_BYTES

_COMPRESSED, _END = 1, 2


class Envelopes:
    """Cuts the body of a stream into messages, bounding each at `limit` bytes before it is held.

    Internal for what breaks the form: an unknown flag, bytes behind the end, compression that was not announced.
    """

    __slots__ = ("_buffer", "_compression", "_limit", "end")

    def __init__(self, limit: int, compression: Compression | None = None) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._compression = compression
        self.end: bytes | None = None

    def feed(self, data: bytes) -> None:
        """Add bytes as they came."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the next whole message; None until more has come, and after the end."""
        buffer = self._buffer
        if self.end is not None:
            if buffer:
                raise Internal("the stream goes on behind its end")
            return None
        if len(buffer) < HEADER_BYTES:
            return None
        flags, length = buffer[0], int.from_bytes(buffer[1:5], "big")
        self._check(flags, length)
        end = HEADER_BYTES + length
        if len(buffer) < end:
            return None
        data = bytes(buffer[HEADER_BYTES:end])
        del buffer[:end]
        if flags & _COMPRESSED:
            data = decompressed(data, self._compression, self._limit)
        if not flags & _END:
            return data
        self.end = data
        return self.next()

    def _check(self, flags: int, length: int) -> None:
        if flags > _COMPRESSED | _END:
            raise Internal(f"unknown envelope flags {flags}")
        if length > self._limit:
            raise TooLarge(f"the message of {length} bytes is larger than the client's limit of {self._limit}")
        if flags & _COMPRESSED and self._compression is None:
            raise Internal("a message is compressed, but connect-content-encoding names no compression")

    def finish(self) -> bytes:
        """Return the envelope that ended the stream; Internal if the body ended without one."""
        if self.end is None:
            inside = " inside a message" if self._buffer else " without the envelope that ends it"
            raise Internal(f"the stream stops{inside}")
        return self.end
