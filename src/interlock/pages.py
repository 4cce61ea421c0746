"""The plain pages of an app: probes for whoever asks whether it lives and is ready, and its documents."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from interlock import explorer
from interlock.observability.health import Health
from interlock.protocols.serving import Scope, Send

PROBES = frozenset(("/livez", "/readyz", "/health"))
OPENAPI = "/openapi.json"
ASYNCAPI = "/asyncapi.json"
JWKS = "/.well-known/jwks.json"


class Pages:
    """Serves `/livez`, `/readyz` (also `/health`), the documents and `/.well-known/jwks.json`, to GET and HEAD.

    With `docs` also `/docs`, where the API is shown and tried.
    """

    def __init__(
        self,
        health: Health,
        openapi: Callable[[], bytes],
        asyncapi: Callable[[], bytes],
        keys: Callable[[], Awaitable[bytes]],
        *,
        docs: bool = False,
    ) -> None:
        self._health = health
        self._documents = {OPENAPI: openapi, ASYNCAPI: asyncapi}
        self._keys = keys
        self._explorer = explorer.PATHS if docs else frozenset[str]()

    def has(self, scope: Scope) -> bool:
        """Tell whether the API port answers this path here: not where callers must show a certificate."""
        path = scope["path"]
        if path in self._documents or path == JWKS or path in self._explorer:
            return True
        return path in PROBES and not _shows_certificate(scope)

    async def __call__(self, scope: Scope, send: Send, *, details: bool = False) -> None:
        """Answer; `details` names what is not well, for operators only."""
        if scope["path"] in self._explorer:
            body, content_type = explorer.asset(scope["path"])
            await answer(scope, send, 200, body, content_type, more=explorer.HEADERS)
            return
        if scope["path"] == JWKS:
            await answer(scope, send, 200, await self._keys(), "application/jwk-set+json")
            return
        status, body = await self._answer(scope["path"], details=details)
        await answer(scope, send, status, body, "application/json")

    async def _answer(self, path: str, *, details: bool) -> tuple[int, bytes]:
        if (document := self._documents.get(path)) is not None:
            return 200, document()
        if path == "/livez" or not (failing := await self._health.failing()):
            return 200, b'{"status": "ok"}'
        report: dict[str, Any] = {"status": "unavailable"}
        if details:
            report["failing"] = failing
        return 503, json.dumps(report).encode()


async def answer(
    scope: Scope,
    send: Send,
    status: int,
    body: bytes,
    content_type: str,
    *,
    more: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send a whole page, with `more` headers; to HEAD its head alone."""
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _shows_certificate(scope: Mapping[str, Any]) -> bool:
    tls = scope.get("extensions", {}).get("tls") or {}
    return bool(tls.get("client_cert_chain"))
