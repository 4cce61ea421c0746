"""A client's HTTP/2 connection and its streams, requests and replies at the same time (RFC 9113 §5)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from interlock.errors import Cancelled, Error, Internal, ResourceExhausted, Unavailable

_HEADER, _GOAWAY, _READ = 9, 7, 1 << 16
Fields = Sequence[tuple[bytes, bytes]]

WINDOW = 1 << 20
"""Bytes of a stream that may wait for their reader."""


def broken(told: str, *, unsent: bool = False) -> Error:
    """Return the error for a connection that is gone; `unsent` if the server can't have begun the call."""
    error = Unavailable(told)
    error.unsent = unsent
    error.received = True
    return error


class NotHttp2(Exception):
    """The server speaks HTTP/1.1 only."""


class Connection:
    """One connection: a task reads it and hands what it hears to the streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: float) -> None:
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        own = {SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
        self.http.local_settings = Settings(client=True, initial_values=own)
        self.writer = writer
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.leaving = False
        self._reader = reader
        self._idle = idle
        self._streams: dict[int, Stream] = {}
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        self.http.initiate_connection()
        self.flush()
        self.task = asyncio.create_task(self._listen())

    @property
    def has_room(self) -> bool:
        """Whether one more stream may be opened."""
        most: int = self.http.remote_settings.max_concurrent_streams
        return not self.leaving and len(self._streams) < most

    def open(self, fields: Fields) -> "Stream":
        """Open a stream with these header fields, `:method` and the like ahead."""
        if self._timer is not None:
            self._timer.cancel()
        number = self.http.get_next_available_stream_id()
        try:
            self.http.send_headers(number, fields)
        except ProtocolError as wrong:
            raise Internal(f"the request can't be sent over HTTP: {wrong}") from wrong
        stream = self._streams[number] = Stream(self, number)
        self.flush()
        return stream

    def flush(self) -> None:
        """Hand what is to be sent to the socket."""
        if not self.writer.is_closing():
            self.writer.write(self.http.data_to_send())

    def forget(self, number: int) -> None:
        """Drop a stream, reset if it is still open."""
        if self._streams.pop(number, None) is None:
            return
        state = self.http.streams.get(number)
        if state is not None and not state.closed and not self.writer.is_closing():
            self.http.reset_stream(number, ErrorCodes.CANCEL)
            self.flush()
        if not self._streams:
            wait = 0.0 if self.leaving else self._idle
            self._timer = asyncio.get_running_loop().call_later(wait, self._retire)

    def _retire(self) -> None:
        self.leaving = True  # no stream is opened on it between here and its end
        self.task.cancel()

    async def _listen(self) -> None:
        error = broken("the connection broke before the reply was whole")
        try:
            buffer = b""
            while data := await self._reader.read(_READ):
                buffer = self._frames(buffer + data)
                self.flush()
        except ProtocolError as wrong:
            self.flush()  # a GOAWAY that says why
            error = broken(f"the server broke HTTP/2: {wrong}")
        except NotHttp2 as other:
            self.greeted.set_exception(other)
        except OSError as gone:
            error = broken(f"the connection broke before the reply was whole: {gone}")
        finally:
            self.leaving = True
            if not self.greeted.done():
                self.greeted.set_exception(broken("the server hung up", unsent=True))
            for stream in tuple(self._streams.values()):
                stream.stop(error)
            self.writer.close()

    def _frames(self, data: bytes) -> bytes:
        """Take whole frames, return the rest; GOAWAY is kept from the state machine, which would end all streams."""
        if not self.greeted.done() and data.startswith(b"HTTP/1"):
            raise NotHttp2
        while len(data) >= _HEADER:
            end = _HEADER + int.from_bytes(data[:3], "big")
            if end - _HEADER > self.http.max_inbound_frame_size:
                raise ProtocolError(f"a frame of {end - _HEADER} bytes is larger than was agreed")
            if len(data) < end:
                break
            frame, data = data[:end], data[end:]
            if frame[3] == _GOAWAY:
                self._goaway(frame[_HEADER:])
            else:
                for event in self.http.receive_data(frame):
                    self._take(event)
        return data

    def _goaway(self, payload: bytes) -> None:
        self.leaving = True
        last = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
        for number, stream in tuple(self._streams.items()):
            if number > last:
                stream.stop(broken("the server is going away", unsent=True))
        if not self._streams:
            self.task.cancel()

    def _take(self, event: Event) -> None:
        if isinstance(event, RemoteSettingsChanged) and not self.greeted.done():
            self.greeted.set_result(None)
        if isinstance(event, DataReceived):
            self._received += event.flow_controlled_length or 0
            if self._received > 1 << 14:  # the window of the connection never holds a stream back: each has its own
                self.http.increment_flow_control_window(self._received)
                self._received = 0
        number = getattr(event, "stream_id", None)
        if number:
            stream = self._streams.get(number)
            if stream is not None:
                stream.take(event)
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            for stream in self._streams.values():
                stream.take(WindowUpdated(stream_id=0))


class Stream:
    """One request and its reply, each sent and read at its own pace. Call `close` when done with it."""

    def __init__(self, connection: Connection, number: int) -> None:
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
