"""The client for third parties: what is repeated, what opens the circuit, what ends how, and what never leaves."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from interlock import (
    BearerToken,
    Call,
    Deadline,
    DeadlineExceeded,
    Error,
    Peer,
    Principal,
    ResourceExhausted,
    Settings,
    TooLarge,
    Unavailable,
    current_call,
)
from interlock.deadline import monotonic
from interlock.outbound import External, HttpClient
from interlock.resilience.circuit_breaker import BreakerPolicy, CircuitOpen
from interlock.resilience.concurrency import BulkheadFull, BulkheadPolicy
from interlock.resilience.retry import RetryPolicy
from interlock.resilience.throttle import Throttled
from interlock.security.secret import WatchedSecret, from_file
from interlock.security.secret_header import SecretHeader
from interlock.settings import MissingUpstream
from interlock.testing import Blackhole, CutAfter, Latency, Reset, until
from interlock.testing.proxy import Fault
from tests.outbound.third_party import ThirdParty, cut, hang, reset, response, third_party
from tests.resilience.ground import operation
from tests.testing.test_proxy import Put

SOON = RetryPolicy(base=timedelta(milliseconds=1))
ONCE = RetryPolicy(retries=0)
NEVER_OPENS = BreakerPolicy(minimum_calls=10_000)


@pytest.fixture
async def party() -> AsyncIterator[ThirdParty]:
    """A third party on a real port."""
    async with third_party() as found:
        yield found


def client(party: ThirdParty, **options: Any) -> HttpClient:
    """Return a client of it, in a hurry."""
    return HttpClient(party.url, **{"name": "provider", "retries": SOON, **options})


def said(policies: dict[str, dict[str, Any]]) -> External:
    """Return a third party of which the settings say that."""
    return External(name="provider", url="https://api.example.com", policies=policies)


async def streamed(provider: HttpClient, got: list[bytes] | None = None) -> None:
    """Read a streamed response to its end."""
    async with provider.stream("GET", "/x") as body:
        async for part in body.aiter_bytes():
            if got is not None:
                got.append(part)


async def test_it_is_an_httpx_client(party: ThirdParty) -> None:
    """Paths are below the base, JSON goes and comes, statuses are responses."""
    party.script = [response(201, b'{"id": "p-1"}', content_type="application/json"), response(404, b"none")]
    async with HttpClient(f"{party.url}/v1") as provider:
        created = await provider.post("/payments", json={"amount": 5}, params={"dry": "1"})
        assert (created.status_code, created.json()) == (201, {"id": "p-1"})
        missing = await provider.get("/payments/p-2")
        assert (missing.status_code, missing.text, missing.request.url.path) == (404, "none", "/v1/payments/p-2")
        assert timedelta() < created.elapsed < timedelta(seconds=30)
        assert timedelta() < missing.elapsed < timedelta(seconds=30)
        with pytest.raises(httpx2.HTTPStatusError):
            missing.raise_for_status()
    first = party.asked[0]
    assert (first.verb, first.path, first.body) == ("POST", "/v1/payments?dry=1", b'{"amount":5}')
    assert first.headers["user-agent"].startswith("interlock/")
    assert "traceparent" not in first.headers


@pytest.mark.parametrize("verb", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("failure", [response(503), response(502), response(504), response(408), reset])
async def test_idempotent_verbs_are_repeated(party: ThirdParty, verb: str, failure: Any) -> None:
    """After a status that passes, and after a connection that broke."""
    party.script = [failure, failure]
    async with client(party) as provider:
        assert (await provider.request(verb, "/x")).status_code == 200
    assert [each.verb for each in party.asked] == [verb] * 3


@pytest.mark.parametrize("verb", ["POST", "PATCH"])
async def test_others_are_repeated_with_a_key_alone(party: ThirdParty, verb: str) -> None:
    """All attempts carry the caller's key and the whole body; without one the first failure is the answer."""
    party.script = [response(503, b"first"), response(503), cut]
    async with client(party) as provider:
        failed = await provider.request(verb, "/x", content=b"body")
        assert (failed.status_code, failed.text) == (503, "first")
        repeated = await provider.request(verb, "/x", content=b"body", headers={"Idempotency-Key": "k-1"})
        assert repeated.status_code == 200
    assert [each.body for each in party.asked] == [b"body"] * 4
    assert [each.headers.get("idempotency-key") for each in party.asked] == [None, "k-1", "k-1", "k-1"]


async def test_what_was_never_sent_is_repeated_whatever_it_is() -> None:
    """Nobody listens: UNAVAILABLE, unsent, the cause kept, after as many attempts as the policy has."""
    async with third_party() as gone:
        pass
    async with client(gone) as provider:
        with pytest.raises(Unavailable, match="no connection could be made") as raised:
            await provider.post("/x", json={})
        assert (raised.value.unsent, raised.value.received, raised.value.final) == (True, True, True)
        assert isinstance(raised.value.__cause__, httpx2.ConnectError)


async def test_a_body_that_is_an_iterator_goes_once(party: ThirdParty) -> None:
    """It can't be sent again."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    party.script = [response(503)]
    async with client(party) as provider:
        assert (await provider.put("/x", content=parts())).status_code == 503
    assert [each.body for each in party.asked] == [b"onetwo"]


async def test_other_statuses_are_answers(party: ThirdParty) -> None:
    """They are not repeated; a redirect is not followed, unless that is asked for."""
    for status in (301, 400, 401, 403, 404, 409, 422, 500, 501):
        party.otherwise = response(status, location="/elsewhere")
        async with client(party) as provider:
            before = len(party.asked)
            assert (await provider.get("/x")).status_code == status
            assert len(party.asked) == before + 1
    party.otherwise = response(200)
    party.script = [response(302, location="/elsewhere")]
    async with client(party) as provider:
        assert (await provider.get("/x", follow_redirects=True)).status_code == 200
    assert party.asked[-1].path == "/elsewhere"


async def test_retry_after_is_obeyed(party: ThirdParty) -> None:
    """In seconds or as a date; one that is too far off makes the answer final."""
    later = format_datetime(datetime.now(UTC) + timedelta(hours=3), usegmt=True)
    party.script = [response(429, retry_after="1"), response(200), response(503, retry_after=later)]
    async with client(party) as provider:
        began = monotonic()
        assert (await provider.get("/x")).status_code == 200
        assert monotonic() - began >= 0.9
        assert (await provider.get("/x")).status_code == 503
    assert len(party.asked) == 3


async def test_a_limit_that_was_told_is_kept(party: ThirdParty) -> None:
    """One for the whole of the third party: the next call ends here, unsent, with the time to come back."""
    party.script = [response(200, ratelimit='"default";r=0;t=40', ratelimit_policy='"default";q=10;w=60')]
    async with client(party, timeout=5) as provider:
        assert (await provider.get("/a")).status_code == 200
        with pytest.raises(Throttled) as raised:
            await provider.post("/b")
        assert isinstance(raised.value, ResourceExhausted)
        assert raised.value.unsent
        assert raised.value.retry_after is not None
        assert raised.value.retry_after > timedelta(seconds=20)
    assert len(party.asked) == 1


async def test_only_its_own_failures_open_the_circuit(party: ThirdParty) -> None:
    """A thousand 404 say nothing of the third party; five times 500 in a row do, and it is left alone."""
    party.otherwise = response(404)
    breaker = BreakerPolicy(minimum_calls=0, consecutive_failures=5)
    async with client(party, breaker=breaker, timeout=3) as provider:
        for _ in range(1000):
            assert (await provider.get("/x")).status_code == 404
        party.otherwise = response(500)
        for _ in range(5):
            assert (await provider.get("/x")).status_code == 500
        with pytest.raises(CircuitOpen, match="provider/GET") as raised:
            await provider.get("/x")
        assert raised.value.retry_after
        assert (await provider.post("/x")).status_code == 500  # another verb, another circuit
    assert len(party.asked) == 1006


async def test_what_can_not_be_sent_does_not_open_the_circuit(party: ThirdParty) -> None:
    """A header or a body that our own caller got wrong says nothing of the third party."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise KeyError("mine")

    breaker = BreakerPolicy(minimum_calls=0, consecutive_failures=3)
    async with client(party, breaker=breaker) as provider:
        for _ in range(5):
            with pytest.raises(httpx2.LocalProtocolError, match="Illegal header value"):
                await provider.post("/x", headers={"idempotency-key": "a\r\nx-evil: 1"})
        for _ in range(5):
            with pytest.raises(KeyError, match="mine"):
                await provider.post("/x", content=broken())
        assert (await provider.post("/x")).status_code == 200
    assert len(party.asked) == 1


async def test_the_bulkhead_is_left_when_the_body_is(party: ThirdParty) -> None:
    """A streamed response holds its place until it is closed."""
    narrow = BulkheadPolicy(calls=1, wait=timedelta())
    async with client(party, bulkhead=narrow) as provider:
        async with provider.stream("GET", "/x") as first:
            assert first.status_code == 200
            with pytest.raises(BulkheadFull, match="provider"):
                await provider.get("/x")
        assert (await provider.get("/x")).text == "hello"
        async with provider.stream("GET", "/x") as whole:
            assert [part async for part in whole.aiter_bytes()] == [b"hello"]
        assert (await provider.get("/x")).text == "hello"


async def test_the_timeout_bounds_the_whole_request(party: ThirdParty) -> None:
    """All attempts and the body; that of one request replaces the client's."""
    party.otherwise = hang
    async with client(party, timeout=0.3) as provider:
        began = monotonic()
        with pytest.raises(DeadlineExceeded):
            await provider.get("/x")
        assert monotonic() - began < 5

        async def drip(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)

        party.otherwise = drip
        with pytest.raises(DeadlineExceeded):
            await provider.get("/x")
        with pytest.raises(DeadlineExceeded):
            await streamed(provider)
        party.otherwise = response(200)
        assert (await provider.get("/x", timeout=30)).status_code == 200
        assert (await provider.get("/x", timeout=float("inf"))).status_code == 200


@pytest.mark.parametrize("tries", [SOON, ONCE])
async def test_credentials_that_hang_are_given_up(party: ThirdParty, tries: RetryPolicy) -> None:
    """Whole or streamed, with retries and without, the caller is let go."""

    class Hanging:
        async def apply(self, _call: Call) -> None:
            await asyncio.get_running_loop().create_future()

        async def refresh(self) -> bool:
            return False

    async with client(party, credentials=Hanging(), timeout=0.2, retries=tries) as provider:
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(streamed(provider), 20)
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(provider.get("/x"), 20)
    assert not party.asked


async def test_what_is_left_of_the_served_call_bounds_it_too(party: ThirdParty) -> None:
    """The caller's deadline, request id and no more: neither its token nor other metadata go to a third party."""
    party.script = [response(200), hang]
    serving = Call(
        operation(),
        deadline=Deadline.after(0.5),
        principal=Principal(subject="anna", credential="secret-token"),
        peer=Peer(),
    )
    serving.metadata.add("x-request-id", "r-77")
    serving.metadata.add("x-tenant", "north")
    token = current_call.set(serving)
    try:
        async with client(party) as provider:
            await provider.get("/x")
            with pytest.raises(DeadlineExceeded):
                await provider.get("/x", timeout=30)
            with pytest.raises(DeadlineExceeded, match="before the call was sent"):
                await provider.get("/x")
    finally:
        current_call.reset(token)
    assert party.asked[0].headers["x-request-id"] == "r-77"
    assert not {"authorization", "x-tenant"} & party.asked[0].headers.keys()
    assert len(party.asked) == 2


async def test_a_streamed_body_is_never_asked_for_again(party: ThirdParty) -> None:
    """Up to its first bytes it is; what breaks off later is an error where it is read."""
    party.script = [response(503), cut]
    async with client(party) as provider:
        got: list[bytes] = []
        with pytest.raises(Unavailable, match="broke before"):
            await streamed(provider, got)
        assert got == [b"half"]
        assert len(party.asked) == 2
        party.script = [response(503, b"why")] * 4
        async with provider.stream("GET", "/x") as refused:
            assert (refused.status_code, await refused.aread()) == (503, b"why")


async def test_bodies_are_bounded_decompressed(party: ThirdParty) -> None:
    """A small reply that swells is refused as well; streamed ones are the reader's affair."""
    bomb = gzip.compress(b"\0" * 3_000_000)
    party.otherwise = response(200, bomb, content_encoding="gzip")
    async with client(party, most=1_000_000) as provider:
        with pytest.raises(TooLarge, match="limit of 1000000 bytes"):
            await provider.get("/x")
        async with provider.stream("GET", "/x") as body:
            assert sum([len(part) async for part in body.aiter_bytes()]) == 3_000_000
    async with client(party) as provider:
        whole = await provider.get("/x")
        assert (len(whole.content), whole.headers["content-encoding"]) == (3_000_000, "gzip")


async def test_one_host_is_called_and_nothing_is_kept_for_the_next(
    party: ThirdParty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other origin, no cookies, no proxy of the environment."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    party.otherwise = response(200, set_cookie="session=of-anna; Path=/")
    async with client(party, credentials=BearerToken("secret")) as provider:
        for _ in range(2):
            await provider.get("/x")
        with pytest.raises(ValueError, match="is not provider: a client calls one host"):
            await provider.get("http://127.0.0.1:1/x")
        party.otherwise = response(302, location="http://127.0.0.1:1/steal")
        with pytest.raises(ValueError, match="calls one host"):
            await provider.get("/x", follow_redirects=True)
    assert all("cookie" not in each.headers for each in party.asked)
    assert {each.headers["authorization"] for each in party.asked} == {"Bearer secret"}


async def test_a_secret_that_rotates_is_followed(party: ThirdParty, tmp_path: Path) -> None:
    """A refused one is read again, once; what the caller shows itself stays."""
    place = tmp_path / "key"
    place.write_text("old")
    secret = SecretHeader(WatchedSecret(from_file(place)), header="X-Api-Key")
    async with client(party, credentials=secret) as provider:
        await provider.get("/x")
        place.write_text("new")
        party.script = [response(401), response(200)]
        assert (await provider.get("/x")).status_code == 200
    assert [each.headers["x-api-key"] for each in party.asked] == ["old", "old", "new"]
    assert "old" not in repr(secret)
    async with client(party, credentials=BearerToken("ours")) as provider:
        await provider.get("/x", headers={"authorization": "Basic eA=="})
        assert party.asked[-1].headers["authorization"] == "Basic eA=="
        await provider.get("/x", auth=("user", "pass"))
        assert party.asked[-1].headers["authorization"].startswith("Basic ")


async def test_settings_say_where_it_is_what_opens_it_and_how_it_is_called(
    party: ThirdParty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a change of code."""
    monkeypatch.setenv("INTERLOCK_EXTERNALS__PAYMENTS_PROVIDER__URL", f"{party.url}/v2")
    monkeypatch.setenv("INTERLOCK_EXTERNALS__PAYMENTS_PROVIDER__SECRET", "env:PROVIDER_KEY")
    monkeypatch.setenv("INTERLOCK_EXTERNALS__PAYMENTS_PROVIDER__TIMEOUT", "7s")
    monkeypatch.setenv("INTERLOCK_POLICIES", '{"payments_provider/GET": {"retry": {"attempts": 2, "base": 0}}}')
    monkeypatch.setenv("PROVIDER_KEY", "k-9")
    party.otherwise = response(503)
    async with HttpClient(Settings().external("payments-provider")) as provider:
        assert (await provider.get("/x")).status_code == 503
        assert provider._policed._policies.of(operation()).timeout == timedelta(seconds=7)
    assert [(each.path, each.headers["authorization"]) for each in party.asked] == [("/v2/x", "Bearer k-9")] * 2
    with pytest.raises(MissingUpstream, match="set INTERLOCK_EXTERNALS__OTHER__URL=https://"):
        Settings().external("other")


@pytest.mark.parametrize(
    "given, told",
    [
        ({"target": "api.example.com"}, "'api.example.com' is no target; write https://host"),
        ({"target": "https://user:pass@api.example.com"}, "credentials are given apart"),
        ({"target": "https://api.example.com", "timeout": 0}, "timeout must be above zero"),
        ({"target": "https://api.example.com", "policy": "strikt"}, "did you mean 'strict'"),
        ({"target": External(name="a b", url="https://api.example.com")}, "'a b' is no name"),
        ({"target": "https://user:pass@api.example.com:port"}, "is no URL"),
        ({"target": "https://api.example.com", "timeout": float("inf")}, "timeout must be above zero, and not inf s"),
        ({"target": "https://api.example.com", "timeout": float("nan")}, "timeout must be above zero, and not nan s"),
        ({"target": said({"provider/GTE": {}})}, "no operation; did you mean 'provider/GET'"),
        ({"target": said({"provider": {"breaker.minimum_calls": 0}})}, "a breaker needs minimum_calls or consecutive"),
    ],
)
def test_what_can_not_be_is_told_where_it_was_written(given: dict[str, Any], told: str) -> None:
    """Before anything is called; no secret is shown."""
    with pytest.raises(ValueError, match=told) as raised:
        HttpClient(**given)
    assert "pass@" not in str(raised.value)


@pytest.mark.parametrize(
    "fault, kinds",
    [
        (Latency(seconds=5), (DeadlineExceeded,)),
        (Blackhole(), (DeadlineExceeded,)),
        (Reset(), (Unavailable,)),
        (CutAfter(after_bytes=40, way="down"), (Unavailable,)),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_every_fault_of_the_network_ends_typed_and_in_time(
    party: ThirdParty, proxy: Put, fault: Fault, kinds: tuple[type[Error], ...]
) -> None:
    """Whole and streamed; no task is left behind."""
    between = await proxy("127.0.0.1", party.port)
    there = asyncio.all_tasks()
    async with HttpClient(f"http://{between.address}", timeout=1, retries=SOON, breaker=NEVER_OPENS) as provider:
        assert (await provider.get("/x")).status_code == 200
        with between.faulty(fault):
            began = monotonic()
            with pytest.raises(kinds):
                await provider.get("/x")
            with pytest.raises(kinds):
                await streamed(provider)
            assert monotonic() - began < 10
    await until(lambda: not [each for each in asyncio.all_tasks() - there if "outbound" in str(each.get_coro())])


async def test_connections_are_kept_ten_at_most(party: ThirdParty) -> None:
    """CLI003: a pool for the host; what is idle beyond ten is closed."""
    async with client(party) as provider:
        await asyncio.gather(*(provider.get("/x") for _ in range(30)))
        many = party.connections
        await asyncio.gather(*(provider.get("/x") for _ in range(10)))
        assert party.connections == many
        assert provider._policed._pool is not None
        assert provider._policed._pool.busy == 0


async def test_no_url_is_written_to_the_log(party: ThirdParty, caplog: pytest.LogCaptureFixture) -> None:
    """Its path and query may hold what nobody should read."""
    caplog.set_level("INFO")
    async with client(party) as provider:
        await provider.get("/hooks/T0-secret", params={"api_key": "secret"})
    assert "secret" not in caplog.text
