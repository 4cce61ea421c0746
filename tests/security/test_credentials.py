"""What clients show: own tokens, those of their callers, renewed in time and never seen."""

import logging
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from interlock.call import Call, Direction, Handler, Principal, Reply, compose, current_call
from interlock.errors import Error, PermissionDenied, Unauthenticated
from interlock.metadata import Metadata
from interlock.security.credentials import BearerToken, Credentials, ServiceToken, credentials, forwarded
from interlock.security.jwks import VerifyingKeys, jwks_from
from interlock.security.keys import JWKS, KeySet, KeySetError, new_keys, rotate_keys
from interlock.security.verifier import Verifier
from tests.sample.gen.sample.v1.sample_pb import EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_SERVICE, SUM, WHISPER
from tests.security.forging import NOW, Clock
from tests.waiting import until

WHISPERING = SAMPLE_SERVICE.operation(WHISPER)


class Service:
    """A transport that notes what was shown, and refuses the first `refusals` times."""

    def __init__(self, refusals: int = 0, error: Callable[[], Error] = lambda: Unauthenticated("no")) -> None:
        self.shown: list[list[str]] = []
        self.refusals = refusals
        self.error = error

    async def __call__(self, call: Call) -> Reply:
        self.shown.append(call.metadata.get_all("authorization"))
        if self.refusals:
            self.refusals -= 1
            call.reply_trailers.add("x-attempt", "refused")
            refused = self.error()
            refused.received = True
            raise refused
        return EchoResponse()


async def send(service: Handler, given: Credentials, **metadata: str) -> Call:
    call = Call(WHISPERING, Metadata(metadata.items()), direction=Direction.SENT)
    await compose([credentials(given)], WHISPERING, service)(call)
    return call


async def test_a_given_token_is_shown() -> None:
    """A bearer token goes with every attempt, behind the caller's metadata, and is in no repr."""
    service, given = Service(), BearerToken("abc.def.ghi")
    call = await send(service, given, **{"x-other": "kept"})
    assert service.shown == [["Bearer abc.def.ghi"]]
    assert call.metadata.get("x-other") == "kept"
    assert "abc" not in repr(given) + repr(call)


@pytest.mark.parametrize("text", ["", "a b", "a\nb", "é", "a,b"])
def test_what_is_no_token_is_refused_unseen(text: str) -> None:
    """A text that could not travel as a token is refused, and not told."""
    with pytest.raises(ValueError, match="bearer token") as raised:
        BearerToken(text)
    assert not text or text not in str(raised.value)


async def test_what_the_caller_sets_itself_stays() -> None:
    """An authorization given for one call is not overwritten, doubled or renewed."""
    service = Service(refusals=1)
    with pytest.raises(Unauthenticated):
        await send(service, ServiceToken("orders", keys="nowhere"), authorization="Bearer mine")
    assert service.shown == [["Bearer mine"]]


async def test_a_service_token_verifies_and_is_renewed_ahead(directory: Path) -> None:
    """One token serves many calls until four fifths of its life are over, then there is another."""
    clock, service = Clock(), Service()
    given = ServiceToken("orders", ["clerk"], keys=directory, lifetime=timedelta(seconds=100), now=clock)
    for at in (0, 40, 79.9, 80, 150):
        clock.at = NOW + at
        await send(service, given)
        if at == 80:
            await until(lambda: not given._own.busy)
    shown = [each for (each,) in service.shown]
    assert len(set(shown)) == 2
    assert shown[0] == shown[2] == shown[3]
    verifier = Verifier(VerifyingKeys(jwks_from(directory / JWKS)), now=clock)
    found = await verifier.verify(shown[4].encode())
    assert (found.subject, found.roles) == ("orders", frozenset(["clerk"]))


async def test_a_token_that_cannot_be_renewed_is_used_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the keys are gone, the old token is shown to its end, and the log says so; then the reason is raised."""
    clock, service = Clock(), Service()
    keys = new_keys(tmp_path / "keys")
    given = ServiceToken("orders", keys=tmp_path / "keys", lifetime=timedelta(seconds=100), now=clock)
    await send(service, given)
    (tmp_path / "keys" / f"{keys.kid}.pem").unlink()
    clock.at = NOW + 85
    await send(service, given)
    await until(lambda: "could not be renewed" in caplog.text)
    await send(service, given)
    assert len({each for (each,) in service.shown}) == 1
    assert caplog.text.count("could not be renewed") == 1
    clock.at = NOW + 100
    with pytest.raises(KeySetError, match="holds no private key"):
        await send(service, given)


async def test_a_refused_token_is_replaced_once(tmp_path: Path) -> None:
    """UNAUTHENTICATED mints another token with the keys of now and sends once more; the first answer leaves nothing."""
    clock = Clock()
    new_keys(tmp_path / "keys")
    given = ServiceToken("orders", keys=tmp_path / "keys", now=clock)
    await send(Service(), given)
    rotate_keys(tmp_path / "keys", keep=1)
    service = Service(refusals=1)
    call = await send(service, given)
    assert len(service.shown) == 2
    assert service.shown[0] != service.shown[1]
    assert [len(each) for each in service.shown] == [1, 1]
    assert len(call.reply_trailers) == 0


async def test_a_second_refusal_stands(directory: Path) -> None:
    """A fresh token that is refused too is not replaced again, nor is another minted within ten seconds."""
    clock = Clock()
    given = ServiceToken("orders", keys=directory, now=clock)
    await send(Service(), given)
    service = Service(refusals=9)
    clock.at += 1
    for expected in (2, 3):
        with pytest.raises(Unauthenticated):
            await send(service, given)
        assert len(service.shown) == expected
    clock.at += 10
    with pytest.raises(Unauthenticated):
        await send(service, given)
    assert len(service.shown) == 5


async def test_only_an_answer_of_the_service_renews(directory: Path) -> None:
    """Other errors pass, so does UNAUTHENTICATED that did not come from the other side."""
    denied = Service(refusals=1, error=lambda: PermissionDenied("no"))
    with pytest.raises(PermissionDenied):
        await send(denied, ServiceToken("orders", keys=directory))
    assert len(denied.shown) == 1
    sent = []

    async def own(call: Call) -> Reply:
        sent.append(call)
        raise Unauthenticated("raised here")

    with pytest.raises(Unauthenticated):
        await send(own, ServiceToken("orders", keys=directory))
    assert len(sent) == 1


async def test_a_stream_of_requests_is_not_sent_again(directory: Path) -> None:
    """What was read from the caller's iterator is gone, so the refusal stands, and the next call has a fresh token."""
    operation, clock = SAMPLE_SERVICE.operation(SUM), Clock()
    service, given = Service(refusals=1), ServiceToken("orders", keys=directory, now=clock)
    handler = compose([credentials(given)], operation, service)
    with pytest.raises(Unauthenticated):
        await handler(Call(operation, direction=Direction.SENT))
    clock.at += 1
    await handler(Call(operation, direction=Direction.SENT))
    assert len(service.shown) == 2


async def test_the_callers_token_travels_on(directory: Path) -> None:
    """Inside a served call its token is shown; outside, or where it had none, what stands in for it."""
    service = Service()
    given = forwarded(BearerToken("own"))
    await send(service, given)
    await send(service, forwarded())
    for credential in ("theirs", ""):
        serving = Call(WHISPERING, principal=Principal(subject="a", credential=credential))
        token = current_call.set(serving)
        try:
            await send(service, given)
        finally:
            current_call.reset(token)
    assert service.shown == [["Bearer own"], [], ["Bearer theirs"], ["Bearer own"]]


async def test_a_callers_token_is_not_renewed(directory: Path) -> None:
    """A refused token of the caller is the caller's affair: ours never stands in for it."""
    service = Service(refusals=1)
    reset = current_call.set(Call(WHISPERING, principal=Principal(subject="a", credential="theirs")))
    try:
        with pytest.raises(Unauthenticated):
            await send(service, forwarded(ServiceToken("orders", keys=directory)))
    finally:
        current_call.reset(reset)
    assert service.shown == [["Bearer theirs"]]


async def test_the_environment_says_which(directory: Path, keys: KeySet) -> None:
    """INTERLOCK_TOKEN is shown as it is, else a token is minted; without either the remedy is told."""
    service = Service()
    await send(service, ServiceToken.from_env({"INTERLOCK_TOKEN": "given", "INTERLOCK_SERVICE_NAME": "orders"}))
    assert service.shown == [["Bearer given"]]
    for roles in ("a, b", '["a", "b"]'):
        minting = ServiceToken.from_env(
            {
                "INTERLOCK_SERVICE_NAME": "orders",
                "INTERLOCK_SERVICE_ROLES": roles,
                "INTERLOCK_KEYS": str(directory),
                "INTERLOCK_TOKEN_AUDIENCE": "microservices",
            }
        )
        await send(service, minting)
        found = await Verifier.at(directory / JWKS).verify(service.shown[-1][0].encode())
        assert (found.subject, found.roles) == ("orders", frozenset(["a", "b"]))
    with pytest.raises(ValueError, match="INTERLOCK_SERVICE_NAME"):
        ServiceToken.from_env({})


async def test_no_token_is_in_logs_reprs_or_tracebacks(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is printed of credentials, calls, principals and failures, no part of a token is in it."""
    service, given = Service(), ServiceToken("orders", ["clerk"], keys=directory)
    told = [repr(given), repr(forwarded(given))]
    with caplog.at_level(logging.DEBUG):
        call = await send(service, given)
        value = service.shown[0][0]
        verifier = Verifier.at(directory / JWKS)
        principal = await verifier.verify(value.encode())
        call.principal = principal
        told += [repr(principal), repr(call), repr(verifier), str(call.metadata)]
        try:
            await send(Service(refusals=3), given)
        except Unauthenticated as refused:
            told += traceback.format_exception(refused)
    token = value.removeprefix("Bearer ")
    for part in (token, *token.split(".")):
        assert not any(part in text for text in [*told, caplog.text])
