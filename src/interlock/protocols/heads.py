"""The head of a request, bounded for every protocol alike before anything else looks at it."""

from collections.abc import Awaitable
from itertools import chain

from interlock.errors import Error, HeadersTooLarge
from interlock.metadata import Metadata
from interlock.protocols import connect_server, grpc_server, grpc_web
from interlock.protocols.connect_server import is_connect
from interlock.protocols.serving import Scope, Send


class HeadLimit:
    """The most header fields of a request, and the most bytes of their names and values and of its path and query."""

    __slots__ = ("_bytes", "_fields")

    def __init__(self, max_bytes: int, max_fields: int) -> None:
        self._bytes = max_bytes
        self._fields = max_fields

    def exceeded(self, scope: Scope) -> HeadersTooLarge | None:
        """Return what refuses the request, None where it keeps within the bounds."""
        fields = scope["headers"]
        if len(fields) > self._fields:
            return HeadersTooLarge(f"the request has more than {self._fields} header fields")
        size = sum(map(len, chain.from_iterable(fields))) + len(scope["path"]) + len(scope.get("query_string", b""))
        if size > self._bytes:
            return HeadersTooLarge(f"path and header fields of the request are more than {self._bytes} bytes")
        return None


def refuse_rpc(error: Error, metadata: Metadata, send: Send) -> Awaitable[None] | None:
    """Return what answers with `error` in the form of the RPC protocol that a request is of; None for none of them."""
    content_type = (metadata.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    if content_type in grpc_web.CONTENT_TYPES:
        return grpc_web.refuse(error, metadata, send)
    if content_type.startswith(b"application/grpc"):
        return grpc_server.refuse(error, send)
    if is_connect(metadata, content_type):
        return connect_server.refuse(error, send, 429)
    return None
