"""A service that Interlock did not make: it keeps the standard by hand, but for the faults that a test asks for."""

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from interlock.security.keys import KeySet, jwks_document
from interlock.security.refused import CredentialRefused
from interlock.security.tokens import TokenReader, TokenRules, key_id
from tests.web import served

LIMIT = 1 << 20
CODES = {
    400: "VALIDATION_ERROR",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}
PARAMETERS = [{"name": name, "in": "query"} for name in ("page_size", "page_token", "filter", "order_by")]
DOCUMENT = {
    "openapi": "3.1.0",
    "security": [{"bearer": []}],
    "paths": {
        "/api/v1/orders": {
            "get": {"parameters": PARAMETERS},
            "post": {"requestBody": {"content": {"application/json": {}}}},
        },
        "/api/v1/orders/{order_id}": {"get": {}},
    },
}


class Refused(Exception):
    """An error: its status and the field at fault."""

    def __init__(self, status: int, field: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.field = field


class Handler(BaseHTTPRequestHandler):
    """Answers one request; `keys` and `faults` are set by `foreign`."""

    keys: KeySet
    faults: Collection[str]
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.close_connection = True
        try:
            self._reply(200, self._serve())
        except Refused as refused:
            self._refuse(refused)
        except ConnectionAbortedError:
            return  # the connection is closed without an answer

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer  # noqa: N815 - names of the standard library

    def _serve(self) -> Any:
        parts = urlsplit(self.path)
        if "crash" in self.faults and "authorization" in self.headers:
            raise ConnectionAbortedError
        if parts.path == "/openapi.json" and "document" not in self.faults:
            return DOCUMENT
        if parts.path == "/.well-known/jwks.json":
            return json.loads(jwks_document(self.keys.published))
        taken = {"/api/v1/orders": ("GET", "POST")}.get(parts.path, ("GET",))
        if not parts.path.startswith("/api/v1/orders"):
            raise Refused(404)
        if self.command not in taken:
            raise Refused(405)
        self._authenticate()
        if "strict trace" in self.faults and "not-a-trace" in self.headers.get("traceparent", ""):
            raise Refused(400)
        if self.command == "POST":
            self._body()
        elif parts.path == "/api/v1/orders":
            return self._page({name: values[0] for name, values in parse_qs(parts.query).items()})
        raise Refused(404)

    def _authenticate(self) -> None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if "open" in self.faults or self._fooled(token):
            return
        try:
            known = key_id(token) == self.keys.kid
            rules, now = self._rules(token)
            TokenReader(rules, now=now).read(token, self.keys.private)
        except CredentialRefused:
            known = False
        if not known:
            raise Refused(401)

    def _fooled(self, token: str) -> bool:
        """Tell whether a fault lets a token in that nobody with the private key signed."""
        signed, _, signature = token.rpartition(".")
        if not signed:
            return False
        header, claims = (_read(part) for part in signed.split("."))
        if header.get("alg") == "none":
            return "none" in self.faults
        if header.get("alg") == "HS256" and "secret" in self.faults:
            mac = hmac.new(self.keys.private.as_pem(private=False), signed.encode(), "sha256").digest()
            return urlsafe_b64encode(mac).rstrip(b"=").decode() == signature
        if "signature" not in self.faults:
            return False
        known = header.get("alg") == "RS256" and header.get("kid") == self.keys.kid
        ours = (claims.get("aud"), claims.get("iss")) == ("microservices", "service-auth")
        return known and ours and bool(claims["exp"] > time.time())

    def _rules(self, token: str) -> tuple[TokenRules, Callable[[], float]]:
        rules, claims = TokenRules(), _read(token.split(".")[1])
        if "audience" in self.faults:
            rules = replace(rules, audience=claims["aud"])
        if "issuer" in self.faults:
            rules = replace(rules, issuer=claims["iss"])
        return rules, (lambda: float(claims["iat"])) if "expiry" in self.faults else time.time

    def _body(self) -> None:
        if self.headers.get("content-type") != "application/json" and "media type" not in self.faults:
            raise Refused(415)
        length = int(self.headers.get("content-length", 0))
        if length > LIMIT:
            raise Refused(413)
        try:
            json.loads(self.rfile.read(length))
        except ValueError:
            raise Refused(400) from None

    def _page(self, query: dict[str, str]) -> Any:
        wrong: list[str] = [
            name for name in ("page_token", "filter", "order_by") if name in query and name not in self.faults
        ]
        if query.get("page_size", "").startswith("-"):
            wrong.append("page_size")
        if "page_size" in query and "coercion" in self.faults:
            wrong.append("page_size")
        if wrong:
            raise Refused(400, wrong[0])
        return {"data": [], "meta": {}}

    def _refuse(self, refused: Refused) -> None:
        details = [{"field": refused.field, "message": "is wrong"}] if refused.field else []
        if "unnamed" in self.faults:
            details = []
        error = {"code": CODES[refused.status], "message": "no", "details": details}
        body: Any = {"error": error, "meta": {"timestamp": datetime.now(UTC).isoformat(), "request_id": "r-1"}}
        if f"bare {refused.status}" in self.faults:
            body = None
        extra = {405: ("allow", "GET"), 401: ("www-authenticate", "Bearer")}.get(refused.status)
        hidden = extra is not None and extra[0] in self.faults
        self._reply(refused.status, body, *([extra] if extra and not hidden else []))

    def _reply(self, status: int, body: Any, *headers: tuple[str, str]) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        trace = self.headers.get("traceparent", "")
        if "quiet" not in self.faults:
            self.send_header("traceresponse", f"00-{'1' * 32}-{'1' * 16}-01" if "new trace" in self.faults else trace)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def _read(part: str) -> Any:
    try:
        return json.loads(urlsafe_b64decode(part + "=="))
    except ValueError:
        return {}


@contextmanager
def foreign(keys: KeySet, *faults: str) -> Iterator[str]:
    """Serve on loopback while the block runs; yield the URL."""
    with served(type("Faulty", (Handler,), {"keys": keys, "faults": faults})) as url:
        yield url
