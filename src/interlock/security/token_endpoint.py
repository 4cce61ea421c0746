"""`POST /oauth/token` for development: tokens for the API keys of service accounts (RFC 6749 §4.4).

An issuer for one machine: production has an OpenID Connect provider of its own.
"""

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote

from interlock.call import Principal, in_thread
from interlock.errors import Error
from interlock.security import audit
from interlock.security.api_keys import ApiKeys
from interlock.security.keys import KeySetError, load_keys
from interlock.security.refused import CredentialRefused
from interlock.security.tokens import Issuer

LARGEST = 8 * 1024
LIFETIME = timedelta(hours=1)
_FORM = "application/x-www-form-urlencoded"


class TokenRefused(Exception):
    """A request that gets no token: the error of RFC 6749 §5.2, its HTTP status, and a sentence."""

    def __init__(self, error: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.error = error
        self.status = status


class TokenEndpoint:
    """Gives tokens: the client's id is an account's name, its secret one of the account's API keys."""

    def __init__(self, api_keys: ApiKeys, keys: Path, *, issuer: str, audience: str) -> None:
        self._api_keys = api_keys
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one ASGI request, whatever its verb."""
        headers = dict(scope["headers"])
        status, answer = 405, {"error": "invalid_request", "error_description": "tokens are given to POST"}
        if scope["method"] == "POST":
            client = scope.get("client")
            status, answer = await self(
                await _body(receive),
                headers.get(b"content-type", b"").decode("latin-1"),
                headers.get(b"authorization", b"").decode("latin-1"),
                client[0] if client else "",
            )
        body = json.dumps(answer).encode()
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),  # RFC 6749 §5.1
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 401:
            head.append((b"www-authenticate", b'Basic realm="oauth"'))
        elif status == 405:
            head.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})

    async def __call__(
        self, body: bytes, content_type: str, authorization: str, address: str
    ) -> tuple[int, dict[str, Any]]:
        """Answer one request, given its body (at most 8 KiB) and headers: status and JSON."""
        try:
            fields = _fields(body, content_type)
            if fields.get("grant_type") != "client_credentials":
                raise TokenRefused("unsupported_grant_type", "grant_type must be client_credentials")  # noqa: TRY301
            principal = await self._client(*_client(fields, authorization), address)
            roles = _scope(fields.get("scope", ""), principal)
            token = await in_thread(self._mint, principal.subject, roles)
        except TokenRefused as refused:
            return refused.status, {"error": refused.error, "error_description": str(refused)}
        except KeySetError as error:
            return 503, {"error": "temporarily_unavailable", "error_description": str(error)}
        except Error as error:
            return error.http_status, {"error": "temporarily_unavailable", "error_description": error.message}
        lifetime = int(LIFETIME.total_seconds())
        return 200, {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": lifetime,
            "scope": " ".join(sorted(roles)),
        }

    async def _client(self, name: str, secret: str, address: str) -> Principal:
        try:
            principal = await self._api_keys.verify(secret.encode(errors="replace"), address)
        except CredentialRefused as refused:
            _wrong_client(address, str(refused))
        if principal.subject != name:
            _wrong_client(address, "the API key is another account's")
        return principal

    def _mint(self, subject: str, roles: frozenset[str]) -> str:
        issuer = Issuer(keys=load_keys(self._keys), name=self._issuer, audience=self._audience)
        return issuer.mint(subject, roles, lifetime=LIFETIME)


async def _body(receive: Any) -> bytes:
    """Return the body, or as much of it as tells that it is too large."""
    found = bytearray()
    more = True
    while more and len(found) <= LARGEST:
        event = await receive()
        found += event.get("body", b"")
        more = event["type"] == "http.request" and event.get("more_body", False)
    return bytes(found)


def _wrong_client(address: str, reason: str) -> NoReturn:
    audit.refused_elsewhere("a token of the token endpoint", address, reason)
    raise TokenRefused("invalid_client", "the client is not known, or its secret is wrong", 401) from None


def _fields(body: bytes, content_type: str) -> Mapping[str, str]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (_FORM, "application/json"):
        raise TokenRefused("invalid_request", f"the body is to be {_FORM} or application/json")
    try:
        pairs: Any = _pairs(body, kind) if len(body) <= LARGEST else [None]
        fields = dict(pairs)
    except (ValueError, TypeError, RecursionError):
        pairs, fields = [None], {}
    if len(fields) < len(pairs) or not all(isinstance(each, str) for each in fields.values()):
        raise TokenRefused("invalid_request", f"the body is no {kind} of up to {LARGEST} bytes with each field once")
    return fields


def _pairs(body: bytes, kind: str) -> Any:
    if kind == _FORM:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=16)
    return json.loads(body, object_pairs_hook=list)


def _client(fields: Mapping[str, str], authorization: str) -> tuple[str, str]:
    """Return id and secret: of the Basic header, or of the body (RFC 6749 §2.3.1), not of both."""
    scheme, _, given = authorization.partition(" ")
    in_body = "client_secret" in fields
    if not authorization and in_body:
        return fields.get("client_id", ""), fields["client_secret"]
    if in_body or scheme.lower() != "basic":
        raise TokenRefused("invalid_client", _SHOW, 401)
    try:
        name, _, secret = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except ValueError:
        raise TokenRefused("invalid_client", _SHOW, 401) from None
    return unquote(name), unquote(secret)


_SHOW = "show id and secret once: as Basic, or in the body"


def _scope(wanted: str, principal: Principal) -> frozenset[str]:
    asked = frozenset(wanted.split())
    if asked - principal.roles:
        raise TokenRefused("invalid_scope", "the account does not hold all roles in scope")
    return asked or principal.roles
