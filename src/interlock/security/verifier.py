"""Verifying tokens: keys and rules of each issuer, and a bounded cache of what verified, so that most calls look up."""

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from interlock.call import Principal
from interlock.deadline import Clock, monotonic
from interlock.errors import Unavailable
from interlock.security.gauges import Gauges
from interlock.security.jwks import Fetch, VerifyingKeys, jwks_from
from interlock.security.keys import Now
from interlock.security.refused import CredentialRefused
from interlock.security.tokens import TokenReader, TokenRules, claimed_issuer, key_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """One issuer that is believed: where its keys are, and what its tokens must say."""

    keys: VerifyingKeys
    rules: TokenRules


def trusted(place: str | Path | Fetch, rules: TokenRules) -> Trusted:
    """Return an issuer whose keys are at `place`: a JWKS file or URL (see `jwks_from`), or what fetches them."""
    local = not callable(place) and "://" not in str(place)
    fetch = place if callable(place) else jwks_from(place)
    return Trusted(
        keys=VerifyingKeys(fetch, algorithm=rules.algorithm, fresh_for=30.0 if local else 300.0), rules=rules
    )


class Verifier:
    """Tells who a token names, or refuses it; remembers up to `most` tokens until they expire or a key is withdrawn.

    `keys` and `rules` are the services' own issuer's, `others` are believed beside it: what a token says of its issuer
    chooses one of them, and its keys, algorithm and rules alone count then. Belongs to one event loop; does no I/O
    before `start` or the first token. ValueError for two issuers of one name.
    """

    def __init__(
        self,
        keys: VerifyingKeys,
        rules: TokenRules | None = None,
        *,
        others: Iterable[Trusted] = (),
        most: int = 2048,
        now: Now = time.time,
        clock: Clock = monotonic,
    ) -> None:
        self._own = Trusted(keys=keys, rules=rules or TokenRules())
        self._issuers = [self._own, *others]
        self._readers = {each.rules.issuer: (each, TokenReader(each.rules, now=now)) for each in self._issuers}
        if len(self._readers) < len(self._issuers):
            raise ValueError("two issuers have one name (iss)")
        self._most = most
        self._now = now
        self._clock = clock
        # By the token itself: a look-up compares the whole of it, and Python's hash of bytes costs a third of a digest.
        self._verified: OrderedDict[bytes, tuple[Principal, float, VerifyingKeys]] = OrderedDict()
        self._hits = self._misses = 0
        for each in self._issuers:
            each.keys.on_withdrawn = self._verified.clear

    @classmethod
    def at(cls, place: str | Path, rules: TokenRules | None = None, *, others: Iterable[Trusted] = ()) -> "Verifier":
        """Return a verifier of tokens signed with the keys at `place`: a JWKS file or URL (see `jwks_from`)."""
        own = trusted(place, rules or TokenRules())
        return cls(own.keys, own.rules, others=others)

    async def start(self) -> None:
        """Fetch our own keys where none are known yet; a failure is logged and tried again at the next need.

        Other issuers' are fetched behind: a service starts also while they are down.
        """
        for other in self._issuers[1:]:
            if not other.keys.loaded:
                other.keys.renew_behind()
        if not self._own.keys.loaded:
            await self._own.keys.renew()

    async def close(self) -> None:
        """Stop fetches under way."""
        for each in self._issuers:
            await each.keys.close()

    @property
    def configured(self) -> bool:
        """Whether keys are known, or where they should be is out of reach; False if none were ever made."""
        return not all(each.keys.absent for each in self._issuers)

    def measured(self, metrics: Gauges) -> None:
        """Show the age of the known keys as a metric."""
        metrics.gauge(
            "service_key_age_seconds",
            "Age of the keys that tokens are verified with.",
            self.ages,
            labels=("issuer", "kid"),
            merge="max",
        )
        metrics.gauge(
            "service_token_cache_entries", "Verified tokens that are remembered.", lambda: len(self._verified)
        )
        metrics.counter("service_token_cache_hits", "Tokens that were remembered.", lambda: self._hits)
        metrics.counter("service_token_cache_misses", "Tokens that had to be verified.", lambda: self._misses)

    def ages(self) -> dict[tuple[str, ...], float]:
        """Return the age in seconds of each known key that tells when it was made, by issuer and `kid`."""
        now = self._now()
        return {(each.rules.issuer, kid): now - made for each in self._issuers for kid, made in each.keys.made.items()}

    def known(self, header: bytes) -> Principal | None:
        """Return who an `authorization` value names that verified before and still counts; costs about 1 µs."""
        found = self._verified.get(header)
        if found is None:
            return None
        if self._now() >= found[1]:
            del self._verified[header]
            return None
        if self._clock() >= found[2].stale_at:
            found[2].renew_behind()
        self._verified.move_to_end(header)
        self._hits += 1
        return found[0]

    async def verify(self, header: bytes) -> Principal:
        """Return who an `authorization` value (`Bearer …`, RFC 6750) names, and remember it.

        `CredentialRefused` says why not; `Unavailable` where no key could be fetched so far.
        """
        self._misses += 1
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer":
            raise CredentialRefused("the authorization is no bearer token")
        text = token.strip(b" ").decode("latin-1")
        issuer, reader = self._issuer(text)
        kid = key_id(text, issuer.rules)
        key = await issuer.keys.find(kid)
        if key is None:
            if not issuer.keys.loaded and not issuer.keys.absent:
                raise Unavailable("credentials cannot be verified at the moment")
            raise CredentialRefused(f"its key {kid[:64]!a} is not known")
        principal, until = reader.read(text, key)
        self._verified[header] = principal, until, issuer.keys
        if len(self._verified) > self._most:
            self._verified.popitem(last=False)
        return principal

    def _issuer(self, token: str) -> tuple[Trusted, TokenReader]:
        if len(self._issuers) == 1:  # its own rules say what is wrong with any other
            return self._readers[self._own.rules.issuer]
        found = self._readers.get(claimed_issuer(token))
        if found is None:
            raise CredentialRefused("its issuer (iss) is none that is believed here")
        return found
