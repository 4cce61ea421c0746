"""Verifying tokens: keys, rules and a bounded cache of those that verified, so that most calls cost a look-up."""

import time
from collections import OrderedDict
from pathlib import Path

from interlock.call import Principal
from interlock.deadline import Clock, monotonic
from interlock.errors import Unavailable
from interlock.security.jwks import VerifyingKeys, jwks_from
from interlock.security.keys import Now
from interlock.security.refused import CredentialRefused
from interlock.security.tokens import TokenReader, TokenRules, key_id


class Verifier:
    """Tells who a token names, or refuses it; remembers up to `most` tokens until they expire or a key is withdrawn.

    Belongs to one event loop; does no I/O before `start` or the first token.
    """

    def __init__(
        self,
        keys: VerifyingKeys,
        rules: TokenRules | None = None,
        *,
        most: int = 2048,
        now: Now = time.time,
        clock: Clock = monotonic,
    ) -> None:
        self._keys = keys
        self._reader = TokenReader(rules or TokenRules(), now=now)
        self._most = most
        self._now = now
        self._clock = clock
        # By the token itself: a look-up compares the whole of it, and Python's hash of bytes costs a third of a digest.
        self._verified: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        keys.on_withdrawn = self._verified.clear

    @classmethod
    def at(cls, place: str | Path, rules: TokenRules | None = None) -> "Verifier":
        """Return a verifier of tokens signed with the keys at `place`: a JWKS file or URL (see `jwks_from`)."""
        local = "://" not in str(place)
        return cls(VerifyingKeys(jwks_from(place), fresh_for=30.0 if local else 300.0), rules)

    async def start(self) -> None:
        """Fetch the keys where none are known yet; a failure is logged and tried again at the next need."""
        if not self._keys.loaded:
            await self._keys.renew()

    async def close(self) -> None:
        """Stop a fetch under way."""
        await self._keys.close()

    @property
    def configured(self) -> bool:
        """Whether keys are known, or where they should be is out of reach; False if none were ever made."""
        return not self._keys.absent

    def known(self, header: bytes) -> Principal | None:
        """Return who an `authorization` value names that verified before and still counts; costs about 1 µs."""
        found = self._verified.get(header)
        if found is None:
            return None
        if self._now() >= found[1]:
            del self._verified[header]
            return None
        if self._clock() >= self._keys.stale_at:
            self._keys.renew_behind()
        self._verified.move_to_end(header)
        return found[0]

    async def verify(self, header: bytes) -> Principal:
        """Return who an `authorization` value (`Bearer …`, RFC 6750) names, and remember it.

        `CredentialRefused` says why not; `Unavailable` where no key could be fetched so far.
        """
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer":
            raise CredentialRefused("the authorization is no bearer token")
        text = token.strip(b" ").decode("latin-1")
        kid = key_id(text)
        key = await self._keys.find(kid)
        if key is None:
            if not self._keys.loaded and self.configured:
                raise Unavailable("credentials cannot be verified at the moment")
            raise CredentialRefused(f"its key {kid[:64]!a} is not known")
        principal, until = self._reader.read(text, key)
        self._verified[header] = principal, until
        if len(self._verified) > self._most:
            self._verified.popitem(last=False)
        return principal
