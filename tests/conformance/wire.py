"""HTTP as the conformance tests speak it: one request at a time on HTTP/1.1 and HTTP/2, every header in its place."""

import asyncio
import contextlib
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import h11

Pairs = Sequence[tuple[str, str]]
_CHUNK = 16384


class Exchange(ABC):
    """One request and its response, over a connection of its own; sending and reading may overlap on HTTP/2."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.trailers: list[tuple[str, str]] = []

    @abstractmethod
    async def open(self, method: str, path: str, headers: Pairs) -> None:
        """Send the head."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send a piece of the body; what the server does not take any more is dropped."""

    @abstractmethod
    async def end(self) -> None:
        """End the body."""

    @abstractmethod
    async def read(self) -> bytes | None:
        """Return the next piece of the response's body, None at its end; status and headers are there by then."""

    async def body(self) -> bytes:
        """Return the rest of the response's body."""
        whole = b""
        while (piece := await self.read()) is not None:
            whole += piece
        return whole


class Http1(Exchange):
    """HTTP/1.1 with a chunked body, by h11."""

    async def open(self, method: str, path: str, headers: Pairs) -> None:
        """Send the head."""
        self._http = h11.Connection(h11.CLIENT)
        self._over = False
        fields = [("host", "conformance"), *headers]
        if method == "POST":
            fields.append(("transfer-encoding", "chunked"))
        self._write(h11.Request(method=method, target=path, headers=fields))

    def _write(self, event: Any) -> None:
        data = self._http.send(event)
        if data:
            self.writer.write(data)

    async def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        with contextlib.suppress(ConnectionError):
            self._write(h11.Data(data=data))
            await self.writer.drain()

    async def end(self) -> None:
        """End the body."""
        self._write(h11.EndOfMessage())
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def read(self) -> bytes | None:
        """Return the next piece of the body."""
        while not self._over:
            event = self._http.next_event()
            match event:
                case h11.NEED_DATA:
                    self._http.receive_data(await self.reader.read(65536))
                case h11.Response():
                    self.status = event.status_code
                    self.headers = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                case h11.Data():
                    return bytes(event.data)
                case h11.EndOfMessage() | h11.ConnectionClosed():
                    self._over = True
        return None


class Http2(Exchange):
    """HTTP/2 with prior knowledge, by h2."""

    async def open(self, method: str, path: str, headers: Pairs) -> None:
        """Send the head."""
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        self._http.initiate_connection()
        self._stream = self._http.get_next_available_stream_id()
        self._changed = asyncio.Condition()
        self._pieces: list[bytes] = []
        self._over = False
        self._failed: OSError | None = None
        head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "conformance")]
        self._http.send_headers(self._stream, [*head, *headers], end_stream=method != "POST")
        self._flush()
        self._listening = asyncio.create_task(self._listen())

    def _flush(self) -> None:
        self.writer.write(self._http.data_to_send())

    async def _listen(self) -> None:
        try:
            while not self._over and (data := await self.reader.read(65536)):
                for event in self._http.receive_data(data):
                    self._take(event)
                self._flush()
                async with self._changed:
                    self._changed.notify_all()
        except OSError as failed:
            self._failed = failed
        finally:
            self._over = True
            async with self._changed:
                self._changed.notify_all()

    def _take(self, event: Any) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.headers = [(bytes(name).decode(), bytes(value).decode("latin-1")) for name, value in event.headers]
                self.status = int(self.headers.pop(0)[1])
            case h2.events.TrailersReceived():
                self.trailers = [
                    (bytes(name).decode(), bytes(value).decode("latin-1")) for name, value in event.headers
                ]
            case h2.events.DataReceived():
                self._pieces.append(event.data)
                if event.flow_controlled_length:
                    self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded() | h2.events.StreamReset() | h2.events.ConnectionTerminated():
                self._over = True

    async def send(self, data: bytes) -> None:
        """Send a piece of the body, within the window."""
        while data and not self._over:
            room = min(self._http.local_flow_control_window(self._stream), _CHUNK)
            if room <= 0:
                async with self._changed:
                    await self._changed.wait()
                continue
            self._http.send_data(self._stream, data[:room])
            data = data[room:]
            self._flush()

    async def end(self) -> None:
        """End the body."""
        if not self._over:
            self._http.end_stream(self._stream)
            self._flush()

    async def read(self) -> bytes | None:
        """Return the next piece of the body."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._pieces or self._over)
        if not self._pieces and not self.status:
            raise self._failed or ConnectionError("the connection ended before the head")
        return self._pieces.pop(0) if self._pieces else None


@asynccontextmanager
async def exchange(host: str, port: int, http: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Exchange]:
    """Connect for one request over `http1` or `http2`, and hang up at the end of the block."""
    if tls is not None:
        tls.set_alpn_protocols(["h2"] if http == "http2" else ["http/1.1"])
    reader, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname="localhost" if tls else None)
    made: Exchange = Http2(reader, writer) if http == "http2" else Http1(reader, writer)
    try:
        yield made
    finally:
        if isinstance(made, Http2):
            made._listening.cancel()
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
