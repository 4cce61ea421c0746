"""The public keys that tokens are verified with: read from a JWKS file or URL, kept, and renewed behind the calls."""

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from interlock.call import detached, in_thread
from interlock.deadline import Clock, monotonic
from interlock.security.algorithms import RS256, Algorithm, Key
from interlock.security.keys import KeySetError, jwks_document, published_keys
from interlock.url import shown

log = logging.getLogger("interlock.security")

Fetch: TypeAlias = Callable[[], Awaitable[bytes]]
"""Gets the bytes of a JSON Web Key Set; FileNotFoundError where none was ever made, anything else is a failure."""

ABSENT = (
    "there are no keys to verify tokens with, so every call that needs a token is refused: %s is missing; in "
    "development `interlock keys new` makes it, elsewhere INTERLOCK_JWKS names a JWKS file or URL"
)
LARGEST_SET = 256 * 1024


def jwks_from(place: str | Path, *, tls: ssl.SSLContext | None = None) -> Fetch:
    """Return what fetches the set at `place`: a path, or an `https://` or `http://` URL.

    Redirects are not followed, a set is at most 256 KiB, a server has 10 s. ValueError for another kind of URL.
    """
    text = str(place)
    if text.startswith(("https://", "http://")):

        async def fetch_url() -> bytes:
            from interlock.security.web import get  # noqa: PLC0415 - an HTTP client, where keys come from afar

            return await get(text, most=LARGEST_SET, tls=tls)

        return fetch_url
    if "://" in text:
        raise ValueError(f"a key set is read from a path, an https:// or an http:// URL, not from {shown(text)}")
    path = Path(place)

    async def fetch() -> bytes:
        return await in_thread(path.read_bytes)

    return fetch


def discovered(issuer: str, *, tls: ssl.SSLContext | None = None) -> Fetch:
    """Return what fetches the keys of an OpenID Connect issuer, found by discovery (OpenID Connect Discovery 1.0 §4).

    The document must name the issuer as it is written here (§4.3), and its keys must be as well protected as it is:
    `https://`, unless the issuer itself is `http://`. ValueError for another kind of URL.
    """
    if not issuer.startswith(("https://", "http://")):
        raise ValueError(
            f"an issuer is discovered at its https:// URL, not at {shown(issuer)}; name its keys with `jwks`"
        )
    place = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    read = jwks_from(place, tls=tls)

    async def fetch() -> bytes:
        try:
            document = json.loads(await read())
            named, keys = document["issuer"], document["jwks_uri"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{shown(place)} is no OpenID configuration: {type(error).__name__}") from error
        if named != issuer:
            raise ValueError(f"{shown(place)} is about another issuer than {shown(issuer)}")
        if not isinstance(keys, str) or not keys.startswith(("https://", issuer.partition("://")[0] + "://")):
            raise ValueError(f"{shown(place)} names keys that are not at an https:// URL")
        return await jwks_from(keys, tls=tls)()

    return fetch


class VerifyingKeys:
    """Public keys by `kid`, fetched at first need, renewed in the background once `fresh_for` seconds old.

    While that fails, the known ones go on counting. For a `kid` that is not known they are fetched again, by however
    many calls at a time, at most once in `pause` seconds, and after a failure no sooner. A set in which none of the
    known keys is left, as no usual rotation makes one, is read again `pause` seconds later before they count no more.
    Belongs to one event loop.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        algorithm: Algorithm = RS256,
        fresh_for: float = 300.0,
        pause: float = 10.0,
        clock: Clock = monotonic,
    ) -> None:
        self._fetch = fetch
        self._algorithm = algorithm
        self._fresh_for = fresh_for
        self._pause = pause
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self.made: dict[str, float] = {}
        self._next_asked = self._next_renewal = float("-inf")
        self._doubted = False
        self._fetching: asyncio.Task[None] | None = None
        self.stale_at = float("-inf")
        self.absent = False
        self.on_withdrawn: Callable[[], None] = _nothing

    @property
    def loaded(self) -> bool:
        """Whether a set was ever read."""
        return bool(self._keys)

    async def find(self, kid: str) -> Key | None:
        """Return the key of that id, fetched again where it is not known; None if there is none."""
        found = self._keys.get(kid)
        if found is None:
            await self.renew()
            found = self._keys.get(kid)
        return found

    async def renew(self) -> None:
        """Fetch the keys, unless they were asked for less than `pause` seconds ago; a failure is logged, not raised."""
        if self._fetching is None and self._clock() >= self._next_asked:
            self._next_asked = self._clock() + self._pause
            self._begin()
        if self._fetching is not None:
            await asyncio.wait([self._fetching])  # others wait for it too; one that is cancelled does not stop it

    def renew_behind(self) -> None:
        """Start fetching, for a caller that is content with the keys there are."""
        if self._fetching is None and self._clock() >= self._next_renewal:
            self._begin()

    async def close(self) -> None:
        """Stop a fetch under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
            self._fetching = None

    def _begin(self) -> None:
        self._next_renewal = self.stale_at = self._clock() + self._pause
        self._fetching = detached(self._renew())

    async def _renew(self) -> None:
        try:
            document = await self._fetch()
            self._take(parse_jwks(document, self._algorithm), _made(document))
        except FileNotFoundError as missing:
            self._pause_asking()
            if not self.absent:  # told once
                log.warning(ABSENT, missing.filename)
            self.absent = not self._keys
        except Exception as failed:  # whatever a fetch raises, the keys there are still count
            self._pause_asking()
            log.warning("the keys to verify tokens with cannot be read, %d are known: %r", len(self._keys), failed)
        finally:
            self._fetching = None

    def _pause_asking(self) -> None:
        self._next_asked = max(self._next_asked, self._next_renewal)

    def _take(self, fresh: dict[str, Key], made: dict[str, float]) -> None:
        withdrawn = [
            kid for kid, key in self._keys.items() if kid not in fresh or fresh[kid].as_dict() != key.as_dict()
        ]
        self.absent = False
        self._doubted = not self._doubted and 0 < len(withdrawn) == len(self._keys)
        if self._doubted:
            log.warning(
                "none of the keys that tokens are verified with is left in their set; it is read again in a moment"
            )
            self._pause_asking()
            fresh, made, withdrawn = {**fresh, **self._keys}, {**made, **self.made}, []
        else:
            self.stale_at = self._clock() + self._fresh_for
        self._keys = fresh
        self.made = {kid: made[kid] for kid in fresh if kid in made}
        if withdrawn:
            self.on_withdrawn()


def _made(document: bytes) -> dict[str, float]:
    """Return when keys were made, where a set says so (`iat`, seconds since 1970)."""
    found = {}
    for entry in json.loads(document)["keys"]:
        at = entry.get("iat") if isinstance(entry, dict) else None
        if isinstance(at, int) and 0 <= at < 2**40:
            found[str(entry.get("kid"))] = float(at)
    return found


def _nothing() -> None:
    """Stand where nobody wants to know."""


def parse_jwks(document: bytes, algorithm: Algorithm = RS256) -> dict[str, Key]:
    """Return the usable keys of a JSON Web Key Set by `kid`: those of one family, RSA keys of 2048 bits or more.

    Others are passed over (RFC 7517 §5); ValueError if none is left, or it is no such set or above 256 KiB.
    """
    if len(document) > LARGEST_SET:
        raise ValueError(f"the key set is larger than {LARGEST_SET} bytes")
    try:
        entries = json.loads(document)["keys"]
        usable = [entry for entry in entries if algorithm.fits(entry) and isinstance(entry.get("kid"), str)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"that is not a JSON Web Key Set: {type(error).__name__}") from error
    keys: dict[str, Key] = {}
    for entry in usable:
        key = algorithm.public(entry)
        if key is not None:
            keys.setdefault(entry["kid"], key)
    if not keys:
        raise ValueError(f"no key in the set is one for {algorithm}, with a kid; an RSA key has at least 2048 bits")
    return keys


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
