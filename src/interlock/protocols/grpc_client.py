"""gRPC called over grpcio's channels: connections are theirs (`grpc_channels.py`), policies are ours.

A failed call raises the typed error with its details. A channel belongs to the event loop that first used it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import Any

import grpc
from grpc import aio
from protobuf import Message

from interlock.call import Call, Handler, Reply
from interlock.contract.gen.google.rpc.status_pb import Status
from interlock.contract.model import Kind, Operation
from interlock.deadline import monotonic
from interlock.errors import UNPROCESSED, Code, DeadlineExceeded, Error, Internal, TooLarge, Unimplemented, error_class
from interlock.metadata import Metadata
from interlock.protocols.client_streams import Requests, only, received
from interlock.protocols.client_tls import Tls
from interlock.protocols.grpc_channels import open_channel, options
from interlock.protocols.serving import closing
from interlock.protocols.status import from_status

_TRANSPORT = frozenset(("content-type", "content-length", "date", "server", "user-agent", "te", "trailer"))
_LONGEST = 1e9  # seconds; beyond about 290 years from 1970 grpcio's clock wraps round


class GrpcTransport:
    """Transport to `target` (`host:port`, `ipv4:a:1,b:1`, or any name that gRPC resolves).

    `connections` separate ones are opened to each of its addresses. `connect` bounds how long connecting may take, TLS
    and HTTP/2's greeting included.
    """

    protocol = "grpc"

    def __init__(
        self,
        target: str,
        *,
        tls: Tls | None = None,
        connections: int = 1,
        max_bytes: int = 4 * 1024 * 1024,
        connect: timedelta = timedelta(seconds=30),
    ) -> None:
        if connections < 1:
            raise ValueError("connections must be at least 1")
        self._target = target
        self._tls = tls
        self._options = options(target=target, connections=connections, max_bytes=max_bytes, connect=connect)
        self._connections = connections
        self._channels: list[aio.Channel] = []

    def _open(self) -> list[aio.Channel]:
        if not self._channels:
            for _ in range(self._connections):
                self._channels.append(open_channel(self._target, self._tls, self._options))
        return self._channels

    async def connect(self, limit: float) -> bool:
        """Connect now, unless that is done; tell whether all connections are ready, False once one attempt failed.

        Gives up after `limit` seconds.
        """
        try:
            async with asyncio.timeout(limit):
                return all([await _ready(channel) for channel in self._open()])
        except TimeoutError:
            return False

    async def close(self) -> None:
        """Close the connections; calls in flight are cancelled."""
        channels, self._channels = self._channels, []
        for channel in channels:
            await channel.close()

    def handler(self, operation: Operation) -> Handler:
        """Return the handler that sends calls of `operation`, connection after connection in turn."""
        turn = count()
        bound: list[aio.Channel] = []
        stubs: list[Any] = []

        def stub() -> Any:
            nonlocal bound, stubs
            if bound is not self._channels or not bound:  # none yet, or closed and opened again since
                bound = self._open()
                stubs = [_stub(channel, operation) for channel in bound]
            return stubs[next(turn) % len(stubs)] if len(stubs) > 1 else stubs[0]

        if operation.kind is Kind.UNARY:

            async def send(call: Call) -> Reply:
                rpc = stub()(call.request.to_binary(), timeout=_timeout(call), metadata=_outgoing(call.metadata))
                try:
                    reply = await rpc
                except aio.AioRpcError as failed:
                    _take_failed(call, failed)
                    raise _error(failed) from failed
                if call.wants_metadata:
                    await _take_metadata(call, rpc)
                return _read_reply(reply)

        elif operation.kind is Kind.CLIENT_STREAM:

            async def send(call: Call) -> Reply:
                requests = Requests(call.request, _encoded)
                rpc = stub()(timeout=_timeout(call), metadata=_outgoing(call.metadata))
                return await only(_replies(call, rpc, requests))

        else:

            async def send(call: Call) -> Reply:
                several = operation.kind.client_streams
                requests = Requests(call.request, _encoded) if several else call.request.to_binary()
                rpc = stub()(timeout=_timeout(call), metadata=_outgoing(call.metadata))
                return _replies(call, rpc, requests)

        return send


async def _send_one(rpc: Any, request: bytes) -> None:
    with suppress(*_OVER):
        await rpc.write(request)
        await rpc.done_writing()


async def _send_all(rpc: Any, requests: Requests) -> None:
    """Send the requests as they come; one that can't be had ends the call."""
    messages = requests.forward()
    try:
        async with closing(messages):
            async for message in messages:
                await rpc.write(message)
        await rpc.done_writing()
    except _OVER:
        return
    except Exception:
        rpc.cancel()


_OVER = (aio.AioRpcError, aio.InternalError, asyncio.InvalidStateError)
"""What sending raises when the call has ended; its status, which the reader gets, says why."""


async def _ready(channel: aio.Channel) -> bool:
    while True:
        state = channel.get_state(try_to_connect=True)
        if state not in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
            return state is grpc.ChannelConnectivity.READY
        await channel.wait_for_state_change(state)


async def _replies(call: Call, rpc: Any, requests: Requests | bytes) -> AsyncIterator[Message[Any]]:
    # grpcio's own sending of an iterator makes a cancelled call of one whose connection breaks meanwhile
    sending = asyncio.create_task(_send_all(rpc, requests)) if isinstance(requests, Requests) else None
    try:
        if isinstance(requests, bytes):
            await _send_one(rpc, requests)
        async for message in rpc:
            yield _read_reply(message)
        if call.wants_metadata:
            await _take_metadata(call, rpc)
    except (aio.AioRpcError, asyncio.CancelledError) as failed:
        if call.wants_metadata and isinstance(failed, aio.AioRpcError):
            await _take_metadata(call, rpc)
        if isinstance(requests, Requests) and requests.raised is not None:
            raise requests.raised from failed
        if isinstance(failed, aio.AioRpcError):
            raise _error(failed) from failed
        raise
    finally:
        rpc.cancel()
        if sending is not None:
            sending.cancel()


def _stub(channel: aio.Channel, operation: Operation) -> Any:
    make = {
        Kind.UNARY: channel.unary_unary,
        Kind.CLIENT_STREAM: channel.stream_stream,  # grpcio's own hangs where a second reply comes
        Kind.SERVER_STREAM: channel.stream_stream,  # unary_stream forgets headers that come right before the end
        Kind.BIDI_STREAM: channel.stream_stream,
    }[operation.kind]
    # requests are encoded before: what grpcio can't encode it sends as an empty message
    return make(operation.path, response_deserializer=_reader(operation))


def _reader(operation: Operation) -> Callable[[bytes | None], Message[Any] | Error]:
    """Decode replies; what can't be is returned as the error, for grpcio makes None of what is raised in here."""
    decode = operation.reply_type.from_binary

    def read(data: bytes | None) -> Message[Any] | Error:
        try:
            return decode(data)  # type: ignore[arg-type]  # None is caught below
        except Exception:
            return received(Unimplemented("the reply holds no message") if data is None else Internal(wrong))

    wrong = f"the reply is no valid {operation.reply_type.desc().type_name}"
    return read


def _encoded(request: Message[Any]) -> bytes:
    return request.to_binary()


def _read_reply(reply: Any) -> Message[Any]:
    if isinstance(reply, Error):
        raise reply
    return reply  # type: ignore[no-any-return]  # grpcio types it so


def _timeout(call: Call) -> float | None:
    at = call.deadline.at
    if at == float("inf"):
        return None
    left = at - monotonic()
    if left <= 0:
        late = DeadlineExceeded("the deadline passed before the call was sent")
        late.unsent = True
        raise late
    return min(left, _LONGEST)


def _outgoing(metadata: Metadata) -> tuple[tuple[str, str | bytes], ...] | None:
    return tuple(metadata.items()) if metadata.raw else None


def _take_failed(call: Call, failed: aio.AioRpcError) -> None:
    if call.wants_metadata:
        call.reply_headers.extend(_incoming(failed.initial_metadata()))
        call.reply_trailers.extend(_incoming(failed.trailing_metadata()))


async def _take_metadata(call: Call, rpc: Any) -> None:
    call.reply_headers.extend(_incoming(await rpc.initial_metadata()))
    call.reply_trailers.extend(_incoming(await rpc.trailing_metadata()))


def _incoming(pairs: Any) -> Metadata:
    metadata = Metadata()
    for name, value in pairs or ():
        if name not in _TRANSPORT and not name.startswith("grpc-"):
            with suppress(ValueError):  # another server's metadata need not keep our rules
                metadata.add(name, value)
    return metadata


def _error(failed: aio.AioRpcError) -> Error:
    trailers = dict(failed.trailing_metadata() or ())
    code: int = failed.code().value[0]
    text = failed.details() or ""
    error: Error | None = None
    packed = trailers.get("grpc-status-details-bin")
    if isinstance(packed, bytes):
        try:
            status = Status.from_binary(packed)
            if status.code == code:
                error = from_status(code, status.message or text, list(status.details))
        except Exception:
            error = None  # details that can't be read must not hide the error itself
    if error is None:
        error = TooLarge(text) if _says_too_large(code, text) else error_class(code)(text)
    error.received = True
    error.unsent = packed is None and code == Code.UNAVAILABLE and text.startswith(_UNPROCESSED)
    error.unsent |= trailers.get(UNPROCESSED[0]) == UNPROCESSED[1]
    error.final = trailers.get("grpc-retry-pushback-ms") == "-1"
    error.metadata = tuple(_incoming(failed.trailing_metadata()).items())
    return error


_UNPROCESSED = (
    "failed to connect to all addresses",
    "errors resolving ",
    "Stream removed (GOAWAY received",
    "Stream removed (RST_STREAM (Received RST_STREAM with error code 7)",  # REFUSED_STREAM, RFC 9113 §8.7
)
"""How grpcio words that no server took the call; it offers only the words, which a server of ours never sends bare."""


def _says_too_large(code: int, text: str) -> bool:
    return code == Code.RESOURCE_EXHAUSTED and "message larger than max" in text  # grpcio tells it in words only
