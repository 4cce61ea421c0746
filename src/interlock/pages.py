"""The plain pages of an app: probes for whoever asks whether it lives and is ready, and its OpenAPI document."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from interlock.observability.health import Health
from interlock.protocols.grpc_server import Scope, Send

PROBES = frozenset(("/livez", "/readyz", "/health"))
OPENAPI = "/openapi.json"


class Pages:
    """Serves `/livez`, `/readyz` (also `/health`) and `/openapi.json`, to GET and HEAD."""

    def __init__(self, health: Health, document: Callable[[], bytes]) -> None:
        self._health = health
        self._document = document

    def has(self, scope: Scope) -> bool:
        """Tell whether the API port answers this path here: not where callers must show a certificate."""
        path = scope["path"]
        if path == OPENAPI:
            return True
        return path in PROBES and not _shows_certificate(scope)

    async def __call__(self, scope: Scope, send: Send, *, details: bool = False) -> None:
        """Answer; `details` names what is not well, for operators only."""
        status, body = await self._answer(scope["path"], details=details)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, path: str, *, details: bool) -> tuple[int, bytes]:
        if path == OPENAPI:
            return 200, self._document()
        if path == "/livez" or not (failing := await self._health.failing()):
            return 200, b'{"status": "ok"}'
        report: dict[str, Any] = {"status": "unavailable"}
        if details:
            report["failing"] = failing
        return 503, json.dumps(report).encode()


def _shows_certificate(scope: Mapping[str, Any]) -> bool:
    tls = scope.get("extensions", {}).get("tls") or {}
    return bool(tls.get("client_cert_chain"))
