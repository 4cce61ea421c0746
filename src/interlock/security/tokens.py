"""Tokens: JSON Web Tokens (RFC 7519), made here for services, and read here whoever issued them.

What a token says of itself decides nothing: the algorithm is ours, the key comes from our set, `kid` only names it.
Follows RFC 8725 (best practice for JWT).
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from interlock.call import Principal
from interlock.security.algorithms import EDDSA, RS256, Algorithm, Key
from interlock.security.keys import KeySet, Now
from interlock.security.refused import CredentialRefused

ISSUER = "service-auth"
AUDIENCE = "microservices"
LIFETIME = timedelta(hours=1)
LONGEST_LIFETIME = timedelta(hours=24)
LARGEST_TOKEN = 8 * 1024
"""Bytes of a token; a larger one is refused unread."""

_TYPES = ("jwt", "at+jwt")  # RFC 7519 §5.1, RFC 9068 §2.1
# These name another key, or change what is signed (RFC 7515 §4.1, RFC 7797): nothing that we sign has them.
_REFUSED_HEADERS = frozenset(("crit", "b64", "jwk", "jku", "x5u", "x5c"))
_MOST_ROLES = 64
_LONGEST_SUBJECT = 255
_MOST_ACTORS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token must say: who made it, for whom, how long it may live, how far clocks may differ.

    `roles` is None for our own tokens, whose claim `roles` counts as it is. For another issuer's it maps what a claim
    says (`scope:orders.write`, `groups:staff`, `realm.roles:clerk`; `*` for every token) to roles; all else that it
    says gives none. `untyped` takes tokens without `typ`, which some issuers make.
    """

    issuer: str = ISSUER
    audience: str = AUDIENCE
    algorithm: Algorithm = RS256
    longest: timedelta = LONGEST_LIFETIME
    skew: timedelta = timedelta(seconds=60)
    roles: Mapping[str, frozenset[str]] | None = None
    untyped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Makes tokens with the newest key of a set."""

    keys: KeySet
    name: str = ISSUER
    audience: str = AUDIENCE
    now: Now = time.time

    def mint(
        self,
        subject: str,
        roles: Iterable[str] = (),
        *,
        audience: str | None = None,
        lifetime: timedelta = LIFETIME,
        behalf: Principal | None = None,
    ) -> str:
        """Return a token for `subject` with `roles`, valid from now for `lifetime` (1 s to 24 h).

        With `behalf` it names that principal as its subject, and `subject` as who acts for it (RFC 8693 §4.1); the
        roles stay those of the actor. ValueError for a subject that is empty or above 255 characters, a lifetime out
        of bounds, or a token above 8 KB. Takes about 1 ms.
        """
        if not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise ValueError(f"a token needs a subject of 1 to {_LONGEST_SUBJECT} printable characters")
        if not timedelta(seconds=1) <= lifetime <= LONGEST_LIFETIME:
            raise ValueError("a token lives between 1 s and 24 h")
        at = int(self.now())
        claims = {
            "sub": subject,
            "iss": self.name,
            "aud": audience or self.audience,
            "exp": at + int(lifetime.total_seconds()),
            "iat": at,
            "roles": sorted(set(roles)),
        }
        if behalf is not None:
            claims |= {"sub": behalf.subject, "sub_iss": behalf.issuer, "act": _actors((subject, *behalf.actors))}
        algorithm = self.keys.algorithm.name
        header = {"typ": "JWT", "alg": algorithm, "kid": self.keys.kid}
        token = jwt.encode(
            header, claims, self.keys.private, registry=_Signatures(algorithms=sorted(self.keys.algorithm.names))
        )
        if len(token) > LARGEST_TOKEN:
            raise ValueError(f"the token would be larger than {LARGEST_TOKEN} bytes, and no service would take it")
        return token


class _Signatures(JWSRegistry):
    """Takes EdDSA for what RFC 9864 calls it on the one curve that we have; most of the world still says EdDSA."""

    def get_alg(self, name: str) -> Any:
        """Return the algorithm of that name, if it is an allowed one."""
        return super().get_alg("Ed25519" if name == EDDSA.name else name)


def _actors(chain: tuple[str, ...]) -> dict[str, Any]:
    """Return the claim `act`: who acts now, and within it who did before."""
    if len(chain) > _MOST_ACTORS:
        raise ValueError(f"a call passes at most {_MOST_ACTORS} services that act for somebody")
    found: dict[str, Any] = {}
    for each in reversed(chain):
        found = {"sub": each, "act": found} if found else {"sub": each}
    return found


class _OnceEach(json.JSONDecoder):
    """Refuses an object that names a member twice, where two readers could each believe another one."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=_unique, parse_constant=_no_number)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CredentialRefused("a name stands in it twice")
    return found


def _no_number(_text: str) -> NoReturn:
    raise CredentialRefused("NaN or Infinity stands in it")


_OURS = TokenRules()


def key_id(token: str, rules: TokenRules = _OURS) -> str:
    """Return the `kid` of a token whose form and header `rules` take; `CredentialRefused` for any other."""
    header = _object(_parts(token)[0], "header")
    if str(header.get("alg")) not in rules.algorithm.names:
        raise CredentialRefused(f"its algorithm is not {rules.algorithm}")
    if not (rules.untyped and "typ" not in header) and str(header.get("typ")).lower() not in _TYPES:
        raise CredentialRefused("its type is not JWT")
    if found := _REFUSED_HEADERS & header.keys():
        raise CredentialRefused(f"its header has {', '.join(sorted(found))}")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 128:
        raise CredentialRefused("it names no key (kid)")
    return kid


def claimed_issuer(token: str) -> str:
    """Return who a token says has issued it, which nothing vouches for yet: it chooses the keys and rules alone."""
    issuer = _object(_parts(token)[1], "payload").get("iss")
    if not isinstance(issuer, str):
        raise CredentialRefused("it names no issuer (iss)")
    return issuer


def _parts(token: str) -> list[str]:
    if len(token) > LARGEST_TOKEN:
        raise CredentialRefused(f"it is larger than {LARGEST_TOKEN} bytes")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise CredentialRefused("it does not have three parts")
    return parts


def _object(part: str, name: str) -> dict[str, Any]:
    try:
        found = json.loads(urlsafe_b64decode(part.encode("ascii")), cls=_OnceEach)
    except (ValueError, RecursionError):
        raise CredentialRefused(f"its {name} is not JSON in base64url") from None
    if not isinstance(found, dict):
        raise CredentialRefused(f"its {name} is not an object")
    return found


class TokenReader:
    """Checks signature and claims of tokens against `rules`; `now` gives the seconds since 1970."""

    def __init__(self, rules: TokenRules, *, now: Now = time.time) -> None:
        self._rules = rules
        self._signatures = _Signatures(algorithms=sorted(rules.algorithm.names), strict_check_header=False)
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(now()),
            leeway=int(rules.skew.total_seconds()),
            sub={"essential": True},
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "value": rules.audience},
            exp={"essential": True},
            iat={"essential": True},
        )
        self._longest = rules.longest.total_seconds()

    def read(self, token: str, key: Key) -> tuple[Principal, float]:
        """Return who a token names and the time (seconds since 1970) after which it no longer counts.

        `CredentialRefused` if `key` did not sign it, or a claim is missing, malformed, or not what the rules ask for.
        """
        try:
            claims = jwt.decode(token, key, registry=self._signatures, decoder_cls=_OnceEach).claims
            self._claims.validate(claims)
        except JoseError as error:
            raise CredentialRefused(_reason(error)) from None
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            raise CredentialRefused("it is malformed") from None
        expires, issued = claims["exp"], claims["iat"]
        if not 0 < expires - issued <= self._longest:
            raise CredentialRefused(f"it does not live between 0 and {self._longest:g} s")
        _check_name("subject", claims["sub"])
        mapping = self._rules.roles
        if mapping is None:
            issuer, actors = _delegation(claims)
            roles = _own_roles(claims)
        else:
            issuer, actors, roles = self._rules.issuer, (), _mapped_roles(claims, mapping)
        principal = Principal(subject=claims["sub"], issuer=issuer, roles=roles, actors=actors, credential=token)
        return principal, expires + self._rules.skew.total_seconds()


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_SUBJECT or not name.isprintable():
        raise CredentialRefused(f"its {what} is longer than {_LONGEST_SUBJECT} characters or not printable")


def _own_roles(claims: Mapping[str, Any]) -> frozenset[str]:
    roles = claims.get("roles", [])
    if not isinstance(roles, list) or len(roles) > _MOST_ROLES or not all(isinstance(each, str) for each in roles):
        raise CredentialRefused(f"its roles are not a list of at most {_MOST_ROLES} names")
    return frozenset(roles)


def _delegation(claims: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return who vouched for the subject, and who acts for it, the latest first."""
    actors: list[str] = []
    act = claims.get("act")
    while act is not None:
        if not isinstance(act, dict) or len(actors) == _MOST_ACTORS:
            raise CredentialRefused("its actors (act) are malformed, or too many")
        _check_name("actor", act.get("sub"))
        actors.append(act["sub"])
        act = act.get("act")
    issuer = claims.get("sub_iss", "") if actors else ""
    if issuer:
        _check_name("subject's issuer", issuer)
    return issuer or claims["iss"], tuple(actors)


def _mapped_roles(claims: Mapping[str, Any], mapping: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the roles that the claims of another issuer are worth here."""
    roles: set[str] = set()
    for said, given in mapping.items():
        path, _, value = said.rpartition(":")
        if said == "*" or (path and value in _values(claims, path)):
            roles |= given
    return frozenset(roles)


def _values(claims: Mapping[str, Any], path: str) -> list[str]:
    """Return what a claim says: a text's words (RFC 8693 §4.2), or a list's texts; a dot leads into an object."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, str):
        return found.split()
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _reason(error: JoseError) -> str:
    return (error.description or error.error).strip().rstrip(".")
