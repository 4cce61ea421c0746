"""An HTTP/2 server that answers every request with exactly these frames: headers, data, trailers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events

from tests.conformance.raw_http import Fields


@dataclass(frozen=True)
class Frames:
    """An answer: the head, the body, the trailers; without a body and trailers the head ends the stream."""

    headers: Fields = (("content-type", "application/grpc"),)
    body: bytes = b""
    trailers: Fields = ()
    status: int = 200
    end_with_data: bool = False
    """Whether an empty body ends with a DATA frame of its own, so that the head is no Trailers-Only."""


@asynccontextmanager
async def raw_grpc(answer: Frames) -> AsyncIterator[str]:
    """Serve `answer` on a free port, and give `host:port`."""
    open_: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_[writer] = asyncio.current_task()
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, validate_outbound_headers=False))
        http.initiate_connection()
        writer.write(http.data_to_send())
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            while data := await reader.read(65536):
                for event in http.receive_data(data):
                    if isinstance(event, h2.events.StreamEnded):
                        _answer(http, event.stream_id, answer)
                    elif isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                        http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                writer.write(http.data_to_send())
        writer.close()
        del open_[writer]

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        serving = [task for task in open_.values() if task is not None]
        for writer in tuple(open_):
            writer.close()
        await asyncio.gather(*serving)
        await server.wait_closed()


def _answer(http: h2.connection.H2Connection, stream: int, answer: Frames) -> None:
    head = [(":status", str(answer.status)), *answer.headers]
    only = not answer.body and not answer.trailers and not answer.end_with_data
    http.send_headers(stream, head, end_stream=only)
    if answer.body or answer.end_with_data:
        http.send_data(stream, answer.body, end_stream=not answer.trailers)
    if answer.trailers:
        http.send_headers(stream, answer.trailers, end_stream=True)
