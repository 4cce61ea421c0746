"""What contracts and settings may say of the callers of an operation."""

from datetime import timedelta
from pathlib import Path

import pytest
from protobuf.wkt import Duration

from interlock.contract.gen.interlock.v1.options_pb import CallPolicy
from interlock.contract.load import load
from interlock.contract.mistakes import ContractError
from interlock.contract.policies import FIELDS, PRESETS, declared_policy, read_policy
from tests.contract.protos import image_of, service

OPEN = "option (interlock.v1.method) = {{ unauthenticated: true {} }};"
RPC = "rpc Find(Query) returns (Answer) {{ {} }} rpc Other(Query) returns (Answer) {{ {} }}"


def contract(of_rpc: str, of_service: str = "") -> str:
    """Return a contract whose operation, and service, say these policies."""
    options = f"option (interlock.v1.service).policy = {{ {of_service} }};" if of_service else ""
    own = OPEN.format(f"policy: {{ {of_rpc} }}" if of_rpc else "")
    return service(RPC.format(own, OPEN.format("")), options)


def test_fields_are_those_of_the_contract() -> None:
    """A name in settings is one in the contract, and the other way round."""
    names = set()
    for each in CallPolicy.desc().fields:
        inside = getattr(CallPolicy, each.name.capitalize(), None)
        if inside is not None and each.name != "preset":
            names |= {f"{each.name}.{field.name}" for field in inside.desc().fields}
        elif each.name != "preset":
            names.add(each.name)
    assert names == FIELDS.keys()


def test_a_contract_says_it_of_service_and_operation(tmp_path: Path) -> None:
    """Both are kept apart, the service's first; what is not said is not there."""
    said = "preset: PATIENT retry: { attempts: 9 base: { nanos: 5000000 } } breaker: { enabled: false } throttle: false"
    found = load(image_of(tmp_path, contract(said, "bulkhead: { calls: 3 }"))).operations
    assert found["/t.v1.Things/Find"].policies == (
        {"bulkhead.calls": 3},
        {
            "preset": "patient",
            "retry.attempts": 9,
            "retry.base": timedelta(milliseconds=5),
            "breaker.enabled": False,
            "throttle": False,
        },
    )
    assert found["/t.v1.Things/Other"].policies == ({"bulkhead.calls": 3}, {})


@pytest.mark.parametrize(
    "said, expected",
    [
        ("retry: { attempts: 0 }", "retry.attempts: 0 is no whole number from 1"),
        ("retry: { multiplier: 0.5 }", "retry.multiplier: 0.5 is no number from 1"),
        ("breaker: { failure_rate: 1.5 }", "breaker.failure_rate: 1.5"),
        ("breaker: { probes: 0 }", "breaker.probes"),
        ("breaker: { window: {} }", "breaker.window"),
        ("breaker: { minimum_calls: 0 }", "nothing opens it"),
        ("bulkhead: { wait: { seconds: -1 } }", "bulkhead.wait"),
    ],
)
@pytest.mark.parametrize("of_service", [False, True])
def test_a_wrong_number_is_a_mistake_of_the_contract(
    said: str, expected: str, of_service: bool, tmp_path: Path
) -> None:
    """With the place of the option."""
    image = image_of(tmp_path, contract("", said) if of_service else contract(said))
    with pytest.raises(ContractError) as caught:
        load(image)
    assert expected in str(caught.value)
    assert "t/v1/t.proto:" in str(caught.value)


def test_settings_read_presets_tables_and_texts() -> None:
    """As TOML, JSON and environment variables give them."""
    assert read_policy("strict") == {"preset": "strict"}
    assert read_policy({
        "preset": "OFF", "timeout": "2s", "throttle": "true",
        "retry": {"attempts": "3", "base": "50ms", "multiplier": "1.5"},
        "breaker": {"slow": 0.5, "failure_rate": "0.25", "enabled": False},
    }) == {
        "preset": "off", "timeout": timedelta(seconds=2), "throttle": True,
        "retry.attempts": 3, "retry.base": timedelta(milliseconds=50), "retry.multiplier": 1.5,
        "breaker.slow": timedelta(seconds=0.5), "breaker.failure_rate": 0.25, "breaker.enabled": False,
    }  # fmt: skip
    assert read_policy({"retry.attempts": 3}) == {"retry.attempts": 3}


@pytest.mark.parametrize(
    "given, expected",
    [
        ("strikt", "'strikt' is none of standard, patient, strict, counting, off; did you mean 'strict'?"),
        (7, "7 is no policy; name a preset (standard, patient, strict, counting, off) or write a table"),
        ({"retri": {}}, "'retri' cannot be set, only preset, retry, breaker, bulkhead, throttle, timeout; did you"),
        ({"retry": {"atempts": 1}}, "retry.atempts cannot be set, only attempts, base, cap, multiplier, longest_pause"),
        ({"retry": 3}, "retry: 3 is no table with attempts"),
        ({"retry": {"attempts": True}}, "retry.attempts: True is no whole number"),
        ({"retry": {"attempts": "many"}}, "'many' is no whole number"),
        ({"retry": {"base": "soon"}}, "retry.base: 'soon' is no duration"),
        ({"breaker": {"enabled": "maybe"}}, "breaker.enabled: 'maybe' is neither true nor false"),
        ({"breaker": {"failure_rate": "nan"}}, "breaker.failure_rate: 'nan' is no number above 0 up to 1"),
        ({"timeout": "2h"}, "timeout: '2h' is not above 0 and at most 1h"),
        ({"preset": 3}, "preset: 3 is none of"),
    ],
)
def test_a_wrong_policy_in_settings_is_named(given: object, expected: str) -> None:
    """Key, value and the nearest that would be right."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        read_policy(given)
    assert expected in str(caught.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Nobody mends settings one error at a time."""
    with pytest.raises(ValueError, match=r"retry\.attempts.*breaker\.probes"):
        read_policy({"retry": {"attempts": 0}, "breaker": {"probes": 0}})


def test_durations_of_the_contract_keep_their_nanoseconds() -> None:
    """Down to the microsecond that Python knows."""
    retry = CallPolicy.Retry(base=Duration(nanos=1000))
    assert declared_policy(CallPolicy(retry=retry)) == {"retry.base": timedelta(microseconds=1)}
    assert PRESETS == ("standard", "patient", "strict", "counting", "off")
