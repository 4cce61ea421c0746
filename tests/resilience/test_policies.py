"""What applies to an operation: presets, contract, code and settings, and who wins."""

import json
from datetime import timedelta

import pytest

from interlock import Call, Error, Unavailable
from interlock.call import compose
from interlock.contract.model import RateLimit
from interlock.contract.policies import FIELDS, PRESETS, Said, read_policy
from interlock.defaults import before
from interlock.resilience.circuit_breaker import BreakerPolicy, CircuitOpen, State, counting
from interlock.resilience.concurrency import BulkheadPolicy
from interlock.resilience.neighbour import Neighbour
from interlock.resilience.policies import (
    OFF,
    STANDARD,
    STRICT,
    Origin,
    Policies,
    Policy,
    Target,
    preset,
    resolve,
    said_in_code,
    said_of,
)
from interlock.resilience.retry import RetryPolicy
from interlock.settings import Settings
from tests.resilience.ground import Callee, failing, operation, received, sent
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SampleServiceClient

ECHO_NAME = ECHO.path[1:]
SERVICE = ECHO_NAME.partition("/")[0]


def applied(settings: dict[str, object], target: str = "orders:8080", *, code: Said | None = None) -> Policy:
    """Return what applies to `Echo` of the target `orders` under these settings."""
    said = {name: read_policy(given) for name, given in settings.items()}
    return Policies(Target(target, "orders", said), code=code).of(operation())


def test_every_preset_is_there_and_the_default_is_standard() -> None:
    """Those of the contract's enum, no more; nothing said is `standard`."""
    assert {name: type(preset(name)) for name in PRESETS} == dict.fromkeys(PRESETS, Policy)
    assert applied({}) == STANDARD == Policy()
    assert preset("counting").breaker == counting()
    with pytest.raises(ValueError, match=r"no preset 'strikt'; there are standard.*did you mean 'strict'"):
        preset("strikt")


def test_the_narrower_wins_key_by_key() -> None:
    """Everything, target, service, pattern (the longest last), operation: in that order, whatever that of the table."""
    settings: dict[str, object] = {
        ECHO_NAME: {"retry": {"attempts": 7}},
        f"{SERVICE}/Ec*": {"retry": {"attempts": 6, "base": "6s"}},
        f"{SERVICE}/*": {"retry": {"attempts": 5, "base": "5s", "cap": "50s"}},
        SERVICE: {"retry": {"attempts": 4, "base": "4s", "cap": "40s", "multiplier": 4}},
        "orders": {"breaker": {"probes": 3, "window": "3s"}},
        "*": {"breaker": {"probes": 2, "window": "2s", "open_for": "2s"}},
    }
    found = applied(settings)
    seconds = timedelta(seconds=1)
    assert found.retry == RetryPolicy(retries=6, base=6 * seconds, longest_backoff=50 * seconds, multiplier=4)
    assert found.breaker == BreakerPolicy(probes=3, window=3 * seconds, open_for=2 * seconds)
    assert applied(dict(reversed(settings.items()))) == found


def test_a_preset_sets_all_anew_but_what_is_said_with_it_or_after() -> None:
    """So that `off` in an incident is off, whatever contract and code say."""
    code = said_in_code("", RetryPolicy(retries=9), timeout=timedelta(seconds=5))
    assert applied({"orders": "off"}, code=code) == Policy(
        retry=OFF.retry, breaker=None, bulkhead=OFF.bulkhead, throttle=False, timeout=timedelta(seconds=5)
    )
    mixed = applied({"orders": "strict", ECHO_NAME: {"retry": {"attempts": 4}}}, code=code)
    assert mixed.retry.retries == 3
    assert mixed.breaker == STRICT.breaker


def test_settings_are_stronger_than_code_and_code_than_the_contract() -> None:
    """Which is what makes them of use without a new release."""
    called = operation(policies=({"retry.attempts": 2, "breaker.probes": 2}, {"retry.attempts": 3, "throttle": False}))
    assert Policies().of(called).retry.retries == 2
    code = said_in_code("", RetryPolicy(retries=7))
    assert Policies(code=code).of(called).retry.retries == 7
    resolved = Policies(code=code, settings={"*": {"retry.attempts": 1}}).resolved(called)
    assert resolved.policy.retry.retries == 0
    assert not resolved.policy.throttle
    assert (resolved.policy.breaker or BreakerPolicy()).probes == 2
    assert resolved.origins["retry.attempts"] == "settings (*)"
    assert resolved.origins["retry.base"] == "code"
    assert resolved.origins["breaker.probes"] == f"contract ({SERVICE})"
    assert resolved.origins["throttle"] == "contract"
    assert resolved.origins["bulkhead.calls"] == "preset standard"


def test_parts_given_in_code_are_said_in_full() -> None:
    """A policy object replaces its part of the preset, also where its values are the defaults."""
    parts = (RetryPolicy(retries=5, multiplier=3), BreakerPolicy(probes=8), BulkheadPolicy(calls=7))
    found = Policies(code=said_in_code("off", *parts)).of(operation())
    assert (found.retry, found.breaker, found.bulkhead) == parts
    assert not found.throttle
    assert {name for part in parts for name in said_of(part)} == FIELDS.keys() - {"throttle"}


def test_what_does_not_go_together_names_the_operation() -> None:
    """Each value is right by itself; together they are no breaker."""
    with pytest.raises(ValueError, match=f"the policy of /{ECHO_NAME}: a breaker needs minimum_calls or consecutive"):
        applied({"*": {"breaker": {"minimum_calls": 0}}})
    assert resolve([Origin("x", {"breaker.enabled": False})]).policy.breaker is None
    assert resolve([Origin("x", {"preset": "off", "breaker.probes": 1})]).policy.breaker is not None


def test_an_operation_of_its_own_bulkhead_shares_none() -> None:
    """Those said of target or service are one for all that have equal numbers."""
    echo, other = operation(), operation(name="Other")
    own = Neighbour(Policies("t", settings={ECHO_NAME: {"bulkhead.calls": 5}}))
    assert own._bulkhead(echo) is not own._bulkhead(other)
    shared = Neighbour(Policies("t", settings={SERVICE: {"bulkhead.calls": 5}}))
    assert shared._bulkhead(echo) is shared._bulkhead(other)
    assert shared.places() == {"*": (0, 0, 0)}


async def test_layers_are_as_the_contract_says() -> None:
    """So many attempts, the breaker of that form; what is off is not there at all, and costs nothing."""
    called = operation(
        policies=({}, {"retry.attempts": 6, "retry.base": timedelta(), "breaker.consecutive_failures": 6})
    )
    to = Neighbour(Policies("t"))
    down = [received(Unavailable("down")) for _ in range(9)]
    callee = Callee(down)
    handler = compose([to.retry, to.breaker, to.concurrency, to.throttle], called, callee)
    with pytest.raises(Unavailable):
        await handler(sent(called))
    assert (len(callee.calls), to.states()[called.path]) == (6, State.OPEN)
    nothing = operation(policies=({"preset": "off"}, {}), rate_limit=RateLimit(requests=1, per=timedelta(seconds=1)))
    to = Neighbour(Policies("t"))
    assert [layer(nothing) for layer in (to.retry, to.breaker, to.concurrency, to.throttle)] == [None] * 4
    assert to.throttle(operation(name="Unlimited")) is None
    assert to.throttle(operation(name="Limited", rate_limit=nothing.rate_limit)) is not None


def test_a_client_names_an_operation_that_is_not_there() -> None:
    """Of its own service; other services' are not its affair."""
    wrong = Target("orders:8080", "orders", {f"{SERVICE}/Ecko": {"retry.attempts": 1}})
    with pytest.raises(ValueError, match=f"names '{SERVICE}/Ecko', which is no operation; did you mean '{ECHO_NAME}'"):
        SampleServiceClient(wrong)
    SampleServiceClient(Target("orders:8080", "orders", {"else.v1.Service/Ecko": {"retry.attempts": 1}}))
    with pytest.raises(ValueError, match="no preset 'strikt'"):
        SampleServiceClient("orders:8080", policy="strikt")


def test_what_does_not_go_together_is_told_where_the_client_is_made() -> None:
    """And not by its first call."""
    with pytest.raises(ValueError, match=r"the policy of /\S+: a breaker needs minimum_calls or consecutive"):
        SampleServiceClient(Target("orders:8080", "orders", {"orders": {"breaker.minimum_calls": 0}}))


async def test_settings_change_what_a_client_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable, no change of code: retries and the breaker of a client made of `settings.upstream`."""
    policies = {"sample": {"retry": {"attempts": 2, "base": 0}}, ECHO_NAME: {"breaker": {"consecutive_failures": 3}}}
    monkeypatch.setenv("INTERLOCK_POLICIES", json.dumps(policies))
    monkeypatch.setenv("INTERLOCK_UPSTREAMS__SAMPLE", "127.0.0.1:1")
    target = Settings().upstream("sample")
    seen: list[Call] = []
    errors: list[Error] = [received(Unavailable("down")) for _ in range(9)]
    for error in errors:
        error.unsent = True
    client = SampleServiceClient(target, layers=[before("credentials", failing(errors, seen))])
    async with client:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await client.echo(text="x")
        with pytest.raises(CircuitOpen):
            await client.using(timeout=0.5).echo(text="x")
    assert len(seen) == 3  # two of the first call, one of the second: then the circuit was open


async def test_a_timeout_of_settings_replaces_the_contracts() -> None:
    """For the calls of that client; the served side keeps the contract's."""
    target = Target("127.0.0.1:1", "sample", {SERVICE: {"timeout": timedelta(seconds=7)}})
    async with SampleServiceClient(target) as client:
        assert client._channel.bind(ECHO).timeout == 7.0
