"""Streams both ways over HTTP/2 (RFC 9113), which the HTTP engine can't do: requests and replies at the same time.

`http://` is HTTP/2 with prior knowledge, `https://` by ALPN. Connections are shared by the streams of one client and
closed when idle. What a stream holds that nobody read yet is bounded by its window.
"""

import asyncio
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RemoteSettingsChanged, WindowUpdated
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from interlock.errors import Internal
from interlock.protocols.http2_stream import WINDOW, Fields, Stream, broken
from interlock.protocols.http_pool import Host, PoolLimits

_HEADER, _GOAWAY, _READ = 9, 7, 1 << 16


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

    def open(self, fields: Fields) -> Stream:
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


class Duplex:
    """The connections of one client to one host, opened when a stream needs one."""

    def __init__(self, host: Host, limits: PoolLimits) -> None:
        self._host = host
        self._limits = limits
        self._connections: list[Connection] = []
        self._lock = asyncio.Lock()

    async def open(self, fields: Fields) -> Stream:
        """Open a stream; NotHttp2 where the server has none, Unavailable if no connection could be made."""
        async with self._lock:
            self._connections = [each for each in self._connections if not each.task.done()]
            free = next((each for each in self._connections if each.has_room), None)
            if free is None:
                free = await self._connect()
                self._connections.append(free)
            return free.open(fields)

    async def _connect(self) -> Connection:
        host = self._host
        context = host.tls.context() if host.tls is not None else None
        if context is not None:
            context.set_alpn_protocols(["h2", "http/1.1"])
        port = host.port or (443 if context is not None else 80)
        try:
            async with asyncio.timeout(self._limits.connect.total_seconds()):
                reader, writer = await asyncio.open_connection(host.name, port, ssl=context)
                return await self._greet(reader, writer)
        except OSError as failed:  # a TimeoutError and an SSLError too
            told = str(failed) or type(failed).__name__
            raise broken(f"no connection could be made: {told}", unsent=True) from failed

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        tls: Any = writer.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            writer.close()
            raise NotHttp2
        connection = Connection(reader, writer, self._limits.idle_time.total_seconds())
        try:
            await connection.greeted
        except BaseException:
            connection.task.cancel()
            writer.close()
            raise
        return connection

    async def close(self) -> None:
        """Close all connections; streams that are open break off."""
        tasks = [each.task for each in self._connections]
        self._connections = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
