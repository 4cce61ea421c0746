"""An HTTP/2 client that says exactly what it is told, in frames, and keeps what comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events

from interlock.server import Address


@dataclass
class Reply:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: int | None = None
    ended: bool = False


class RawH2:
    """One connection; `read` decides whether the window is given back for what arrives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, read: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._read = read
        self._changed = asyncio.Condition()
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        self._http.initiate_connection()
        self._flush()
        self.replies: dict[int, Reply] = {}
        self._listening = asyncio.create_task(self._listen())

    def _flush(self) -> None:
        self._writer.write(self._http.data_to_send())

    async def _listen(self) -> None:
        while data := await self._reader.read(65536):
            for event in self._http.receive_data(data):
                self._take(event)
            self._flush()
            async with self._changed:
                self._changed.notify_all()

    def _take(self, event: Any) -> None:
        reply = self.replies.get(getattr(event, "stream_id", 0) or 0, Reply())
        match event:
            case h2.events.ResponseReceived():
                reply.headers = _texts(event.headers)
            case h2.events.TrailersReceived():
                reply.trailers = _texts(event.headers)
            case h2.events.DataReceived():
                reply.body += event.data
                if self._read and event.flow_controlled_length:
                    self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamReset():
                reply.reset = int(event.error_code)
            case h2.events.StreamEnded():
                reply.ended = True

    def request(self, path: str, *, end: bool = False, method: str = "POST", te: bool = True, **headers: str) -> int:
        """Send the head of a request and return its stream; `_` in a name stands for `-`."""
        stream = self._http.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test")]
        given = {
            "content-type": "application/grpc",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if te:
            given["te"] = "trailers"
        self.replies[stream] = Reply()
        self._http.send_headers(stream, [*head, *given.items()], end_stream=end)
        self._flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send a piece of the body, no larger than a frame."""
        self._http.send_data(stream, data, end_stream=end)
        self._flush()

    def reset(self, stream: int) -> None:
        """Give the stream up."""
        self._http.reset_stream(stream, 8)
        self._flush()

    async def answer(self, stream: int, limit: float = 5.0) -> Reply:
        """Wait until the stream is over on the other side."""
        reply = self.replies[stream]
        async with asyncio.timeout(limit), self._changed:
            await self._changed.wait_for(lambda: reply.ended or reply.reset is not None)
        return reply

    async def close(self) -> None:
        """Hang up, in the middle of whatever goes on."""
        self._listening.cancel()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _texts(headers: Any) -> dict[str, str]:
    return {bytes(name).decode(): bytes(value).decode("latin-1") for name, value in headers}


@asynccontextmanager
async def raw_h2(address: Address, *, read: bool = True) -> AsyncIterator[RawH2]:
    """Connect, and hang up at the end of the block."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    client = RawH2(reader, writer, read=read)
    try:
        yield client
    finally:
        await client.close()
