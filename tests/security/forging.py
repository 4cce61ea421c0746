"""Tokens of every kind, sound and forged, made without the code that is tested."""

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from interlock.security.keys import KeySet

NOW = 1_800_000_000.0


class Clock:
    """A clock that stands until it is told otherwise."""

    def __init__(self, at: float = NOW) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def header(keys: KeySet, **changed: Any) -> dict[str, Any]:
    """Return the header of a sound token, changed; None leaves a member out."""
    members = {"typ": "JWT", "alg": "RS256", "kid": keys.kid, **changed}
    return {name: value for name, value in members.items() if value is not None}


def claims(**changed: Any) -> dict[str, Any]:
    """Return the claims of a sound token that was made now, changed; None leaves one out."""
    members = {
        "sub": "orders",
        "iss": "service-auth",
        "aud": "microservices",
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
        "roles": ["whisperer"],
        **changed,
    }
    return {name: value for name, value in members.items() if value is not None}


def forge(keys: KeySet, *, head: Any = None, body: Any = None) -> str:
    """Sign a header and a payload, each given as an object or as text, with the private key of `keys`."""
    signed = ".".join(
        _part(each) for each in (header(keys) if head is None else head, claims() if body is None else body)
    )
    private = keys.private.private_key
    assert isinstance(private, RSAPrivateKey)
    return f"{signed}.{encoded(private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def unsigned(head: Any, body: Any) -> str:
    return f"{_part(head)}.{_part(body)}."


def with_secret(secret: bytes, head: Any, body: Any) -> str:
    """Sign with HMAC, as one does who takes a public key for a secret."""
    signed = f"{_part(head)}.{_part(body)}"
    return f"{signed}.{encoded(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def _part(value: Any) -> str:
    return encoded(value.encode() if isinstance(value, str) else json.dumps(value).encode())
