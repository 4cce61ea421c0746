"""The plain pages of an app: probes for whoever asks whether it lives and is ready, and its OpenAPI document."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from interlock.observability.health import Health
from interlock.protocols.grpc_server import Scope, Send

PROBES = frozenset(("/livez", "/readyz", "/health"))
OPENAPI = "/openapi.json"
JWKS = "/.well-known/jwks.json"


class Pages:
    """Serves `/livez`, `/readyz` (also `/health`), `/openapi.json` and `/.well-known/jwks.json`, to GET and HEAD."""

    def __init__(self, health: Health, document: Callable[[], bytes], keys: Callable[[], Awaitable[bytes]]) -> None:
        self._health = health
        self._document = document
        self._keys = keys

    def has(self, scope: Scope) -> bool:
        """Tell whether the API port answers this path here: not where callers must show a certificate."""
        path = scope["path"]
        if path in (OPENAPI, JWKS):
            return True
        return path in PROBES and not _shows_certificate(scope)

    async def __call__(self, scope: Scope, send: Send, *, details: bool = False) -> None:
        """Answer; `details` names what is not well, for operators only."""
        if scope["path"] == JWKS:
            await answer(scope, send, 200, await self._keys(), "application/jwk-set+json")
            return
        status, body = await self._answer(scope["path"], details=details)
        await answer(scope, send, status, body, "application/json")

    async def _answer(self, path: str, *, details: bool) -> tuple[int, bytes]:
        if path == OPENAPI:
            return 200, self._document()
        if path == "/livez" or not (failing := await self._health.failing()):
            return 200, b'{"status": "ok"}'
        report: dict[str, Any] = {"status": "unavailable"}
        if details:
            report["failing"] = failing
        return 503, json.dumps(report).encode()


async def answer(scope: Scope, send: Send, status: int, body: bytes, content_type: str) -> None:
    """Send a whole page; to HEAD its head alone."""
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _shows_certificate(scope: Mapping[str, Any]) -> bool:
    tls = scope.get("extensions", {}).get("tls") or {}
    return bool(tls.get("client_cert_chain"))
