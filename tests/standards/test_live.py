"""The live rules against a foreign service with one fault at a time, and against an app of Interlock's own."""

import socket
from pathlib import Path

import pytest

from interlock import App
from interlock.security.keys import KeySet, load_keys, new_keys
from interlock.security.tokens import Issuer
from interlock.server import serving
from interlock.standards import LIVE_RULES, LiveRule, Outcome, Target, Unreachable, Verdict, check_live
from tests.sample.handlers import Sample
from tests.standards.foreign import foreign

RULES = {each.id: each for each in LIVE_RULES}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the keys that the foreign service trusts."""
    path = tmp_path_factory.mktemp("standards") / "keys"
    new_keys(path)
    return path


@pytest.fixture(scope="module")
def keys(directory: Path) -> KeySet:
    """The keys in it."""
    return load_keys(directory)


async def outcome(rule: str, target: Target) -> Outcome:
    """Run one rule."""
    report = await check_live(target, rules=[RULES[rule]])
    return report.outcomes[0]


@pytest.mark.parametrize("rule", [each for each in LIVE_RULES if each.id != "GRPC006"], ids=lambda each: each.id)
async def test_a_service_that_keeps_the_standard_passes(rule: LiveRule, keys: KeySet, directory: Path) -> None:
    """Nothing is found, whatever the service is written in."""
    token = Issuer(keys=keys).mint("tester")
    with foreign(keys) as url:
        found = await outcome(rule.id, Target(url=url, token=token, keys=directory))
    assert found.findings == ()
    assert found.verdict is Verdict.PASSED


FAULTS = [
    ("REST005", "bare 404", ["has an empty body"]),
    ("REST005", "bare 405", ["has an empty body"]),
    ("REST005", "bare 413", ["has an empty body"]),
    ("REST005", "bare 415", ["has an empty body"]),
    ("REST005", "bare 401", ["has an empty body"]),
    ("REST005", "allow", ["no Allow header"]),
    ("REST005", "media type", ["answered 400 where 415 was due"]),
    ("GRPC004", "page_token", ["wrong `page_token` is answered with 200"]),
    ("GRPC004", "filter", ["wrong `filter` is answered with 200"]),
    ("GRPC004", "order_by", ["wrong `order_by` is answered with 200"]),
    ("GRPC004", "coercion", ["`page_size` of 1000000 is answered with 400"]),
    ("GRPC004", "unnamed", ["`page_token` is refused without", "`filter`", "`order_by`", "`page_size`"]),
    ("SEC001", "none", ["without a signature (alg none) is answered with 200"]),
    ("SEC001", "secret", ["signed by HS256 with the public key is answered with 200"]),
    ("SEC001", "signature", ["with the id of a known one", "changed after it was signed"]),
    ("SEC001", "expiry", ["a token that is expired is answered with 200"]),
    ("SEC001", "audience", ["for another audience"]),
    ("SEC001", "issuer", ["of another issuer"]),
    ("SEC001", "www-authenticate", ["no token: the 401 has no WWW-Authenticate", *[""] * 8]),
    ("SEC001", "bare 401", ["no token: the 401 has `error.code` None", *[""] * 8]),
    ("SEC001", "crash", ["no answer came"]),
    ("OBS001", "strict trace", ["makes 400 of"]),
    ("OBS001", "new trace", ["not continued"]),
]


@pytest.mark.parametrize("rule, fault, told", FAULTS, ids=[f"{rule}-{fault}" for rule, fault, _ in FAULTS])
async def test_a_fault_is_found(rule: str, fault: str, told: list[str], keys: KeySet, directory: Path) -> None:
    """One fault gives the findings that name it, each with the request that showed it and a remedy."""
    token = Issuer(keys=keys).mint("tester")
    with foreign(keys, fault) as url:
        found = await outcome(rule, Target(url=url, token=token, keys=directory))
    messages = [each.message for each in found.findings]
    assert len(messages) == len(told), messages
    assert all(text in message for text, message in zip(told, messages, strict=True))
    assert all(each.remedy and each.source.file.split(" ")[1].startswith("/") for each in found.findings)


async def test_an_open_service_lets_every_token_in(keys: KeySet) -> None:
    """Where nobody verifies, each of the nine is a finding, known keys or not."""
    with foreign(keys, "open") as url:
        found = await outcome("SEC001", Target(url=url))
    assert len(found.findings) == 9


async def test_what_is_not_seen_is_said(keys: KeySet) -> None:
    """Without a token, a document or a trace in the answers a rule says what it could not check."""
    with foreign(keys, "quiet") as url:
        lists = await outcome("GRPC004", Target(url=url))
        envelope = await outcome("REST005", Target(url=url))
        tokens = await outcome("SEC001", Target(url=url))
        traces = await outcome("OBS001", Target(url=url))
    assert lists.verdict is Verdict.NOT_CHECKED
    assert "--token" in lists.notes[0]
    assert [note for note in envelope.notes if note.startswith("415 not reached")]
    assert [note for note in tokens.notes if "--keys" in note]
    assert traces.verdict is Verdict.NOT_CHECKED
    assert "not checkable from outside" in traces.notes[0]
    with foreign(keys, "document") as url:
        assert (await outcome("SEC001", Target(url=url))).verdict is Verdict.NOT_CHECKED


async def test_a_refused_control_is_said(keys: KeySet) -> None:
    """Where the token that should be sound is refused too, the report does not call the refusals proof."""
    with foreign(keys) as url:
        found = await outcome("SEC001", Target(url=url, token="a.b.c"))
    assert [note for note in found.notes if "prove little" in note]


async def test_a_service_without_grpc_is_found(keys: KeySet) -> None:
    """Health and reflection that do not answer are two findings."""
    with foreign(keys) as url:
        found = await outcome("GRPC006", Target(url=url, timeout=2))
    assert [each.source.file for each in found.findings] == [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ]


async def test_an_app_has_envelope_health_and_reflection() -> None:
    """An app of Interlock's own passes what needs no contract in particular."""
    async with serving(App(Sample(), access_log=False)) as address:
        report = await check_live(Target(url=address.url), rules=[RULES["REST005"], RULES["GRPC006"]])
    assert report.findings == ()
    assert {each.verdict for each in report.outcomes} == {Verdict.PASSED}
    assert not [note for each in report.outcomes for note in each.notes if "not reached" in note]


async def test_nobody_there_is_no_finding() -> None:
    """A service that does not answer is not checked, and a URL that is none is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: refuses connections, and nobody else gets the port
        with pytest.raises(Unreachable, match="does not answer"):
            await check_live(Target(url=f"http://127.0.0.1:{taken.getsockname()[1]}", timeout=2))
    with pytest.raises(ValueError, match="no URL"):
        await check_live(Target(url="localhost:8080"))
