"""Connect served over ASGI (connectrpc.com/docs/protocol): by content type to a unary exchange or a stream's."""

import asyncio
from collections.abc import Awaitable

from interlock.call import Call, Peer
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Kind, Operation
from interlock.errors import Error
from interlock.metadata import Metadata
from interlock.protocols.connect_codec import CODECS, Codec
from interlock.protocols.connect_error import error_response
from interlock.protocols.connect_stream import ConnectStream
from interlock.protocols.connect_unary import ConnectUnary
from interlock.protocols.serving import Endpoint, InFlight, Limits, Receive, Scope, Send, serve

UNARY_TYPES = {b"application/" + name: codec for name, codec in CODECS.items()}
STREAM_TYPES = {b"application/connect+" + name: codec for name, codec in CODECS.items()}


class ConnectServer:
    """Serves the four kinds of RPC; one object for all operations of an app."""

    def __init__(self, in_flight: InFlight, limits: Limits) -> None:
        self._in_flight = in_flight
        self._limits = limits

    def unary(
        self, endpoint: Endpoint, metadata: Metadata, scope: Scope, receive: Receive, send: Send, *, codec: Codec | None
    ) -> Awaitable[None]:
        """Serve one request to a unary `endpoint`; without a `codec` it is a GET."""
        call = Call(endpoint.operation, metadata, peer=Peer(scope), protocol="connect", task=asyncio.current_task())
        exchange = ConnectUnary(endpoint, call, scope, receive, send, limits=self._limits, codec=codec)
        return serve(endpoint, call, exchange, self._in_flight)

    def stream(
        self, endpoint: Endpoint, metadata: Metadata, scope: Scope, receive: Receive, send: Send, *, codec: Codec
    ) -> Awaitable[None]:
        """Serve one request to an `endpoint` of any other kind."""
        call = Call(endpoint.operation, metadata, peer=Peer(scope), protocol="connect", task=asyncio.current_task())
        exchange = ConnectStream(endpoint, call, scope, receive, send, limits=self._limits, codec=codec)
        return serve(endpoint, call, exchange, self._in_flight)


def types_for(operation: Operation) -> dict[bytes, Codec]:
    """Return the content types that Connect has for an operation."""
    return UNARY_TYPES if operation.kind is Kind.UNARY else STREAM_TYPES


def takes_get(operation: Operation) -> bool:
    """Tell whether an operation may be asked with GET: a unary one, which repeating does nothing to."""
    return operation.kind is Kind.UNARY and operation.idempotency is Idempotency.SAFE


def is_connect(metadata: Metadata, content_type: bytes) -> bool:
    """Tell whether a request whose path is no operation's was meant for Connect, and not for REST."""
    if content_type in STREAM_TYPES or content_type == b"application/proto":
        return True
    return metadata.header(b"connect-protocol-version") is not None


async def refuse(error: Error, send: Send, status: int) -> None:
    """Answer with `error` and an HTTP status where no operation is reached."""
    _, headers, body = error_response(error, "interlock", ())
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
