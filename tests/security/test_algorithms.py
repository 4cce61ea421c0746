"""RS256, ES256 and EdDSA: each signs, verifies and rotates; no verifier takes another's."""

import json
from pathlib import Path

import pytest

from interlock.security.algorithms import ALGORITHMS, EDDSA, ES256, RS256, Algorithm
from interlock.security.jwks import VerifyingKeys, jwks_from, parse_jwks
from interlock.security.keys import JWKS, KeySet, load_keys, new_keys, rotate_keys
from interlock.security.refused import CredentialRefused
from interlock.security.tokens import Issuer, TokenRules
from interlock.security.verifier import Verifier

FAMILIES = list(ALGORITHMS.values())


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, KeySet]]:
    """A directory of keys of each family."""
    found = {}
    for each in FAMILIES:
        place = tmp_path_factory.mktemp("algorithms") / each.name
        found[each.name] = place, new_keys(place, algorithm=each)
    return found


def verifier_at(place: Path, algorithm: Algorithm) -> Verifier:
    return Verifier.at(place / JWKS, TokenRules(algorithm=algorithm))


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


@pytest.mark.parametrize("algorithm", FAMILIES, ids=str)
async def test_each_family_signs_and_verifies(algorithm: Algorithm, sets: dict[str, tuple[Path, KeySet]]) -> None:
    """A token of one family is taken by the verifier of that family, and by no other, whatever keys it has."""
    place, keys = sets[algorithm.name]
    token = Issuer(keys=keys).mint("orders", ["clerk"])
    assert (await verifier_at(place, algorithm).verify(bearer(token))).roles == {"clerk"}
    for other in FAMILIES:
        if other is not algorithm:
            with pytest.raises(CredentialRefused, match="its algorithm is not"):
                await verifier_at(sets[other.name][0], other).verify(bearer(token))


async def test_a_set_of_several_families_yields_one(sets: dict[str, tuple[Path, KeySet]]) -> None:
    """Of a mixed key set a verifier knows the keys of its own family alone."""
    entries = [each.jwk for _, keys in sets.values() for each in keys.published]
    document = json.dumps({"keys": [dict(each) for each in entries]}).encode()
    for each in FAMILIES:
        assert parse_jwks(document, each).keys() == {sets[each.name][1].kid}


@pytest.mark.parametrize("algorithm", [ES256, EDDSA], ids=str)
async def test_a_rotation_keeps_the_family(algorithm: Algorithm, tmp_path: Path) -> None:
    """The next key is of the same kind, older tokens go on, no private member is published."""
    first = new_keys(tmp_path / "keys", algorithm=algorithm)
    token = Issuer(keys=first).mint("orders")
    second = rotate_keys(tmp_path / "keys")
    assert (second.algorithm, len(second.published)) == (algorithm, 2)
    assert load_keys(tmp_path / "keys").kid == second.kid != first.kid
    verifier = Verifier(
        VerifyingKeys(jwks_from(tmp_path / "keys" / JWKS), algorithm=algorithm), TokenRules(algorithm=algorithm)
    )
    for each in (token, Issuer(keys=second).mint("orders")):
        assert (await verifier.verify(bearer(each))).subject == "orders"
    assert '"d"' not in (tmp_path / "keys" / JWKS).read_text()


async def test_ed25519_is_the_same_under_its_new_name(sets: dict[str, tuple[Path, KeySet]]) -> None:
    """RFC 9864 calls EdDSA over that curve Ed25519; tokens of both names verify."""
    from joserfc import jwt
    from joserfc.errors import SecurityWarning

    place, keys = sets["EdDSA"]
    sound = Issuer(keys=keys).mint("orders")
    with pytest.warns(SecurityWarning):
        claims = jwt.decode(sound, keys.private, algorithms=["EdDSA"]).claims
    head = {"typ": "JWT", "alg": "Ed25519", "kid": keys.kid}
    token = jwt.encode(head, claims, keys.private, algorithms=["Ed25519"])
    assert (await verifier_at(place, EDDSA).verify(bearer(token))).subject == "orders"


def test_broken_keys_are_passed_over() -> None:
    """A point that is not on its curve, or a text that is no key, is no key."""
    broken = [
        {"kty": "EC", "kid": "a", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": "b", "crv": "P-384", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": "c", "crv": "P-256", "x": 5, "y": "AA"},
        {"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": "AA"},
        {"kty": "OKP", "kid": "e", "crv": "X25519", "x": "A" * 43},
    ]
    for algorithm in (RS256, ES256, EDDSA):
        with pytest.raises(ValueError, match="no key in the set"):
            parse_jwks(json.dumps({"keys": broken}).encode(), algorithm)
