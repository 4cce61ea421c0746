"""The API port: each request goes to the front that serves it, by path, then content type."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from interlock.assembly import TOKENS
from interlock.metadata import Metadata
from interlock.pages import Pages
from interlock.protocols.heads import HeadLimit, refuse_rpc
from interlock.protocols.rest_server import RestServer
from interlock.protocols.rpc_server import RpcServer
from interlock.protocols.serving import Receive, Scope, Send
from interlock.security.headers import secured

if TYPE_CHECKING:
    from interlock.security.token_endpoint import TokenEndpoint


class Front:
    """RPC, pages, tokens, and REST for all that is none of these; a head that is too large is refused before."""

    def __init__(
        self, heads: HeadLimit, rpc: RpcServer, rest: RestServer, pages: Pages, tokens: "TokenEndpoint | None"
    ) -> None:
        self._heads = heads
        self._rpc = rpc
        self._rest = rest
        self._pages = pages
        self._tokens = tokens

    def serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return what serves one HTTP request."""
        metadata = Metadata.from_raw(scope["headers"])
        too_large = self._heads.exceeded(scope)
        if too_large is not None:
            refusal = refuse_rpc(too_large, metadata, send)
            return refusal or self._rest.refuse(too_large, metadata, scope, receive, send)
        rpc = self._rpc(metadata, scope, receive, send)
        if rpc is not None:
            return rpc
        if self._pages.has(scope) and scope["method"] in ("GET", "HEAD"):
            return self._pages(scope, secured(send, page=True, tls=scope.get("scheme") == "https"))
        if self._tokens is not None and scope["path"] == TOKENS:
            return self._tokens.serve(scope, receive, send)
        return self._rest(scope, receive, secured(send, page=False, tls=scope.get("scheme") == "https"))
