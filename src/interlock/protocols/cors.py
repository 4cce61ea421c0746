"""Cross-origin requests (WHATWG Fetch §3.2), for REST, Connect and gRPC-Web alike: a front before all others."""

import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from functools import partial
from typing import Any, TypeAlias

from interlock.errors import PermissionDenied
from interlock.metadata import Metadata
from interlock.protocols.rest_error import error_response
from interlock.protocols.serving import Receive, Scope, Send, unmatched

Asgi: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_AGE = 7200
"""Seconds for which a browser may remember a preflight; no browser remembers longer."""

_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z\-, \t]{0,4096}\Z")
_RPC = (b"grpc-status", b"grpc-message", b"grpc-status-details-bin")
_EXPOSE = b"access-control-expose-headers"
_ORIGIN = (b"vary", b"origin")
_PREFLIGHT = (b"vary", b"origin, access-control-request-method, access-control-request-headers")
_SAFELISTED = frozenset((b"content-type", b"content-length", b"cache-control", b"vary", b"date", _EXPOSE))


class Cors:
    """Lets scripts of `origins` call `app`: those named, with credentials; `*` is everybody, without.

    Preflights are answered here and reach nothing else. A script of another origin is not kept from calling, only its
    browser from showing it the answer, as the standard has it.
    """

    def __init__(self, app: Asgi, origins: Collection[str]) -> None:
        self._app = app
        self._any = "*" in origins
        self._origins = frozenset(each.lower().encode() for each in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        metadata = Metadata.from_raw(scope["headers"])
        origin = metadata.header(b"origin")
        if origin is None:
            await self._app(scope, receive, send if self._any else partial(_send_varying, send))
            return
        granted = self._granted(origin)
        if scope["method"] == "OPTIONS" and metadata.header(b"access-control-request-method") is not None:
            await self._preflight(granted, metadata, send)
            return
        await self._app(scope, receive, partial(_send_granting, send, granted, vary=not self._any))

    def _granted(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        if self._any:
            return [(b"access-control-allow-origin", b"*")]
        if origin.lower() not in self._origins:
            return []
        return [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")]

    async def _preflight(self, granted: list[tuple[bytes, bytes]], metadata: Metadata, send: Send) -> None:
        if not granted:
            error = PermissionDenied(
                "scripts of this origin may not call; the setting cors_origins names those that may"
            )
            request_id = unmatched(metadata, "rest", error, lambda _: None).request_id
            status, headers, body = error_response(error, request_id)
            headers.append(_PREFLIGHT)
        else:
            status, body = 204, b""
            asked = metadata.header(b"access-control-request-headers")
            headers = [*granted, (b"access-control-allow-methods", _METHODS), _PREFLIGHT]
            headers.append((b"access-control-max-age", b"%d" % MAX_AGE))
            if asked and _NAMES.match(asked):
                headers.append((b"access-control-allow-headers", asked))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def _send_varying(send: Send, event: MutableMapping[str, Any]) -> None:
    if event["type"] == "http.response.start":
        event = {**event, "headers": [*event.get("headers", ()), _ORIGIN]}
    await send(event)


async def _send_granting(
    send: Send, granted: list[tuple[bytes, bytes]], event: MutableMapping[str, Any], *, vary: bool
) -> None:
    """Add the grant to a response's head, and let the script read all that stands in it."""
    if event["type"] == "http.response.start":
        headers = [pair for pair in event.get("headers", ()) if pair[0] != _EXPOSE]
        names = dict.fromkeys((*(name for name, _ in headers if name not in _SAFELISTED), *_RPC))
        if granted:
            headers += [*granted, (_EXPOSE, b", ".join(names))]
        if vary:
            headers.append(_ORIGIN)
        event = {**event, "headers": headers}
    await send(event)


def check_origin(text: str) -> str:
    """Return an origin as browsers write it, or `*`; ValueError for anything else."""
    origin = text.strip().rstrip("/")
    if origin != "*" and not _IS_ORIGIN.match(origin):
        raise ValueError(f"{text!r} is no origin; write https://app.example.com or http://localhost:3000, or * for all")
    return origin.lower()


_IS_ORIGIN = re.compile(r"[a-z][a-z0-9+.\-]*://(?:[a-z0-9.\-_]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?\Z", re.IGNORECASE)
