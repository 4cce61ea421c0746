"""All RPC protocols on one port: a request to an operation's path goes to its front by content type."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from interlock.call import Outcome
from interlock.errors import Error, MethodNotAllowed, RouteNotFound, UnsupportedMediaType
from interlock.metadata import Metadata
from interlock.protocols import connect_server, grpc_server, grpc_web
from interlock.protocols.connect_server import ConnectServer, is_connect, takes_get, types_for
from interlock.protocols.departure import Departures
from interlock.protocols.grpc_server import GrpcExchange, GrpcServer
from interlock.protocols.grpc_web import GrpcWebExchange
from interlock.protocols.json_mistakes import shown
from interlock.protocols.rest_error import error_response
from interlock.protocols.serving import Endpoint, InFlight, Limits, Receive, Scope, Send, unmatched
from interlock.protocols.upload import Upload

Refused: TypeAlias = Callable[[str, Outcome], None]
"""Told of a request that reached no operation: its HTTP verb, or `GRPC` or `CONNECT`, and how it ended."""

_GRPC, _GRPC_WEB = grpc_server.CONTENT_TYPES, grpc_web.CONTENT_TYPES


class RpcServer:
    """Serves gRPC, gRPC-Web and Connect for the endpoints at their RPC paths; one object for an app."""

    def __init__(
        self, endpoints: Mapping[str, Endpoint], in_flight: InFlight, limits: Limits, refused: Refused
    ) -> None:
        self._endpoints = endpoints
        self._refused = refused
        self._grpc = GrpcServer(in_flight, limits, GrpcExchange)
        self._grpc_web = GrpcServer(in_flight, limits, GrpcWebExchange)
        self._connect = ConnectServer(in_flight, limits)
        self._departures = Departures()

    def __call__(self, metadata: Metadata, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Return what serves a request, or None for one that is not RPC's."""
        endpoint = self._endpoints.get(scope["path"])
        content_type = metadata.header(b"content-type") or b""
        if endpoint is None:
            return self._elsewhere(media_type(content_type), metadata, scope, send)
        if scope["method"] == "POST":
            if content_type in _GRPC:
                return self._grpc(endpoint, metadata, scope, receive, send)
            return self._post(endpoint, metadata, scope, receive, send)
        if scope["method"] == "GET" and takes_get(endpoint.operation):
            return self._connect.unary(endpoint, metadata, scope, receive, send, codec=None)
        verbs = ("GET", "POST") if takes_get(endpoint.operation) else ("POST",)
        return self._wrong_verb(verbs, metadata, scope, send)

    def _post(
        self, endpoint: Endpoint, metadata: Metadata, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        content_type = media_type(metadata.header(b"content-type") or b"")
        upload = Upload(metadata, scope, receive, send, departures=self._departures)
        if content_type in _GRPC_WEB:
            return self._grpc_web(endpoint, metadata, scope, upload.receive, upload.send)
        if content_type in _GRPC:
            return self._grpc(endpoint, metadata, scope, receive, send)
        codec = types_for(endpoint.operation).get(content_type)
        if codec is None:
            return self._wrong_type(endpoint, metadata, scope, send)
        serve = self._connect.stream if content_type in connect_server.STREAM_TYPES else self._connect.unary
        return serve(endpoint, metadata, scope, upload.receive, upload.send, codec=codec)

    def _elsewhere(self, content_type: bytes, metadata: Metadata, scope: Scope, send: Send) -> Awaitable[None] | None:
        grpc = content_type.startswith(b"application/grpc")
        if not grpc and not is_connect(metadata, content_type):
            return None
        if scope["method"] != "POST":
            return self._wrong_verb(("POST",), metadata, scope, send) if grpc else None
        error = RouteNotFound(f"no operation {shown(scope['path'], 200)} here")
        if content_type in _GRPC:
            self._note("GRPC", "grpc", metadata, error)
            return grpc_server.refuse(error, send)
        if content_type in _GRPC_WEB:
            self._note("GRPC", "grpc-web", metadata, error)
            return grpc_web.refuse(error, metadata, send)
        if grpc:
            return self._wrong_type(None, metadata, scope, send)
        self._note("CONNECT", "connect", metadata, error)
        return connect_server.refuse(error, send, 404)

    def _wrong_type(self, endpoint: Endpoint | None, metadata: Metadata, scope: Scope, send: Send) -> Awaitable[None]:
        types = [*_GRPC, *_GRPC_WEB, *(types_for(endpoint.operation) if endpoint is not None else ())]
        named = b", ".join(sorted(types))
        error = UnsupportedMediaType(f"an RPC path takes {named.decode()}")
        return self._plain(error, metadata, scope, send, (b"accept-post", named))

    def _wrong_verb(self, verbs: tuple[str, ...], metadata: Metadata, scope: Scope, send: Send) -> Awaitable[None]:
        error = MethodNotAllowed(f"this RPC path takes {' and '.join(verbs)}")
        error.allow = verbs
        return self._plain(error, metadata, scope, send)

    async def _plain(
        self, error: Error, metadata: Metadata, scope: Scope, send: Send, *headers: tuple[bytes, bytes]
    ) -> None:
        """Answer in HTTP's own terms what is none of the protocols."""
        request_id = self._note(scope["method"], "http", metadata, error)
        status, fields, body = error_response(error, request_id, headers)
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _note(self, method: str, protocol: str, metadata: Metadata, error: Error) -> str:
        return unmatched(metadata, protocol, error, lambda outcome: self._refused(method, outcome)).request_id


def media_type(value: bytes) -> bytes:
    """Return a content type without its parameters, in lower case."""
    return value.partition(b";")[0].strip().lower()
