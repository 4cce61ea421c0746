"""The operations port of an app: probes, metrics, and what operators see and change under `/admin`."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from interlock.call import Peer
from interlock.errors import PermissionDenied, RouteNotFound
from interlock.metadata import Metadata
from interlock.observability.admin import PATH, PERMISSION, Admin
from interlock.observability.metrics import Metrics
from interlock.pages import PROBES, Pages, answer
from interlock.protocols.json_mistakes import shown
from interlock.protocols.rest_server import refuse
from interlock.protocols.serving import Receive, Scope, Send
from interlock.security import audit

BODY_BYTES = 4096
_NAMES = ("localhost", "127.0.0.1", "[::1]")
_ADDRESSES = ("127.0.0.1", "::1")
"""Who is on this machine; other loopback addresses are those of proxies beside a service (Istio's 127.0.0.6)."""
_FOREIGN = (
    *(b"origin", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),
    *(b"x-forwarded-client-cert", b"x-real-ip", b"via"),
)
"""Fields that a request has which a browser's page or a proxy sends for somebody else."""

Allowed = Callable[[bytes], Awaitable[bool]]
"""Tells whether an `authorization` value is that of somebody who may administer."""


class Operations:
    """Serves `/livez`, `/readyz` (`/health`), `/metrics` and `/admin` to who reaches the port.

    `/admin` is for requests of this machine to a loopback name, and for tokens that `allowed` accepts; others are
    refused, also a page in a browser of this machine.
    """

    def __init__(self, pages: Pages, metrics: Metrics, admin: Admin, allowed: Allowed) -> None:
        self._pages = pages
        self._metrics = metrics
        self._admin = admin
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        metadata, path = Metadata.from_raw(scope["headers"]), scope["path"]
        reads = scope["method"] in ("GET", "HEAD")
        if path in PROBES and reads:
            await self._pages(scope, send, details=True)
        elif path == "/metrics" and reads:
            await self._metrics.refresh()
            kind, body = self._metrics.exposition(metadata.get("accept") or "")
            await answer(scope, send, 200, body, kind)
        elif path == PATH or path.startswith(f"{PATH}/"):
            await self._administer(scope, metadata, receive, send)
        else:
            known = ", ".join(sorted(PROBES))
            error = RouteNotFound(f"the operations port answers GET {known}, /metrics and {PATH}")
            await refuse(error, metadata, send)

    async def _administer(self, scope: Scope, metadata: Metadata, receive: Receive, send: Send) -> None:
        address, request = Peer(scope).address, f"{scope['method']} {shown(scope['path'])}"
        if not (is_local(scope, metadata) or await self._allowed(metadata.header(b"authorization") or b"")):
            message = f"{PATH} is for this machine, under a loopback name, or a token with the permission {PERMISSION}"
            audit.refused_elsewhere(request, address, "not from this machine, and no token with the permission")
            await refuse(PermissionDenied(message), metadata, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            audit.administered(request, address)
        status, document = await self._admin.answer(scope["method"], scope["path"], await _body(receive))
        text = json.dumps(document, indent=2, default=str, ensure_ascii=False).encode() + b"\n"
        await answer(scope, send, status, text, "application/json", more=[(b"cache-control", b"no-store")])


def is_local(scope: Mapping[str, Any], metadata: Metadata) -> bool:
    """Tell whether somebody on this machine asks, by a name that no foreign page can have (DNS rebinding)."""
    client = scope.get("client")
    if not client or any(metadata.header(name) is not None for name in _FOREIGN):
        return False
    host = (metadata.get("host") or metadata.get(":authority") or "").lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name in _NAMES and client[0] in _ADDRESSES


async def _body(receive: Receive) -> bytes:
    """Return the body, no more of it than any of ours has."""
    whole = b""
    while len(whole) <= BODY_BYTES:
        event = await receive()
        whole += event.get("body", b"")
        if not event.get("more_body"):
            break
    return whole[:BODY_BYTES]
