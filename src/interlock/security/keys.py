"""Signing keys on disk: private PEM files, and beside them the public `jwks.json` that verifiers read.

The newest key stands first in `jwks.json` and signs; older ones stay published until rotations push them out, so that
tokens they signed go on verifying. All functions block: call them in a thread from a running loop.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from joserfc.errors import JoseError

from interlock.security.algorithms import RS256, SMALLEST_BITS, Algorithm, Key, algorithm_of

DIRECTORY = Path("var/keys")
"""Where keys stand unless the settings say otherwise."""

JWKS = "jwks.json"
_KID = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")

Now = Callable[[], float]
"""Seconds since 1970; tests hand in their own."""


class KeySetError(Exception):
    """A key set that is missing, already there, or broken; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """One published key: its id (the RFC 7638 thumbprint), when it was made, and its JWK (RFC 7517)."""

    kid: str
    made: datetime | None
    jwk: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The key that signs and all that are published, newest first."""

    kid: str
    private: Key = field(repr=False)
    published: tuple[PublicKey, ...]
    algorithm: Algorithm = RS256


def new_keys(
    directory: Path = DIRECTORY, *, algorithm: Algorithm = RS256, bits: int = SMALLEST_BITS, now: Now = time.time
) -> KeySet:
    """Make `directory` with one fresh key, of `bits` (at least 2048) for RSA; `KeySetError` where keys are already.

    Of several processes that do so at once one succeeds.
    """
    path = directory / JWKS
    if path.exists():
        raise KeySetError(f"there are keys in {directory} already; `interlock keys rotate` puts a new one in front")
    kid, jwk = _make(directory, algorithm, bits, now)
    try:
        _write(path, [jwk], exclusive=True)
    except FileExistsError:
        _pem(directory, kid).unlink()
        raise KeySetError(f"another process has just made keys in {directory}") from None
    return load_keys(directory)


def ensure_keys(directory: Path = DIRECTORY, *, algorithm: Algorithm = RS256, now: Now = time.time) -> KeySet:
    """Load the keys of `directory`, made first where there are none; for development."""
    if not (directory / JWKS).exists():
        with suppress(KeySetError):  # another process was quicker
            return new_keys(directory, algorithm=algorithm, now=now)
    return load_keys(directory)


def rotate_keys(
    directory: Path = DIRECTORY, *, keep: int = 3, bits: int = SMALLEST_BITS, now: Now = time.time
) -> KeySet:
    """Put a fresh key of the same family in front; the `keep` newest stay published, older private halves are removed.

    Processes that loaded the former key go on signing with it, and their tokens verify as long as it is published.
    """
    if keep < 1:
        raise ValueError("at least the new key is kept")
    former = load_keys(directory)
    _, jwk = _make(directory, former.algorithm, bits, now)
    _write(directory / JWKS, [jwk, *(each.jwk for each in former.published)][:keep])
    for each in former.published:
        _pem(directory, each.kid).unlink(missing_ok=True)
    return load_keys(directory)


def load_keys(directory: Path = DIRECTORY) -> KeySet:
    """Read the keys of `directory`; `KeySetError` names the file that is missing or broken."""
    published = published_keys(directory / JWKS)
    signing = next((each for each in published if _pem(directory, each.kid).exists()), None)
    if signing is None:
        raise KeySetError(f"{directory} holds no private key of those in {JWKS}; tokens can only be verified with it")
    path = _pem(directory, signing.kid)
    algorithm = algorithm_of(signing.jwk)
    if algorithm is None:
        raise KeySetError(f"{signing.kid} in {directory / JWKS} is no key for RS256, ES256 or EdDSA")
    try:
        private = algorithm.private(path.read_bytes(), signing.kid)
    except (OSError, ValueError, JoseError) as error:
        raise KeySetError(f"{path} cannot be read as a private key: {error}") from error
    public = private.as_dict(private=False)
    if not private.is_private or any(public.get(name) != signing.jwk.get(name) for name in algorithm.members):
        raise KeySetError(f"{path} is not the private key of {signing.kid} in {JWKS}")
    return KeySet(kid=signing.kid, private=private, published=published, algorithm=algorithm)


def published_keys(path: Path) -> tuple[PublicKey, ...]:
    """Read the public keys in a JWKS file, in its order; `KeySetError` where it is missing or malformed."""
    try:
        entries = json.loads(path.read_bytes())["keys"]
        kids = [entry["kid"] for entry in entries]
    except FileNotFoundError:
        raise KeySetError(f"there are no keys at {path}; make them with `interlock keys new`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeySetError(f"{path} is not a JSON Web Key Set: {error!r}") from error
    if wrong := [kid for kid in kids if not isinstance(kid, str) or not _KID.match(kid)]:
        raise KeySetError(f"{path} names a key {wrong[0]!r}; an id is up to 128 letters, digits, '-' and '_'")
    return tuple(
        PublicKey(kid=kid, made=_made(entry), jwk=public_members(entry))
        for kid, entry in zip(kids, entries, strict=True)
    )


def public_members(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a key that may be published, whatever else stands in it."""
    return {name: jwk[name] for name in _PUBLIC if name in jwk}


_PUBLIC = ("kty", "use", "alg", "kid", "n", "e", "crv", "x", "y", "iat")


def jwks_document(keys: tuple[PublicKey, ...]) -> bytes:
    """Return the JSON Web Key Set (RFC 7517 §5) of those public keys."""
    return json.dumps({"keys": [dict(each.jwk) for each in keys]}, indent=2).encode() + b"\n"


def _made(jwk: Mapping[str, Any]) -> datetime | None:
    at = jwk.get("iat")
    return datetime.fromtimestamp(at, UTC) if isinstance(at, int) and 0 <= at < 2**40 else None


def _pem(directory: Path, kid: str) -> Path:
    return directory / f"{kid}.pem"


def _make(directory: Path, algorithm: Algorithm, bits: int, now: Now) -> tuple[str, dict[str, Any]]:
    """Write a fresh private key, readable for its owner alone, and return its id and public JWK."""
    if bits < SMALLEST_BITS:
        raise ValueError(f"an RSA key has at least {SMALLEST_BITS} bits")
    key = algorithm.generate(bits)
    kid = key.thumbprint()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(_pem(directory, kid), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(file, "wb") as out:
        out.write(key.as_pem(private=True))
    public = dict(key.as_dict(private=False))
    return kid, public_members({**public, "kid": kid, "use": "sig", "alg": algorithm.name, "iat": int(now())})


def _write(path: Path, keys: list[Mapping[str, Any]], *, exclusive: bool = False) -> None:
    """Write the set so that a reader sees the old one or the new one, never a part."""
    document = json.dumps({"keys": [dict(each) for each in keys]}, indent=2).encode() + b"\n"
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fresh.write_bytes(document)
    try:
        if exclusive:
            os.link(fresh, path)  # fails where the name is taken; a rename would not
        else:
            fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
