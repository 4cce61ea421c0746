"""Doors through clients that others wrote: connectrpc's in its three protocols, and grpclib."""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpclib
import pyqwest
from connectrpc.client import ConnectClient, ResponseMetadata
from connectrpc.codec import proto_binary_codec, proto_json_codec
from connectrpc.compression.gzip import GzipCompression
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.encoding.base import CodecBase
from grpclib.encoding.proto import ProtoStatusDetailsCodec
from protobuf import Message
from protobuf.wkt.google.protobuf.any_pb import Any as PackedAny

from interlock import Code
from interlock.contract.gen.google.rpc.error_details_pb import BadRequest, ErrorInfo, RetryInfo
from interlock.contract.model import Kind
from interlock.contract.stub import Rpc
from interlock.server import Address
from tests.scenarios.doors import Came, Door, Failed, Pairs

STREAM_TYPES = {
    Kind.UNARY: StreamType.UNARY,
    Kind.CLIENT_STREAM: StreamType.CLIENT_STREAM,
    Kind.SERVER_STREAM: StreamType.SERVER_STREAM,
    Kind.BIDI_STREAM: StreamType.BIDI_STREAM,
}
METHODS: dict[Kind, Any] = {
    Kind.UNARY: UnaryUnaryMethod,
    Kind.CLIENT_STREAM: StreamUnaryMethod,
    Kind.SERVER_STREAM: UnaryStreamMethod,
    Kind.BIDI_STREAM: StreamStreamMethod,
}
PROTOCOLS = {
    "connectrpc": (ProtocolType.CONNECT, proto_binary_codec()),
    "connectrpc json": (ProtocolType.CONNECT, proto_json_codec()),
    "connectrpc grpc": (ProtocolType.GRPC, proto_binary_codec()),
    "connectrpc grpc-web": (ProtocolType.GRPC_WEB, proto_binary_codec()),
}
FOREIGN_DOORS = (*PROTOCOLS, "grpclib")


@asynccontextmanager
async def foreign_door(name: str, address: Address) -> AsyncIterator[Door]:
    """Open a door of that name to a served app and close it after."""
    if name == "grpclib":
        channel = Channel(address.host, address.port, codec=_Codec(), status_details_codec=ProtoStatusDetailsCodec())
        try:
            yield Grpclib(channel)
        finally:
            channel.close()
        return
    protocol, codec = PROTOCOLS[name]
    async with pyqwest.HTTPTransport(http_version=pyqwest.HTTPVersion.HTTP2) as transport:
        client = ConnectClient(
            address.url,
            protocol=protocol,
            codec=codec,
            accept_compression=[GzipCompression()],
            send_compression=GzipCompression(),
            http_client=pyqwest.Client(transport),
        )
        async with client:
            yield Connectrpc(name, client)


class Connectrpc(Door):
    """The Python client of the Connect project."""

    def __init__(self, name: str, client: ConnectClient) -> None:
        self.name = name
        self.client = client

    async def call(
        self, rpc: Rpc[Any, Any], *requests: Message[Any], metadata: Pairs = (), timeout: float | None = None
    ) -> Came:
        service, _, name = rpc.path.removeprefix("/").partition("/")
        method = MethodInfo(
            name=name,
            service_name=service,
            input=rpc.request_type,
            output=rpc.reply_type,
            idempotency_level=IdempotencyLevel.UNKNOWN,
            stream_type=STREAM_TYPES[rpc.kind],
        )
        options: dict[str, Any] = {
            "method": method,
            "headers": {key: value if isinstance(value, str) else _base64(value) for key, value in metadata},
            "timeout_ms": None if timeout is None else int(timeout * 1000),
        }
        with ResponseMetadata() as response:
            try:
                messages = await self._messages(rpc.kind, requests, options)
            except ConnectError as error:
                if isinstance(error.__cause__, asyncio.CancelledError):  # our own task's, which it takes for its own
                    raise error.__cause__ from error
                failed = _failed(Code[error.code.name.replace("CANCELED", "CANCELLED")], error.message)
                _read(failed, ((each.type_name, each.message_bytes) for each in error.details))
                failed.metadata = {**dict(_items(response.headers)), **dict(_items(response.trailers))}
                raise failed from error
        return Came(messages, dict(_items(response.headers)), dict(_items(response.trailers)))

    async def _messages(self, kind: Kind, requests: tuple[Message[Any], ...], options: dict[str, Any]) -> list[Any]:
        client = self.client
        match kind:
            case Kind.UNARY:
                return [await client.execute_unary(request=requests[0], **options)]
            case Kind.CLIENT_STREAM:
                return [await client.execute_client_stream(request=_each(requests), **options)]
            case Kind.SERVER_STREAM:
                return [each async for each in client.execute_server_stream(request=requests[0], **options)]
            case Kind.BIDI_STREAM:
                return [each async for each in client.execute_bidi_stream(request=_each(requests), **options)]


class _Codec(CodecBase):
    """How grpclib writes messages: as they write themselves."""

    __content_subtype__ = "proto"

    def encode(self, message: Message[Any], message_type: Any) -> bytes:
        return message.to_binary()

    def decode(self, data: bytes, message_type: Any) -> Any:
        return message_type.from_binary(data)


class Grpclib(Door):
    """A gRPC stack in pure Python."""

    name = "grpclib"

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def call(
        self, rpc: Rpc[Any, Any], *requests: Message[Any], metadata: Pairs = (), timeout: float | None = None
    ) -> Came:
        method = METHODS[rpc.kind](self.channel, rpc.path, rpc.request_type, rpc.reply_type)
        try:
            async with method.open(timeout=timeout, metadata=list(metadata)) as stream:
                for number, request in enumerate(requests, 1):
                    await stream.send_message(request, end=number == len(requests))
                if not requests:
                    await stream.send_request()
                    await stream.end()
                several = rpc.kind.server_streams
                messages = [each async for each in stream] if several else [await stream.recv_message()]
                await stream.recv_trailing_metadata()
        except grpclib.GRPCError as error:
            failed = _failed(Code(error.status.value), error.message or "")
            trailers = dict((stream.trailing_metadata or {}).items()) or dict((stream.initial_metadata or {}).items())
            known = [each for each in error.details or () if hasattr(each, "DESCRIPTOR")]
            _read(failed, ((each.DESCRIPTOR.full_name, each.SerializeToString()) for each in known))
            failed.metadata = trailers
            raise failed from error
        except TimeoutError as error:
            raise _failed(Code.DEADLINE_EXCEEDED, "grpclib's own clock") from error
        return Came(messages, dict(stream.initial_metadata.items()), dict(stream.trailing_metadata.items()))


def _failed(code: Code, message: str) -> Failed:
    return Failed({code}, message)


def _read(failed: Failed, details: Iterable[tuple[str, bytes]]) -> None:
    for name, value in details:
        packed = PackedAny(type_url=f"type.googleapis.com/{name}", value=value)
        if (info := packed.unpack(ErrorInfo)) is not None:
            failed.reason = info.reason
        elif (bad := packed.unpack(BadRequest)) is not None:
            failed.violations = [(each.field, each.description) for each in bad.field_violations]
        elif (retry := packed.unpack(RetryInfo)) is not None and retry.retry_delay is not None:
            failed.retry_after = retry.retry_delay.to_seconds()


async def _each(requests: tuple[Message[Any], ...]) -> AsyncIterator[Message[Any]]:
    for request in requests:
        yield request


def _items(headers: Any) -> Iterable[tuple[str, str | bytes]]:
    for name, value in headers.allitems():
        yield name, b64decode(value + "=" * (-len(value) % 4)) if name.endswith("-bin") else value


def _base64(value: bytes) -> str:
    return b64encode(value).decode().rstrip("=")
