"""Who gets in: the matrix of tokens against the whole layer, with one message for every refusal."""

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from interlock.call import Call, Handler, Principal, Reply, compose
from interlock.errors import Unauthenticated, Unavailable
from interlock.metadata import Metadata
from interlock.security.authenticate import REFUSED, UNCONFIGURED, authenticate
from interlock.security.jwks import VerifyingKeys, jwks_from
from interlock.security.keys import JWKS, KeySet
from interlock.security.tokens import LARGEST_TOKEN, Issuer
from interlock.security.verifier import Verifier
from tests.sample.gen.sample.v1.sample_pb import EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE, WHISPER
from tests.security.forging import NOW, Clock, claims, forge, header, unsigned, with_secret

WHISPERING = SAMPLE_SERVICE.operation(WHISPER)
Make = Callable[[KeySet], str]


async def answer(_call: Call) -> Reply:
    return EchoResponse(text="in")


def guarded(verifier: Verifier | None) -> Handler:
    return compose([authenticate(verifier)], WHISPERING, answer)


def verifier_at(place: Path, clock: Clock, **options: Any) -> Verifier:
    keys = VerifyingKeys(jwks_from(place), clock=clock)
    return Verifier(keys, now=clock, clock=clock, **options)


def call_with(*values: str) -> Call:
    return Call(WHISPERING, Metadata.from_raw([(b"authorization", each.encode("latin-1")) for each in values]))


async def principal(verifier: Verifier | None, *values: str) -> Principal:
    call = call_with(*values)
    await guarded(verifier)(call)
    assert call.principal is not None
    return call.principal


async def test_a_minted_token_names_its_subject(directory: Path, keys: KeySet) -> None:
    """What the issuer mints verifies: subject, issuer, roles; the token is kept to be handed on, not to be shown."""
    clock = Clock()
    token = Issuer(keys=keys, now=clock).mint("orders", ["clerk", "whisperer"])
    found = await principal(verifier_at(directory / JWKS, clock), f"Bearer {token}")
    assert (found.subject, found.issuer, found.roles) == ("orders", "service-auth", frozenset(["clerk", "whisperer"]))
    assert found.credential == token
    assert token not in repr(found)


ACCEPTED: dict[str, Make] = {
    "as it should be": forge,
    "expired by 59 s": lambda keys: forge(keys, body=claims(iat=int(NOW) - 3600, exp=int(NOW) - 59)),
    "issued in 59 s": lambda keys: forge(keys, body=claims(iat=int(NOW) + 59)),
    "valid in 60 s": lambda keys: forge(keys, body=claims(nbf=int(NOW) + 60)),
    "for several": lambda keys: forge(keys, body=claims(aud=["others", "microservices"])),
    "without roles": lambda keys: forge(keys, body=claims(roles=None)),
    "with a fraction": lambda keys: forge(keys, body=claims(exp=NOW + 60.5)),
    "of a day": lambda keys: forge(keys, body=claims(exp=int(NOW) + 24 * 3600)),
    "an access token (RFC 9068)": lambda keys: forge(keys, head=header(keys, typ="at+jwt")),
    "with a certificate's thumbprint": lambda keys: forge(keys, head=header(keys, x5t="abc")),
}


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED)
async def test_sound_tokens_are_taken(make: Make, directory: Path, keys: KeySet) -> None:
    """Clocks may differ by 60 s, an audience may be one of several, roles may be missing."""
    token = make(keys)
    for scheme in ("Bearer", "bearer"):
        assert (await principal(verifier_at(directory / JWKS, Clock()), f"{scheme} {token}")).subject == "orders"


def _tampered(keys: KeySet) -> str:
    head, body, signature = forge(keys).split(".")
    other = forge(keys, body=claims(sub="admin")).split(".")[1]
    assert other != body
    return f"{head}.{other}.{signature}"


def _changed_signature(keys: KeySet) -> str:
    token = forge(keys)
    at = len(token) - 40
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]


def _own_key(keys: KeySet) -> str:
    own = RSAKey.generate_key(2048)
    mine = KeySet(kid=keys.kid, private=own, published=())
    return forge(mine, head=header(keys, jwk=own.as_dict(private=False)))


def _with(name: str, text: str) -> str:
    """Return sound claims but for one, which is that text."""
    return json.dumps(claims(**{name: None}))[:-1] + f', "{name}": {text}}}'


def _twice(**again: Any) -> str:
    return json.dumps(claims())[:-1] + ", " + json.dumps(again)[1:]


PUBLIC: Callable[[KeySet], bytes] = lambda keys: keys.private.as_pem(private=False)  # noqa: E731 - one expression
REFUSALS: dict[str, tuple[Make, str]] = {
    "expired by 61 s": (lambda keys: forge(keys, body=claims(iat=int(NOW) - 3600, exp=int(NOW) - 61)), "expired"),
    "valid in 61 s": (lambda keys: forge(keys, body=claims(nbf=int(NOW) + 61)), "not yet valid"),
    "issued in 61 s": (lambda keys: forge(keys, body=claims(iat=int(NOW) + 61)), "future"),
    "another issuer": (lambda keys: forge(keys, body=claims(iss="somebody")), "iss"),
    "the issuer's beginning": (lambda keys: forge(keys, body=claims(iss="service-aut")), "iss"),
    "the issuer and more": (lambda keys: forge(keys, body=claims(iss="service-auth.example")), "iss"),
    "no issuer": (lambda keys: forge(keys, body=claims(iss=None)), "iss"),
    "a list of issuers": (lambda keys: forge(keys, body=claims(iss=["service-auth"])), "iss"),
    "another audience": (lambda keys: forge(keys, body=claims(aud="others")), "aud"),
    "other audiences": (lambda keys: forge(keys, body=claims(aud=["others", "microservices2"])), "aud"),
    "no audience": (lambda keys: forge(keys, body=claims(aud=None)), "aud"),
    "numbers for audiences": (lambda keys: forge(keys, body=claims(aud=[1, "microservices"])), "aud"),
    "no subject": (lambda keys: forge(keys, body=claims(sub=None)), "sub"),
    "an empty subject": (lambda keys: forge(keys, body=claims(sub="")), "sub"),
    "a subject that turns text round": (lambda keys: forge(keys, body=claims(sub="a\u202eb")), "printable"),
    "a subject of two lines": (lambda keys: forge(keys, body=claims(sub="a\nb")), "printable"),
    "no expiry": (lambda keys: forge(keys, body=claims(exp=None)), "exp"),
    "expiry as text": (lambda keys: forge(keys, body=claims(exp=str(int(NOW) + 60))), "exp"),
    "expiry as truth": (lambda keys: forge(keys, body=claims(exp=True)), "exp"),
    "huge expiry": (lambda keys: forge(keys, body=claims(exp=10**15)), "live between"),
    "endless expiry": (lambda keys: forge(keys, body=_with("exp", "Infinity")), "NaN or Infinity"),
    "expiry beyond a float": (lambda keys: forge(keys, body=_with("exp", "1e999")), "exp"),
    "expiry of 5000 digits": (lambda keys: forge(keys, body=_with("exp", "9" * 4999)), "payload"),
    "expiry before issue": (lambda keys: forge(keys, body=claims(iat=int(NOW) + 30, exp=int(NOW) + 20)), "live betw"),
    "no time of issue": (lambda keys: forge(keys, body=claims(iat=None)), "iat"),
    "a day and a second": (lambda keys: forge(keys, body=claims(exp=int(NOW) + 24 * 3600 + 1)), "live between"),
    "roles as text": (lambda keys: forge(keys, body=claims(roles="admin")), "roles"),
    "roles as numbers": (lambda keys: forge(keys, body=claims(roles=[1])), "roles"),
    "too many roles": (lambda keys: forge(keys, body=claims(roles=[str(n) for n in range(65)])), "roles"),
    "a claim twice": (lambda keys: forge(keys, body=_twice(sub="admin")), "twice"),
    "a nested name twice": (lambda keys: forge(keys, body=_twice(x=1)[:-1] + ', "y": {"a": 1, "a": 2}}'), "twice"),
    "a header twice": (lambda keys: forge(keys, head=json.dumps(header(keys))[:-1] + ', "alg": "none"}'), "twice"),
    "deep claims": (lambda keys: forge(keys, body='{"a":' + "[" * 4000), "alformed"),
    "deep header": (lambda keys: forge(keys, head="[" * 5000), "base64url"),
    "a list of claims": (lambda keys: forge(keys, body="[]"), "payload"),
    "no algorithm": (lambda keys: unsigned({"typ": "JWT", "alg": "none", "kid": keys.kid}, claims()), "three parts"),
    "none, and signed": (lambda keys: forge(keys, head=header(keys, alg="none")), "RS256"),
    "None": (lambda keys: forge(keys, head=header(keys, alg="nOnE")), "RS256"),
    "HS256 with the public key": (
        lambda keys: with_secret(PUBLIC(keys), header(keys, alg="HS256"), claims()),
        "RS256",
    ),
    "RS256 with the public key as secret": (lambda keys: with_secret(PUBLIC(keys), header(keys), claims()), "ignature"),
    "RS512": (lambda keys: forge(keys, head=header(keys, alg="RS512")), "RS256"),
    "a list of algorithms": (lambda keys: forge(keys, head=header(keys, alg=["RS256"])), "RS256"),
    "an algorithm missing": (lambda keys: forge(keys, head=header(keys, alg=None)), "RS256"),
    "unknown kid": (lambda keys: forge(keys, head=header(keys, kid="somebody")), "is not known"),
    "kid as path": (lambda keys: forge(keys, head=header(keys, kid="../../../../dev/null")), "is not known"),
    "kid as statement": (lambda keys: forge(keys, head=header(keys, kid="' OR 1=1 --\n\x1b[31m")), "is not known"),
    "kid of 200": (lambda keys: forge(keys, head=header(keys, kid="k" * 200)), "names no key"),
    "kid as number": (lambda keys: forge(keys, head=header(keys, kid=7)), "names no key"),
    "no kid": (lambda keys: forge(keys, head=header(keys, kid=None)), "names no key"),
    "crit": (lambda keys: forge(keys, head=header(keys, crit=["exp"], exp=1)), "crit"),
    "crit as number": (lambda keys: forge(keys, head=header(keys, crit=5)), "crit"),
    "b64": (lambda keys: forge(keys, head=header(keys, b64=False, crit=["b64"])), "b64"),
    "b64 alone": (lambda keys: forge(keys, head=header(keys, b64=False)), "b64"),
    "jku": (lambda keys: forge(keys, head=header(keys, jku="http://127.0.0.1:9/jwks.json")), "jku"),
    "x5u": (lambda keys: forge(keys, head=header(keys, x5u="http://127.0.0.1:9/x")), "x5u"),
    "its own key": (_own_key, "jwk"),
    "another type": (lambda keys: forge(keys, head=header(keys, typ="logout+jwt")), "type"),
    "no type": (lambda keys: forge(keys, head=header(keys, typ=None)), "type"),
    "two parts": (lambda keys: forge(keys).rpartition(".")[0], "three parts"),
    "five parts": (lambda keys: forge(keys) + ".e.f", "three parts"),
    "no signature": (lambda keys: forge(keys).rpartition(".")[0] + ".", "three parts"),
    "padding": (lambda keys: forge(keys) + "==", "ignature"),
    "another alphabet": (lambda keys: forge(keys).replace(".", ".+", 1), "payload"),
    "not ASCII": (lambda keys: "é" + forge(keys), "base64url"),
    "one MB": (lambda keys: forge(keys, body=claims(x="x" * 1_000_000)), "larger"),
    "a byte above 8 KB": (lambda _: "x" * (LARGEST_TOKEN + 1), "larger"),
    "8 KB of dots": (lambda _: "." * LARGEST_TOKEN, "three parts"),
    "nothing": (lambda _: "", "three parts"),
    "tampered claims": (_tampered, "ignature"),
    "tampered signature": (_changed_signature, "ignature"),
}


@pytest.mark.parametrize("make, reason", REFUSALS.values(), ids=REFUSALS)
async def test_other_tokens_are_refused(
    make: Make, reason: str, directory: Path, keys: KeySet, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller hears one message whatever is wrong; the log has the reason in one line, without the token."""
    token = make(keys)
    with caplog.at_level(logging.DEBUG), pytest.raises(Unauthenticated) as raised:
        await principal(verifier_at(directory / JWKS, Clock()), f"Bearer {token}")
    assert raised.value.message == REFUSED
    assert raised.value.__cause__ is None
    told = [record.getMessage() for record in caplog.records if record.name == "interlock.audit"]
    assert len(told) == 1
    assert told[0].startswith("/sample.v1.SampleService/Whisper refused a call of this process: ")
    assert reason in told[0].removeprefix("/sample.v1.SampleService/Whisper refused a call of this process: ")
    assert told[0].isprintable()
    assert not any(part in told[0] for part in token.split(".") if len(part) > 8)


async def test_the_key_of_strangers_is_refused(directory: Path, keys: KeySet, strangers: KeySet) -> None:
    """A signature by another key does not count, under its own kid or under one that we know."""
    for kid in (strangers.kid, keys.kid):
        with pytest.raises(Unauthenticated, match="no valid credential"):
            await principal(
                verifier_at(directory / JWKS, Clock()), f"Bearer {forge(strangers, head=header(strangers, kid=kid))}"
            )


async def test_other_schemes_and_several_headers_are_refused(directory: Path, keys: KeySet) -> None:
    """Only one bearer token counts: no Basic, no second header, also where the last one verified before."""
    verifier = verifier_at(directory / JWKS, Clock())
    sound = f"Bearer {forge(keys)}"
    assert (await principal(verifier, sound)).subject == "orders"
    for values in (("Basic bWU6bWU=",), (forge(keys),), ("Bearer",), (sound, sound), ("Bearer x", sound), ()):
        with pytest.raises(Unauthenticated) as raised:
            await principal(verifier, *values)
        assert raised.value.message == REFUSED


async def test_open_operations_are_open_to_anybody(directory: Path) -> None:
    """For an operation open to anybody a bad token does not matter, and nobody is anybody there."""
    operation = SAMPLE_SERVICE.operation(ECHO)
    call = Call(operation, Metadata([("authorization", "Bearer bad"), ("x-user-id", "admin")]))
    await compose([authenticate(verifier_at(directory / JWKS, Clock()))], operation, answer)(call)
    assert call.principal is None
    assert "x-user-id" not in call.metadata


async def test_without_keys_everything_is_closed(tmp_path: Path, keys: KeySet) -> None:
    """Where no keys were ever made nobody gets in, and the message says how to make some in development."""
    verifiers = (None, verifier_at(tmp_path / JWKS, Clock()))
    for verifier in verifiers:
        for values in ((), (f"Bearer {forge(keys)}",)):
            with pytest.raises(Unauthenticated) as raised:
                await principal(verifier, *values)
            assert raised.value.message == UNCONFIGURED
            assert "interlock keys new" in raised.value.message


async def test_keys_made_later_count_without_a_restart(tmp_path: Path, directory: Path, keys: KeySet) -> None:
    """A verifier that found no keys looks again, ten seconds later."""
    clock = Clock()
    verifier = verifier_at(tmp_path / JWKS, clock)
    with pytest.raises(Unauthenticated):
        await principal(verifier, f"Bearer {forge(keys)}")
    (tmp_path / JWKS).write_bytes((directory / JWKS).read_bytes())
    clock.at += 10
    assert (await principal(verifier, f"Bearer {forge(keys)}")).subject == "orders"


async def test_unreachable_keys_are_no_fault_of_the_caller(keys: KeySet) -> None:
    """While no key set was ever got, a token is answered with UNAVAILABLE, for a retry may succeed."""

    async def fail() -> bytes:
        raise ConnectionError("down")

    clock = Clock()
    verifier = Verifier(VerifyingKeys(fail, clock=clock), now=clock, clock=clock)
    with pytest.raises(Unavailable):
        await principal(verifier, f"Bearer {forge(keys)}")
    with pytest.raises(Unauthenticated) as raised:
        await principal(verifier)
    assert raised.value.message == REFUSED


async def test_tokens_are_bounded_when_minted(keys: KeySet) -> None:
    """No token is minted that no service would take."""
    issuer = Issuer(keys=keys)
    for subject, lifetime in (
        ("", timedelta(hours=1)),
        ("a\nb", timedelta(hours=1)),
        ("me", timedelta()),
        ("me", timedelta(hours=25)),
    ):
        with pytest.raises(ValueError, match="a token"):
            issuer.mint(subject, lifetime=lifetime)
    with pytest.raises(ValueError, match="larger than"):
        issuer.mint("me", [f"{'r' * 200}{n}" for n in range(64)])
