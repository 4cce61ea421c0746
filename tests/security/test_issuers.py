"""Several issuers at once: found by discovery, each with its own keys, rules and mapping to roles."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interlock.security.jwks import VerifyingKeys, discovered, jwks_from
from interlock.security.keys import JWKS, KeySet
from interlock.security.refused import CredentialRefused
from interlock.security.tokens import Issuer, TokenRules
from interlock.security.verifier import Trusted, Verifier, trusted
from tests.security.forging import claims, forge, header
from tests.web import Documents, documents_at

ROLES = {
    "scope:orders.write": frozenset(["clerk"]),
    "groups:staff of the shop": frozenset(["operator"]),
    "realm_access.roles:admin": frozenset(["root"]),
    "https://shop.example/roles:x": frozenset(["named"]),
}


def now_claims(**changed: Any) -> dict[str, Any]:
    at = int(time.time())
    return claims(**{"iat": at, "exp": at + 600, "iss": "https://id.example", "aud": "shop", **changed})


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


@pytest.fixture
def verifier(directory: Path, strangers: KeySet, tmp_path: Path) -> Verifier:
    """Our own issuer, and another whose keys are the strangers'."""
    from interlock.security.keys import jwks_document

    (tmp_path / "other.json").write_bytes(jwks_document(strangers.published))
    rules = TokenRules(issuer="https://id.example", audience="shop", roles=ROLES)
    return Verifier.at(directory / JWKS, others=[trusted(tmp_path / "other.json", rules)])


async def test_each_issuer_has_keys_and_rules_of_its_own(verifier: Verifier, keys: KeySet, strangers: KeySet) -> None:
    """Both are believed, each for what it says of itself; neither may speak for the other."""
    ours = await verifier.verify(bearer(Issuer(keys=keys).mint("orders", ["clerk"])))
    assert (ours.issuer, ours.roles) == ("service-auth", frozenset(["clerk"]))
    theirs = await verifier.verify(bearer(forge(strangers, body=now_claims(roles=["root"]))))
    assert (theirs.issuer, theirs.roles) == ("https://id.example", frozenset())
    at = int(time.time())
    ours_by_them = now_claims(iss="service-auth", aud="microservices", roles=["root"], iat=at, exp=at + 60)
    for wrong, reason in (
        (forge(strangers, body=ours_by_them), "is not known"),
        (forge(strangers, head=header(strangers, kid=keys.kid), body=ours_by_them), "ignature"),
        (forge(keys, body=now_claims()), "is not known"),
        (forge(strangers, body=now_claims(aud="microservices")), "aud"),
        (forge(strangers, body=now_claims(iss="https://id.example/")), "none that is believed"),
        (forge(strangers, body=now_claims(iss=["https://id.example"])), "iss"),
        (forge(strangers, body="[]"), "payload"),
    ):
        with pytest.raises(CredentialRefused, match=reason):
            await verifier.verify(bearer(wrong))


@pytest.mark.parametrize(
    "said, roles",
    [
        ({"scope": "openid orders.write"}, {"clerk"}),
        ({"scope": "orders.writer"}, set()),
        ({"groups": ["staff of the shop", "others"]}, {"operator"}),
        ({"groups": "staff of the shop"}, set()),
        ({"realm_access": {"roles": ["admin"]}}, {"root"}),
        ({"realm_access": ["admin"]}, set()),
        ({"https://shop.example/roles": ["x"]}, {"named"}),
        ({"roles": ["root"], "act": {"sub": "root"}, "sub_iss": "service-auth"}, set()),
    ],
)
async def test_claims_are_mapped_to_roles(
    verifier: Verifier, strangers: KeySet, said: Mapping[str, Any], roles: set[str]
) -> None:
    """Only what the mapping names gives a role; what another issuer calls a role is a word."""
    found = await verifier.verify(bearer(forge(strangers, body=now_claims(roles=None) | dict(said))))
    assert (found.roles, found.issuer, found.actors) == (frozenset(roles), "https://id.example", ())


async def test_an_issuer_is_discovered(strangers: KeySet, directory: Path) -> None:
    """The keys are where the issuer's own document says; a document about another issuer is a lie."""
    documents: Documents = {}
    with documents_at(documents) as url:
        documents["/keys"] = {"keys": [dict(each.jwk) for each in strangers.published]}
        documents["/.well-known/openid-configuration"] = {"issuer": url, "jwks_uri": f"{url}/keys"}
        documents["/liar/.well-known/openid-configuration"] = {"issuer": url, "jwks_uri": f"{url}/keys"}
        documents["/file/.well-known/openid-configuration"] = {
            "issuer": f"{url}/file",
            "jwks_uri": "file:///etc/passwd",
        }
        rules = TokenRules(issuer=url, audience="shop", roles={"*": frozenset(["guest"])})
        verifier = Verifier.at(directory / JWKS, others=[trusted(discovered(url), rules)])
        found = await verifier.verify(bearer(forge(strangers, body=now_claims(iss=url))))
        assert (found.issuer, found.roles) == (url, frozenset(["guest"]))
        for wrong, says in (("liar", "another issuer"), ("file", "https://"), ("none", "404")):
            with pytest.raises(Exception, match=says):
                await discovered(f"{url}/{wrong}")()
    with pytest.raises(ValueError, match="https://"):
        discovered("id.example")


async def test_two_issuers_of_one_name_are_a_mistake(directory: Path) -> None:
    """Which keys count must be clear."""
    keys = VerifyingKeys(jwks_from(directory / JWKS))
    with pytest.raises(ValueError, match="one name"):
        Verifier(keys, others=[Trusted(keys=keys, rules=replace(TokenRules(), audience="x"))])


async def test_issuers_of_the_settings(
    strangers: KeySet, directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A table in the settings is enough: the app takes tokens of both."""
    from interlock.security.access import roles_from
    from interlock.security.keys import jwks_document
    from interlock.settings import Settings
    from tests.sample.handlers import make
    from tests.security.asking import ask

    (tmp_path / "other.json").write_bytes(jwks_document(strangers.published))
    table = {"corp": {"issuer": "https://id.example", "jwks": str(tmp_path / "other.json"), "audience": "shop"}}
    table["corp"]["roles"] = {"scope:hush": ["whisperer"]}  # type: ignore[assignment]
    monkeypatch.setenv("INTERLOCK_ISSUERS", json.dumps(table))
    app = make(settings=Settings(keys=directory), roles=roles_from({"whisperer": ["sample:whisper"]}))
    sound = forge(strangers, body=now_claims(scope="hush", roles=None))
    assert (await ask(app, "rest", [("authorization", f"Bearer {sound}")])).code == "OK"
    poor = forge(strangers, body=now_claims(roles=["whisperer"]))
    assert (await ask(app, "rest", [("authorization", f"Bearer {poor}")])).code == "PERMISSION_DENIED"
