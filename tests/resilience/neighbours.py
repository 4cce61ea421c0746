"""Servers that a client's connections are tried on: several addresses of one name, and the DNS server that knows it."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from interlock import Call
from interlock.errors import Error
from interlock.protocols.grpc_wire import frame
from interlock.server import Address, serving
from interlock.testing.servers import free_port
from tests.sample.gen.sample.v1.sample_pb import (
    EchoRequest,
    EchoResponse,
    ListThingsRequest,
    ListThingsResponse,
)
from tests.sample.handlers import Sample, make


class Neighbour(Sample):
    """The sample service at one address: counts its calls, and fails them while it is `sick`."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host
        self.calls = 0
        self.connections: set[str] = set()
        self.sick: Error | None = None

    def _seen(self, call: Call) -> None:
        self.calls += 1
        self.connections.add(call.peer.address)
        if self.sick is not None:
            raise self.sick

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Echo, unless it is sick."""
        self._seen(call)
        return await super().echo(request, call)

    async def list_things(self, request: ListThingsRequest, call: Call) -> ListThingsResponse:
        """List nothing, unless it is sick: an operation that may be repeated."""
        self._seen(call)
        return await super().list_things(request, call)


class Neighbours:
    """Several of them on one port of 127.0.0.1, 127.0.0.2 …; each can go away and come back."""

    def __init__(self, stack: AsyncExitStack, count: int) -> None:
        self.port = free_port()
        self.all = [Neighbour(f"127.0.0.{number}") for number in range(1, count + 1)]
        self._stack = stack
        self._serving: dict[str, AsyncExitStack] = {}

    @property
    def hosts(self) -> list[str]:
        """Their addresses, without the port."""
        return [each.host for each in self.all]

    @property
    def target(self) -> str:
        """All of them, as gRPC takes a list of addresses."""
        return "ipv4:" + ",".join(f"{host}:{self.port}" for host in self.hosts)

    async def start(self, neighbour: Neighbour) -> Address:
        """Serve one of them."""
        served = await self._stack.enter_async_context(AsyncExitStack())
        self._serving[neighbour.host] = served
        app = make(neighbour)
        return await served.enter_async_context(serving(app, host=neighbour.host, port=self.port, drain_limit=1.0))

    async def stop(self, neighbour: Neighbour) -> None:
        """Drain one of them; nobody listens there any more."""
        await self._serving.pop(neighbour.host).aclose()

    def counts(self) -> list[int]:
        """Return how many calls each got, and count from nothing again."""
        found = [each.calls for each in self.all]
        for each in self.all:
            each.calls = 0
        return found


@asynccontextmanager
async def neighbours(count: int) -> AsyncIterator[Neighbours]:
    """Serve so many, and drain whoever still runs in the end."""
    async with AsyncExitStack() as stack:
        made = Neighbours(stack, count)
        for each in made.all:
            await made.start(each)
        yield made


class Dns(asyncio.DatagramProtocol):
    """A DNS server that gives every name these IPv4 addresses (RFC 1035), and no other records."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # of datagrams
        """Keep the transport."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        assert self._transport is not None
        end = data.index(0, 12) + 5
        wanted = int.from_bytes(data[end - 4 : end - 2])
        self.asked += 1
        answers = self.addresses if wanted == 1 else []
        reply = data[:2] + struct.pack("!5H", 0x8180, 1, len(answers), 0, 0) + data[12:end]
        for each in answers:
            reply += struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + bytes(map(int, each.split(".")))
        self._transport.sendto(reply, addr)


@asynccontextmanager
async def dns(addresses: list[str]) -> AsyncIterator[tuple[Dns, int]]:
    """Serve DNS on a free port; give it and the port."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Dns(addresses), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


Answer = Callable[[h2.connection.H2Connection, int], None]


def answered(http: h2.connection.H2Connection, stream: int) -> None:
    """Answer a call of Echo."""
    http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    http.send_data(stream, frame(EchoResponse(text="here").to_binary()))
    http.send_headers(stream, [("grpc-status", "0")], end_stream=True)


def gone_away(http: h2.connection.H2Connection, _stream: int) -> None:
    """Say that the connection ends, and that this call was not looked at."""
    http.close_connection(last_stream_id=0)


def refused(http: h2.connection.H2Connection, stream: int) -> None:
    """Reset the call as one that was not looked at (REFUSED_STREAM)."""
    http.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)


@asynccontextmanager
async def raw_http2(answers: Iterator[Answer]) -> AsyncIterator[str]:
    """Serve HTTP/2 by hand: each request is answered by the next of `answers`; give `host:port`."""
    open_: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_[writer] = asyncio.current_task()
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http.initiate_connection()
        writer.write(http.data_to_send())
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            while data := await reader.read(65536):
                for event in http.receive_data(data):
                    if isinstance(event, h2.events.StreamEnded):
                        next(answers)(http, event.stream_id)
                writer.write(http.data_to_send())
        writer.close()
        del open_[writer]

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        running = [task for task in open_.values() if task is not None]
        for writer in tuple(open_):
            writer.close()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()
