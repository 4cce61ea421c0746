"""Settings applied to a contract."""

from datetime import timedelta
from pathlib import Path

import pytest

from interlock.contract.effective import duration, effective
from interlock.contract.gen.interlock.v1.options_pb import Exposure, Tier
from interlock.contract.load import load
from interlock.contract.mistakes import ContractError
from interlock.contract.model import Contract, RateLimit

SERVICE = "sample.v1.SampleService"


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load((Path(__file__).parents[1] / "sample/gen/contract.binpb").read_bytes())


def test_settings_of_an_operation_replace_the_contracts(contract: Contract) -> None:
    """With or without the slash; everything else stays, the given contract too."""
    changed = effective(
        contract,
        {
            f"/{SERVICE}/Echo": {"timeout": "250ms", "rate_limit": "100/60s"},
            f"{SERVICE}/Fail": {"exposure": "EXTERNAL", "tier": "admin"},
        },
    )
    echo, fail = changed.operations[f"/{SERVICE}/Echo"], changed.operations[f"/{SERVICE}/Fail"]
    assert echo.timeout == timedelta(milliseconds=250)
    assert echo.rate_limit == RateLimit(requests=100, per=timedelta(minutes=1))
    assert (fail.exposure, fail.tier) == (Exposure.EXTERNAL, Tier.ADMIN)
    assert contract.operations[f"/{SERVICE}/Echo"].timeout == timedelta(seconds=30)


def test_what_is_said_of_an_operation_wins_over_its_service(contract: Contract) -> None:
    """Whatever the order of the settings, and key by key."""
    changed = effective(contract, {f"{SERVICE}/Echo": {"timeout": 1}, SERVICE: {"timeout": 2.5, "tier": "ADMIN"}})
    echo, fail = changed.operations[f"/{SERVICE}/Echo"], changed.operations[f"/{SERVICE}/Fail"]
    assert (echo.timeout, echo.tier) == (timedelta(seconds=1), Tier.ADMIN)
    assert (fail.timeout, changed.service(SERVICE).tier) == (timedelta(seconds=2.5), Tier.ADMIN)


def test_a_pattern_stands_for_several_operations(contract: Contract) -> None:
    """Stronger than their service, the longer the stronger, weaker than what is said of one."""
    changed = effective(
        contract,
        {
            "sample.*": {"timeout": 1, "tier": "ADMIN", "rate_limit": "1/1s"},
            f"{SERVICE}/E*": {"timeout": 2},
            SERVICE: {"timeout": 3, "exposure": "EXTERNAL"},
            f"{SERVICE}/Echo": {"rate_limit": "9/1s"},
        },
    )
    echo, fail = changed.operations[f"/{SERVICE}/Echo"], changed.operations[f"/{SERVICE}/Fail"]
    second = timedelta(seconds=1)
    assert (echo.timeout, echo.tier, echo.exposure) == (2 * second, Tier.ADMIN, Exposure.EXTERNAL)
    assert echo.rate_limit == RateLimit(requests=9, per=second)
    assert (fail.timeout, fail.rate_limit) == (second, RateLimit(requests=1, per=second))
    with pytest.raises(ContractError, match="no such operation or service"):
        effective(contract, {f"{SERVICE}/X*": {"timeout": 1}})


@pytest.mark.parametrize(
    "overrides, expected",
    [
        ({"sample.v1.SampleServce": {}}, "no such operation or service; did you mean 'sample.v1.SampleService'?"),
        ({f"/{SERVICE}/Ecko": {}}, "did you mean 'sample.v1.SampleService/Echo'?"),
        ({SERVICE: {"timout": 1}}, "'timout' cannot be set, only timeout, rate_limit, exposure, tier; did you mean"),
        ({SERVICE: {"timeout": 0}}, "timeout: 0 is not above 0 and at most 1h"),
        ({SERVICE: {"timeout": -1}}, "timeout: -1 is no duration"),
        ({SERVICE: {"timeout": "2h"}}, "timeout: '2h' is not above 0 and at most 1h"),
        ({SERVICE: {"timeout": "soon"}}, "timeout: 'soon' is no duration"),
        ({SERVICE: {"timeout": True}}, "timeout: True is no duration"),
        ({SERVICE: {"timeout": "1" * 400}}, "timeout: "),
        ({SERVICE: {"rate_limit": "100"}}, "rate_limit: '100' is no rate; write requests/duration (100/60s)"),
        ({SERVICE: {"rate_limit": "0/60s"}}, "lets nothing through"),
        ({SERVICE: {"rate_limit": "1/0s"}}, "lets nothing through"),
        ({SERVICE: {"exposure": "EXTERN"}}, "is none of INTERNAL, EXTERNAL; did you mean 'EXTERNAL'?"),
        ({SERVICE: {"tier": "UNSPECIFIED"}}, "is none of HIGH_VOLUME, STANDARD, ADMIN"),
        ({SERVICE: {"tier": 1}}, "is none of HIGH_VOLUME, STANDARD, ADMIN"),
    ],
)
def test_a_wrong_setting_is_named(contract: Contract, overrides: dict[str, dict[str, object]], expected: str) -> None:
    """The operation, the key and the value are told, with the nearest that would be right."""
    with pytest.raises(ContractError) as caught:
        effective(contract, overrides)
    assert expected in str(caught.value)
    assert next(iter(overrides)).removeprefix("/") in str(caught.value)


def test_all_wrong_settings_are_told_at_once(contract: Contract) -> None:
    """Nothing is applied, and each mistake has its line."""
    with pytest.raises(ContractError) as caught:
        effective(contract, {SERVICE: {"timeout": 0, "tier": "x"}, "no.Service": {"what": 1}})
    assert len(caught.value.mistakes) == 4


@pytest.mark.parametrize(
    "value, seconds",
    [(5, 5), (0.25, 0.25), ("5", 5), ("5s", 5), ("250ms", 0.25), ("2m", 120), ("1.5h", 5400)],
)
def test_durations_are_numbers_or_have_a_unit(value: object, seconds: float) -> None:
    """A bare number is seconds."""
    assert duration(value).total_seconds() == seconds
