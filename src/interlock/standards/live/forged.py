"""Tokens that no service may take, each sound but for one thing; keys are thrown away."""

import base64
import hashlib
import hmac
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from interlock.security.keys import KeySet, new_keys
from interlock.security.tokens import AUDIENCE, ISSUER, Issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What an attacker knows of the service: a key id and public key (PEM) that it publishes, the claims it takes.

    `signing` are keys that it trusts, where the check was given them; `token` is one that it takes.
    """

    kid: str = ""
    public: bytes = b""
    issuer: str = ISSUER
    audience: str = AUDIENCE
    signing: KeySet | None = None
    token: str = field(default="", repr=False)


def throw_away_keys() -> KeySet:
    """Make a key pair that is on no disk any more. Takes some 100 ms."""
    with tempfile.TemporaryDirectory(prefix="interlock-") as name:
        return new_keys(Path(name, "keys"))


def forged_tokens(known: Knowledge, own: KeySet) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a token, and the token.

    Expired, of another audience and of another issuer are signed by `known.signing` where it is there; else by `own`
    under the published key's id, so that a service which refuses them may do so for the signature alone.
    """
    kid = known.kid or own.kid
    stolen = replace(own, kid=kid)
    trusted = known.signing or stolen
    sound = Issuer(keys=trusted, name=known.issuer, audience=known.audience)
    yield "signed by a key of its own, with an unknown key id", replace(sound, keys=own).mint("interlock-check")
    if known.kid:
        yield (
            "signed by a key of its own, with the id of a known one",
            replace(sound, keys=stolen).mint("interlock-check"),
        )
    past = time.time() - timedelta(hours=3).total_seconds()
    yield "that is expired", replace(sound, now=lambda: past).mint("interlock-check")
    yield "for another audience", sound.mint("interlock-check", audience="interlock-check")
    yield "of another issuer", replace(sound, name="interlock-check").mint("interlock-check")
    token = known.token or sound.mint("interlock-check")
    header, claims, signature = token.split(".")
    changed = {**_decoded(claims), "sub": "interlock-check-other"}
    yield "changed after it was signed", f"{header}.{_encoded(changed)}.{signature}"
    body = _encoded(_decoded(claims))
    yield "without a signature (alg none)", f"{_encoded({'typ': 'JWT', 'alg': 'none', 'kid': kid})}.{body}."
    head = _encoded({"typ": "JWT", "alg": "HS256", "kid": kid})
    secret = known.public or own.private.as_pem(private=False)
    mac = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    yield "signed by HS256 with the public key", f"{head}.{body}.{_base64(mac)}"


def claims_of(token: str) -> Mapping[str, Any]:
    """Return the claims that a token states, unverified; empty where it is no JWT."""
    parts = token.split(".")
    try:
        return _decoded(parts[1])
    except (IndexError, ValueError):
        return {}


def _decoded(part: str) -> dict[str, Any]:
    found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - what came is malformed
    return found


def _encoded(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
