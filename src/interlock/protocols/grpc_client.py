"""gRPC called over grpcio's channels: resolution, balancing, keepalive and GOAWAY are theirs, policies are ours.

A failed call raises the typed error with its details. A channel belongs to the event loop that first used it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import grpc
from grpc import aio
from protobuf import Message

from interlock.call import Call, Handler, Reply
from interlock.contract.gen.google.rpc.status_pb import Status
from interlock.contract.model import Kind, Operation
from interlock.deadline import monotonic
from interlock.errors import Code, DeadlineExceeded, Error, Internal, TooLarge, Unimplemented, error_class
from interlock.metadata import Metadata
from interlock.protocols.client_tls import Tls
from interlock.protocols.serving import closing
from interlock.protocols.status import from_status

_TRANSPORT = frozenset(("content-type", "content-length", "date", "server", "user-agent", "te", "trailer"))
_LONGEST = 1e9  # seconds; beyond about 290 years from 1970 grpcio's clock wraps round


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Read the files; OSError if one can't be read."""
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.authorities),
        private_key=_read(tls.key),
        certificate_chain=_read(tls.certificate),
    )


def _read(path: Path | str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


class GrpcTransport:
    """Transport to `target` (`host:port`, or any name that gRPC resolves) over `connections` separate connections.

    `connect` bounds how long connecting may take, TLS and HTTP/2's greeting included.
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
        self._options: list[tuple[str, Any]] = [
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", max_bytes),
            ("grpc.primary_user_agent", "interlock"),
            ("grpc.min_reconnect_backoff_ms", int(connect.total_seconds() * 1000)),  # its name for: time to connect
            ("grpc.initial_reconnect_backoff_ms", 250),  # a neighbour that is back is found soon, not after two minutes
            ("grpc.max_reconnect_backoff_ms", 3000),
        ]
        if connections > 1:  # channels of equal options would share one connection
            self._options.append(("grpc.use_local_subchannel_pool", 1))
        self._connections = connections
        self._channels: list[aio.Channel] = []

    def _open(self) -> list[aio.Channel]:
        if not self._channels:
            for _ in range(self._connections):
                if self._tls is None:
                    channel = aio.insecure_channel(self._target, self._options)
                else:
                    channel = aio.secure_channel(self._target, _credentials(self._tls), self._options)
                self._channels.append(channel)
        return self._channels

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
                requests = _Requests(call.request)
                rpc = stub()(requests.forward(), timeout=_timeout(call), metadata=_outgoing(call.metadata))
                return await _only(_replies(call, rpc, requests))

        else:

            async def send(call: Call) -> Reply:
                requests = _Requests(call.request) if operation.kind.client_streams else None
                argument = requests.forward() if requests is not None else call.request.to_binary()
                rpc = stub()(argument, timeout=_timeout(call), metadata=_outgoing(call.metadata))
                return _replies(call, rpc, requests)

        return send


class _Requests:
    """The caller's stream of requests; remembers what it raised, for grpcio reports that as a bare cancellation."""

    def __init__(self, requests: AsyncIterator[Message[Any]]) -> None:
        self._requests = requests
        self._raised: Exception | None = None

    async def forward(self) -> AsyncIterator[bytes]:
        try:
            async with closing(self._requests):
                async for request in self._requests:
                    yield request.to_binary()
        except Exception as broken:
            self._raised = broken
            raise

    def cause(self, failed: BaseException) -> BaseException:
        if self._raised is not None:
            return self._raised
        return _error(failed) if isinstance(failed, aio.AioRpcError) else failed


async def _only(replies: AsyncIterator[Message[Any]]) -> Message[Any]:
    """Return the one message of a stream; UNIMPLEMENTED if it has none, or more (grpc/doc/statuscodes.md)."""
    only: Message[Any] | None = None
    async with closing(replies):
        async for message in replies:
            if only is not None:
                raise _received(Unimplemented("the reply holds more than one message"))
            only = message
    if only is None:
        raise _received(Unimplemented("the reply holds no message"))
    return only


def _received(error: Error) -> Error:
    error.received = True
    return error


async def _replies(call: Call, rpc: Any, requests: _Requests | None) -> AsyncIterator[Message[Any]]:
    try:
        async for message in rpc:
            yield _read_reply(message)
        if call.wants_metadata:
            await _take_metadata(call, rpc)
    except (aio.AioRpcError, asyncio.CancelledError) as failed:
        if call.wants_metadata and isinstance(failed, aio.AioRpcError):
            await _take_metadata(call, rpc)
        if requests is not None:
            raise requests.cause(failed) from failed
        if isinstance(failed, aio.AioRpcError):
            raise _error(failed) from failed
        raise
    finally:
        rpc.cancel()


def _stub(channel: aio.Channel, operation: Operation) -> Any:
    make = {
        Kind.UNARY: channel.unary_unary,
        Kind.CLIENT_STREAM: channel.stream_stream,  # grpcio's own hangs where a second reply comes
        Kind.SERVER_STREAM: channel.unary_stream,
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
            return _received(Unimplemented("the reply holds no message") if data is None else Internal(wrong))

    wrong = f"the reply is no valid {operation.reply_type.desc().type_name}"
    return read


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
    error.unsent = packed is None and code == Code.UNAVAILABLE and text.startswith(_UNCONNECTED)
    error.final = trailers.get("grpc-retry-pushback-ms") == "-1"
    error.metadata = tuple(_incoming(failed.trailing_metadata()).items())
    return error


_UNCONNECTED = ("failed to connect to all addresses", "errors resolving ")
"""How grpcio words that no connection was made; it offers only the words, which a server of ours never sends bare."""


def _says_too_large(code: int, text: str) -> bool:
    return code == Code.RESOURCE_EXHAUSTED and "message larger than max" in text  # grpcio tells it in words only
