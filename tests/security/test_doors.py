"""Every token that is not sound, over every protocol: 401, the body unread, one line of log, nothing told."""

import logging
from pathlib import Path
from typing import Any

import pytest

from interlock import App
from interlock.security.access import roles_from
from interlock.security.jwks import VerifyingKeys, jwks_from
from interlock.security.keys import JWKS, KeySet, new_keys, rotate_keys
from interlock.security.tokens import Issuer
from interlock.security.verifier import Verifier
from interlock.settings import Settings
from tests.sample.handlers import make
from tests.security.asking import HTTP, PROTOCOLS, ask
from tests.security.forging import NOW, Clock, claims, forge
from tests.security.test_authenticate import ACCEPTED, REFUSALS
from tests.waiting import until

ROLES = roles_from({"whisperer": ["sample:whisper"], "idle": []})


def app_with(place: Path, clock: Clock, **settings: Any) -> App:
    """Return the sample app, whose clock stands at NOW."""
    verifier = Verifier(VerifyingKeys(jwks_from(place), clock=clock), now=clock, clock=clock)
    return make(verifier=verifier, roles=ROLES, settings=Settings(**settings))


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_no_unsound_token_gets_in(
    protocol: str, directory: Path, keys: KeySet, caplog: pytest.LogCaptureFixture
) -> None:
    """The whole matrix, and no token at all."""
    app = app_with(directory / JWKS, Clock(), header_bytes=2 << 20)
    tokens = {name: make_token(keys) for name, (make_token, _) in REFUSALS.items()}
    usual = app_with(directory / JWKS, Clock())
    large = await ask(usual, protocol, [("authorization", f"Bearer {tokens['one MB']}")])
    assert large.code in ("RESOURCE_EXHAUSTED", "HEADERS_TOO_LARGE")  # by its head's size alone
    answers = set()
    for name, token in [*tokens.items(), ("none at all", None)]:
        caplog.clear()
        headers = [] if token is None else [("authorization", f"Bearer {token}")]
        with caplog.at_level(logging.INFO, "interlock"):
            answered = await ask(app, protocol, headers)
        assert answered.code == "UNAUTHENTICATED", name
        assert answered.status == (401 if protocol in ("rest", "connect") else 200), name
        assert not answered.read, f"the body was read: {name}"
        lines = [record.getMessage() for record in caplog.records if record.name.startswith("interlock")]
        assert len(lines) == 1, (name, lines)
        assert "192.0.2.7:5555" in lines[0]
        parts = [part for part in (token or "").split(".") if len(part) > 8]
        assert not any(part in lines[0] or part.encode() in answered.content for part in parts), name
        told = answered.content.partition(b'"details"')[0].partition(b"meta")[0]
        answers.add(answered.headers.get("grpc-message", told))
    assert len(answers) == 1, "every refusal reads the same"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_sound_tokens_get_in(protocol: str, directory: Path, keys: KeySet) -> None:
    """What is sound passes; with a role that does not hold the permission it is 403, the body unread."""
    app = app_with(directory / JWKS, Clock())
    for name, make_token in ACCEPTED.items():
        if name == "without roles":
            continue
        answered = await ask(app, protocol, [("authorization", f"Bearer {make_token(keys)}")])
        assert (answered.code, answered.read) == ("OK", True), name
    idle = await ask(app, protocol, [("authorization", f"Bearer {forge(keys, body=claims(roles=['idle']))}")])
    assert (idle.code, idle.read) == ("PERMISSION_DENIED", False)
    assert protocol in ("grpc", "grpc-web") or idle.status == HTTP["PERMISSION_DENIED"]


async def test_a_rotated_out_key_counts_no_more_and_no_good_call_is_refused(tmp_path: Path) -> None:
    """Keys rotate under load: tokens of the former key go on, until it is withdrawn; then they are refused."""
    clock = Clock()
    place = tmp_path / "keys"
    current = new_keys(place)
    app = app_with(place / JWKS, clock)

    async def call(token: str) -> str:
        return (await ask(app, "rest", [("authorization", f"Bearer {token}")])).code

    first = Issuer(keys=current, now=clock).mint("orders", ["whisperer"])
    tokens = [first]
    for _ in range(2):
        tokens.append(Issuer(keys=rotate_keys(place), now=clock).mint("orders", ["whisperer"]))
        clock.at += 10
        assert {await call(token) for token in tokens} == {"OK"}
    fresh = Issuer(keys=rotate_keys(place, keep=1), now=clock).mint("orders", ["whisperer"])
    clock.at += 310
    assert await call(fresh) == "OK"
    clock.at += 10  # a set that has none of the known keys is read twice before it is believed
    assert await call(fresh) == "OK"

    async def withdrawn() -> bool:
        return await call(tokens[0]) == "UNAUTHENTICATED"

    await until(withdrawn)
    assert {await call(token) for token in tokens} == {"UNAUTHENTICATED"}
    assert await call(fresh) == "OK"
    assert clock.at < NOW + 3600


async def test_forwarded_identities_are_dropped(directory: Path, keys: KeySet) -> None:
    """What a proxy may have said of the caller reaches no handler, whoever sent it; other metadata does."""
    app = app_with(directory / JWKS, Clock())
    given = [
        ("authorization", f"Bearer {forge(keys)}"),
        ("x-forwarded-user", "root"),
        ("baggage", "userId=root"),
        ("x-test-kept", "yes"),
    ]
    seen: list[list[str]] = []

    async def look(call: object, proceed: object) -> object:
        seen.append([name for name, _ in call.metadata.items()])  # type: ignore[attr-defined]
        return await proceed(call)  # type: ignore[operator]

    from interlock import after

    app = make(
        verifier=Verifier(VerifyingKeys(jwks_from(directory / JWKS), clock=Clock()), now=Clock(), clock=Clock()),
        roles=ROLES,
        layers=[after("authenticate", lambda _operation: look)],  # type: ignore[arg-type, return-value]
    )
    assert (await ask(app, "rest", given)).code == "OK"
    assert "x-test-kept" in seen[0]
    assert not {"x-forwarded-user", "baggage"} & set(seen[0])
