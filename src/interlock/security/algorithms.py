"""The signatures that tokens may have: which names stand for each in a header, and which keys make and check it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.util import base64_to_int

Key: TypeAlias = RSAKey | ECKey | OKPKey

SMALLEST_BITS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One family: a verifier takes one, whatever tokens say of themselves (RFC 8725 §3.1)."""

    name: str
    names: frozenset[str]
    kty: str
    curve: str = ""
    members: tuple[str, ...]

    def __repr__(self) -> str:
        return self.name

    def fits(self, jwk: Any) -> bool:
        """Tell whether a JWK (RFC 7517) is a key that such signatures are checked with, as far as can be seen."""
        return (
            isinstance(jwk, dict)
            and jwk.get("kty") == self.kty
            and jwk.get("use", "sig") == "sig"
            and jwk.get("alg", self.name) in self.names
            and all(isinstance(jwk.get(name), str) for name in self.members)
            and (not self.curve or jwk["crv"] == self.curve)
            and (self.kty != "RSA" or _bits(jwk["n"]) >= SMALLEST_BITS)
        )

    def public(self, jwk: Mapping[str, Any]) -> Key | None:
        """Return the public key in a JWK that `fits`; None if it is broken."""
        try:
            return _KINDS[self.kty].import_key({name: jwk[name] for name in ("kty", *self.members)})
        except (JoseError, ValueError, TypeError):
            return None

    def private(self, pem: bytes, kid: str) -> Key:
        """Return the private key in `pem`; ValueError or JoseError if it is none of this family."""
        return _KINDS[self.kty].import_key(pem, {"kid": kid, "use": "sig"})

    def generate(self, bits: int = SMALLEST_BITS) -> Key:
        """Return a fresh key; `bits` counts for RSA alone."""
        if self.kty == "RSA":
            return RSAKey.generate_key(bits)
        return ECKey.generate_key("P-256") if self.kty == "EC" else OKPKey.generate_key("Ed25519")


_KINDS: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}

RS256 = Algorithm(name="RS256", names=frozenset(("RS256",)), kty="RSA", members=("n", "e"))
ES256 = Algorithm(name="ES256", names=frozenset(("ES256",)), kty="EC", curve="P-256", members=("crv", "x", "y"))
# RFC 9864 renamed EdDSA; on a key of this curve both names mean the same
EDDSA = Algorithm(name="EdDSA", names=frozenset(("EdDSA", "Ed25519")), kty="OKP", curve="Ed25519", members=("crv", "x"))

ALGORITHMS: Mapping[str, Algorithm] = {each.name: each for each in (RS256, ES256, EDDSA)}


def algorithm_of(jwk: Any) -> Algorithm | None:
    """Return the family that a JWK belongs to by its form; None for any other key."""
    return next((each for each in ALGORITHMS.values() if each.fits(jwk)), None)


def _bits(modulus: str) -> int:
    try:
        return base64_to_int(modulus).bit_length() if modulus else 0
    except ValueError:
        return 0
