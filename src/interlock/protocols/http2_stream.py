"""One stream of a client's HTTP/2 connection: a request and its reply, at the same time (RFC 9113 §5)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, WindowUpdated

from interlock.errors import Cancelled, Error, Internal, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from interlock.protocols.http2_duplex import Connection

Fields = Sequence[tuple[bytes, bytes]]

WINDOW = 1 << 20
"""Bytes of a stream that may wait for their reader."""


def broken(told: str, *, unsent: bool = False) -> Error:
    """Return the error for a connection that is gone; `unsent` if the server can't have begun the call."""
    error = Unavailable(told)
    error.unsent = unsent
    error.received = True
    return error


class Stream:
    """One request and its reply, each sent and read at its own pace. Call `close` when done with it."""

    def __init__(self, connection: "Connection", number: int) -> None:
        self._connection = connection
        self._number = number
        self._head: asyncio.Future[tuple[int, Fields]] = asyncio.get_running_loop().create_future()
        self._parts: list[bytes] = []
        self._came, self._room = asyncio.Event(), asyncio.Event()
        self._unread = 0
        self._over = False
        self.error: BaseException | None = None

    async def head(self) -> tuple[int, Fields]:
        """Wait for the reply's status and header fields; Unavailable if the stream breaks off before."""
        return await asyncio.shield(self._head)

    async def send(self, data: bytes) -> bool:
        """Send bytes as the peer's windows allow; False once the reply is over, and nobody takes any more."""
        http, writer = self._connection.http, self._connection.writer
        rest = memoryview(data)
        while rest and not self._over:
            size = min(len(rest), http.local_flow_control_window(self._number), http.max_outbound_frame_size)
            if size <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            http.send_data(self._number, bytes(rest[:size]))
            rest = rest[size:]
            self._connection.flush()
            with suppress(OSError):  # whoever reads is told
                await writer.drain()
        return not self._over

    def end(self) -> None:
        """Say that no more is sent."""
        if not self._over:
            self._connection.http.end_stream(self._number)
            self._connection.flush()

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the reply; raises what broke the stream off."""
        while True:
            while self._parts:
                part = self._parts.pop(0)
                self._read(len(part))
                yield part
            if self._over:
                break
            self._came.clear()
            await self._came.wait()
        if self.error is not None:
            raise self.error

    def _read(self, size: int) -> None:
        self._unread += size
        if self._unread > WINDOW // 2 and not self._over:
            self._connection.http.increment_flow_control_window(self._unread, self._number)
            self._connection.flush()
            self._unread = 0

    def take(self, event: Event) -> None:
        """Take what the connection heard of this stream."""
        if isinstance(event, ResponseReceived):
            fields = [(bytes(name), bytes(value)) for name, value in event.headers]
            status = next((int(value) for name, value in fields if name == b":status"), 0)
            if not self._head.done():
                self._head.set_result((status, [each for each in fields if not each[0].startswith(b":")]))
        elif isinstance(event, DataReceived):
            self._unread += (event.flow_controlled_length or 0) - len(event.data)  # padding is read at once
            if event.data:
                self._parts.append(event.data)
                self._came.set()
        elif isinstance(event, WindowUpdated):
            self._room.set()
        elif isinstance(event, StreamReset):
            self.stop(_reset(event.error_code))
        elif isinstance(event, StreamEnded):
            self.stop(None)

    def stop(self, error: BaseException | None) -> None:
        """End the stream; what waits for it goes on, readers with `error` once they have read what had come."""
        if self._over:
            return
        self._over, self.error = True, error
        if not self._head.done():
            self._head.set_exception(error or broken("the stream ended without a reply"))
            self._head.exception()  # it may be that nobody asks
        self._came.set()
        self._room.set()

    def close(self) -> None:
        """Let go of the stream; the server is told to stop if either side was not at its end."""
        self.stop(Cancelled("the stream was closed"))
        self._connection.forget(self._number)


def _reset(code: int | None) -> Error:
    told = f"the server broke the stream off (HTTP/2 error {code})"
    if code == ErrorCodes.REFUSED_STREAM:
        return broken("the server refused the stream", unsent=True)
    kinds: dict[int | None, type[Error]] = {
        ErrorCodes.CANCEL: Cancelled,
        ErrorCodes.ENHANCE_YOUR_CALM: ResourceExhausted,
    }
    error = kinds.get(code, Internal)(told)
    error.received = True
    return error
