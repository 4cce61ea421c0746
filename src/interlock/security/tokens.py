"""Tokens between services: JSON Web Tokens (RFC 7519) signed with RS256, made here and read here.

What a token says of itself decides nothing: the algorithm is ours, the key comes from our set, `kid` only names it.
Follows RFC 8725 (best practice for JWT).
"""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from interlock.call import Principal
from interlock.security.keys import ALGORITHM, KeySet, Now
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token must say: who made it, for whom, how long it may live, how far clocks may differ."""

    issuer: str = ISSUER
    audience: str = AUDIENCE
    longest: timedelta = LONGEST_LIFETIME
    skew: timedelta = timedelta(seconds=60)


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
    ) -> str:
        """Return a token for `subject` with `roles`, valid from now for `lifetime` (1 s to 24 h).

        ValueError for a subject that is empty or above 255 characters, a lifetime out of bounds, or a token above
        8 KB. Takes about 1 ms.
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
        header = {"typ": "JWT", "alg": ALGORITHM, "kid": self.keys.kid}
        token = jwt.encode(header, claims, self.keys.private, algorithms=[ALGORITHM])
        if len(token) > LARGEST_TOKEN:
            raise ValueError(f"the token would be larger than {LARGEST_TOKEN} bytes, and no service would take it")
        return token


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


def key_id(token: str) -> str:
    """Return the `kid` of a token whose form and header we take; `CredentialRefused` for any other."""
    if len(token) > LARGEST_TOKEN:
        raise CredentialRefused(f"it is larger than {LARGEST_TOKEN} bytes")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise CredentialRefused("it does not have three parts")
    try:
        header = json.loads(urlsafe_b64decode(parts[0].encode("ascii")), cls=_OnceEach)
    except (ValueError, RecursionError):
        raise CredentialRefused("its header is not JSON in base64url") from None
    if not isinstance(header, dict):
        raise CredentialRefused("its header is not an object")
    if header.get("alg") != ALGORITHM:
        raise CredentialRefused(f"its algorithm is not {ALGORITHM}")
    if str(header.get("typ")).lower() not in _TYPES:
        raise CredentialRefused("its type is not JWT")
    if found := _REFUSED_HEADERS & header.keys():
        raise CredentialRefused(f"its header has {', '.join(sorted(found))}")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 128:
        raise CredentialRefused("it names no key (kid)")
    return kid


class TokenReader:
    """Checks signature and claims of tokens against `rules`; `now` gives the seconds since 1970."""

    def __init__(self, rules: TokenRules, *, now: Now = time.time) -> None:
        self._rules = rules
        self._signatures = JWSRegistry(algorithms=[ALGORITHM], strict_check_header=False)
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

    def read(self, token: str, key: RSAKey) -> tuple[Principal, float]:
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
        if len(claims["sub"]) > _LONGEST_SUBJECT or not claims["sub"].isprintable():
            raise CredentialRefused(f"its subject is longer than {_LONGEST_SUBJECT} characters or not printable")
        roles = claims.get("roles", [])
        if not isinstance(roles, list) or len(roles) > _MOST_ROLES or not all(isinstance(each, str) for each in roles):
            raise CredentialRefused(f"its roles are not a list of at most {_MOST_ROLES} names")
        principal = Principal(subject=claims["sub"], issuer=claims["iss"], roles=frozenset(roles), credential=token)
        return principal, expires + self._rules.skew.total_seconds()


def _reason(error: JoseError) -> str:
    return (error.description or error.error).strip().rstrip(".")
