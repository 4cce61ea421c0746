"""An HTTP/2 server whose every frame a test decides: h2's server side, driven by a function."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

On = Callable[["Talker", Event], None]
OK = ((":status", "200"), ("content-type", "application/connect+proto"))


class Talker:
    """One connection; `on` is called with each event and answers through `http`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on: On, settings: Any) -> None:
        self.http = H2Connection(H2Configuration(client_side=False))
        self.http.local_settings = Settings(client=False, initial_values=settings)
        self.events: list[Event] = []
        self._reader = reader
        self.writer = writer
        self._on = on

    def flush(self) -> None:
        """Send what `http` holds."""
        self.writer.write(self.http.data_to_send())

    def goaway(self, last: int) -> None:
        """Announce the end of the connection, and go on serving streams up to `last`."""
        self.flush()
        self.writer.write(b"\x00\x00\x08\x07\x00" + bytes(4) + last.to_bytes(4, "big") + bytes(4))

    async def serve(self) -> None:
        """Read until the other side hangs up."""
        self.http.initiate_connection()
        self.flush()
        try:
            while data := await self._reader.read(1 << 16):
                for event in self.http.receive_data(data):
                    self.events.append(event)
                    self._on(self, event)
                self.flush()
        except (ProtocolError, OSError):
            pass
        finally:
            self.writer.close()


@asynccontextmanager
async def raw_http2(
    on: On, settings: dict[SettingCodes, int] | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[Talker]]]:
    """Serve on a free port of the loopback; gives it and the connections that were made."""
    talkers: list[Talker] = []
    tasks: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        talker = Talker(reader, writer, on, settings or {})
        talkers.append(talker)
        await talker.serve()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], talkers
    finally:
        server.close()
        for talker in talkers:
            talker.writer.close()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        await server.wait_closed()
