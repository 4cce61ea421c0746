"""The public keys that tokens are verified with: read from a JWKS file or URL, kept, and renewed behind the calls."""

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.util import base64_to_int

from interlock.call import detached, in_thread
from interlock.deadline import Clock, monotonic
from interlock.security.keys import ALGORITHM, SMALLEST_BITS, KeySetError, jwks_document, published_keys

log = logging.getLogger("interlock.security")

Fetch: TypeAlias = Callable[[], Awaitable[bytes]]
"""Gets the bytes of a JSON Web Key Set; FileNotFoundError where none was ever made, anything else is a failure."""

LARGEST_SET = 256 * 1024
_PATIENCE = 5.0


def jwks_from(place: str | Path, *, tls: ssl.SSLContext | None = None) -> Fetch:
    """Return what fetches the set at `place`: a path, or an `https://` or `http://` URL.

    Redirects are not followed, a set is at most 256 KiB, a server has 5 s. ValueError for another kind of URL.
    """
    text = str(place)
    if text.startswith(("https://", "http://")):
        return _from_url(text, tls)
    if "://" in text:
        raise ValueError(f"a key set is read from a path, an https:// or an http:// URL, not from {text}")
    path = Path(place)

    async def fetch() -> bytes:
        return await in_thread(path.read_bytes)

    return fetch


def _from_url(url: str, tls: ssl.SSLContext | None) -> Fetch:
    opener = build_opener(_NoRedirect(), HTTPSHandler(context=tls))
    request = Request(url, headers={"accept": "application/json", "user-agent": "interlock"})  # noqa: S310 - http(s)

    def read() -> bytes:
        with opener.open(request, timeout=_PATIENCE) as reply:
            body: bytes = reply.read(LARGEST_SET + 1)
            return body

    async def fetch() -> bytes:
        async with asyncio.timeout(2 * _PATIENCE):  # the opener's limit is for each read, not for all
            return await in_thread(read)

    return fetch


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Take a redirect for the failure that it would be: keys come from where the settings say."""


class VerifyingKeys:
    """Public keys by `kid`, fetched at first need, renewed in the background once `fresh_for` seconds old.

    While that fails, the known ones go on counting. For a `kid` that is not known they are fetched again, by however
    many calls at a time, at most once in `pause` seconds. Belongs to one event loop.
    """

    def __init__(
        self, fetch: Fetch, *, fresh_for: float = 300.0, pause: float = 10.0, clock: Clock = monotonic
    ) -> None:
        self._fetch = fetch
        self._fresh_for = fresh_for
        self._pause = pause
        self._clock = clock
        self._keys: dict[str, RSAKey] = {}
        self._next_fetch = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self.stale_at = float("-inf")
        self.absent = False
        self.on_withdrawn: Callable[[], None] = _nothing

    @property
    def loaded(self) -> bool:
        """Whether a set was ever read."""
        return bool(self._keys)

    async def find(self, kid: str) -> RSAKey | None:
        """Return the key of that id, fetched again where it is not known; None if there is none."""
        found = self._keys.get(kid)
        if found is None:
            await self.renew()
            found = self._keys.get(kid)
        return found

    async def renew(self) -> None:
        """Fetch the keys, unless that was tried less than `pause` seconds ago; a failure is logged, not raised."""
        if self._fetching is None and self._clock() >= self._next_fetch:
            self._begin()
        if self._fetching is not None:
            await asyncio.wait([self._fetching])  # others wait for it too; one that is cancelled does not stop it

    def renew_behind(self) -> None:
        """Start fetching, for a caller that is content with the keys there are."""
        if self._fetching is None and self._clock() >= self._next_fetch:
            self._begin()

    async def close(self) -> None:
        """Stop a fetch under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
            self._fetching = None

    def _begin(self) -> None:
        self._next_fetch = self._clock() + self._pause
        self.stale_at = self._next_fetch
        self._fetching = detached(self._renew())

    async def _renew(self) -> None:
        try:
            document = await self._fetch()
            self._take(parse_jwks(document))
        except FileNotFoundError as missing:
            self.absent = not self._keys
            log.warning("there are no keys to verify tokens with: %s is missing", missing.filename)
        except Exception as failed:  # whatever a fetch raises, the keys there are still count
            log.warning("the keys to verify tokens with cannot be read, %d are known: %r", len(self._keys), failed)
        finally:
            self._fetching = None

    def _take(self, fresh: dict[str, RSAKey]) -> None:
        withdrawn = [
            kid for kid, key in self._keys.items() if kid not in fresh or fresh[kid].as_dict() != key.as_dict()
        ]
        self._keys = fresh
        self.absent = False
        self.stale_at = self._clock() + self._fresh_for
        if withdrawn:
            self.on_withdrawn()


def _nothing() -> None:
    """Stand where nobody wants to know."""


def parse_jwks(document: bytes) -> dict[str, RSAKey]:
    """Return the usable keys of a JSON Web Key Set by `kid`: RSA of 2048 bits or more, for RS256 signatures.

    Others are passed over (RFC 7517 §5); ValueError if none is left, or it is no such set or above 256 KiB.
    """
    if len(document) > LARGEST_SET:
        raise ValueError(f"the key set is larger than {LARGEST_SET} bytes")
    try:
        entries = json.loads(document)["keys"]
        usable = [entry for entry in entries if _is_usable(entry)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"that is not a JSON Web Key Set: {type(error).__name__}") from error
    keys: dict[str, RSAKey] = {}
    for entry in usable:
        try:
            key = RSAKey.import_key({name: entry[name] for name in ("kty", "n", "e")})
        except (JoseError, ValueError, TypeError):
            continue
        keys.setdefault(entry["kid"], key)
    if not keys:
        raise ValueError(f"no key in the set is an RSA key of {SMALLEST_BITS} bits or more for {ALGORITHM}, with a kid")
    return keys


def _is_usable(jwk: Any) -> bool:
    return (
        isinstance(jwk, dict)
        and jwk.get("kty") == "RSA"
        and jwk.get("use", "sig") == "sig"
        and jwk.get("alg", ALGORITHM) == ALGORITHM
        and isinstance(jwk.get("kid"), str)
        and isinstance(jwk.get("e"), str)
        and _bits(jwk.get("n")) >= SMALLEST_BITS
    )


def _bits(modulus: object) -> int:
    try:
        return base64_to_int(modulus).bit_length() if isinstance(modulus, str) and modulus else 0
    except ValueError:
        return 0


class JwksPage:
    """The body of `GET /.well-known/jwks.json`: the public members of the keys in a JWKS file, an empty set if none.

    Read at most every `fresh_for` seconds.
    """

    def __init__(self, path: Path, *, fresh_for: float = 5.0, clock: Clock = monotonic) -> None:
        self._path = path
        self._fresh_for = fresh_for
        self._clock = clock
        self._body = b""
        self._stale_at = float("-inf")

    async def __call__(self) -> bytes:
        """Return the document (`application/jwk-set+json`); where the file is broken, the last sound one."""
        if self._clock() >= self._stale_at:
            self._stale_at = self._clock() + self._fresh_for
            self._body = await in_thread(self._read)
        return self._body

    def _read(self) -> bytes:
        try:
            return jwks_document(published_keys(self._path))
        except KeySetError as error:
            log.warning("no keys are published: %s", error)
            return self._body or jwks_document(())
