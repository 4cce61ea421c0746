"""`interlock show policies`: what applies, and where it was said."""

import json

import pytest

from interlock.cli import main
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_SERVICE

MODULE = "tests.sample.gen.sample.v1.sample_rpc"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command and return what it prints."""
    with pytest.raises(SystemExit) as ended:
        main(["show", "policies", MODULE, *arguments])
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


def test_each_policy_tells_its_origin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An override of the settings, a rule of the contract and a default are told apart."""
    path = f"{SAMPLE_SERVICE.name}/Echo"
    monkeypatch.setenv("INTERLOCK_OPERATIONS", json.dumps({path: {"timeout": "7s", "rate_limit": "5/1s"}}))
    rows = {row["operation"]: row for row in json.loads(shown(capsys, "--json"))}
    echo = rows[f"/{path}"]
    assert echo["timeout"] == {"value": "7s", "from": "settings"}
    assert echo["rate_limit"] == {"value": "5/1s by principal", "from": "settings"}
    assert rows[f"/{SAMPLE_SERVICE.name}/CreateThing"]["idempotency"] == {"value": "KEYED", "from": "contract"}
    assert {each["timeout"]["from"] for each in rows.values()} >= {"settings", "default"}
    assert rows[f"/{SAMPLE_SERVICE.name}/Sum"]["retry"]["value"].startswith("none")


def test_people_get_a_table_and_mistakes_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every operation has its lines; an override of what is not there names it, and the command exits 1."""
    assert f"/{SAMPLE_SERVICE.name}/Echo" in shown(capsys)
    monkeypatch.setenv("INTERLOCK_OPERATIONS", '{"sample.v1.SampleService/Ecko": {"timeout": "7s"}}')
    with pytest.raises(SystemExit) as ended:
        main(["show", "policies", MODULE])
    assert ended.value.code == 1
    assert "Ecko" in capsys.readouterr().err


def test_settings_of_callers_are_shown_with_their_origin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preset, pattern and operation for what is called; each target that the settings name, without its password."""
    service, path = SAMPLE_SERVICE.name, f"{SAMPLE_SERVICE.name}/Echo"
    policies = {f"{service}/E*": {"preset": "strict"}, path: {"retry": {"attempts": 5}}, "bank": "counting"}
    monkeypatch.setenv("INTERLOCK_POLICIES", json.dumps(policies))
    monkeypatch.setenv("INTERLOCK_EXTERNALS", '{"bank": {"url": "https://u:hidden@bank.example", "timeout": "3s"}}')
    rows = {row.get("operation") or row["target"]: row for row in json.loads(shown(capsys, "--json"))}
    echo = rows[f"/{path}"]
    strict = f"preset strict, settings ({service}/E*)"
    assert echo["retry"] == {
        "value": "4, 50ms × 2ⁿ up to 5s if never sent",
        "from": f"{strict}; attempts: settings ({path})",
    }
    assert echo["breaker"]["from"] == strict
    assert echo["bulkhead"]["value"] == "50 at a time, 50 more wait 100ms"
    assert rows[f"/{service}/GetThing"]["retry"]["from"] == "preset standard"
    assert rows[f"/{service}/CreateThing"]["throttle"]["value"] == "keeps under the limit it is told"
    bank = rows["bank"]
    assert bank["breaker"] == {
        "value": "5 failures in a row, open 30s, 1 probes",
        "from": "preset counting, settings (bank)",
    }
    assert bank["call_timeout"] == {"value": "3s", "from": "settings (externals)"}
    assert "hidden" not in json.dumps(rows)


@pytest.mark.parametrize(
    "policies, told",
    [
        ({"banc": "off"}, "no upstream or external is called 'banc'; did you mean 'bank'?"),
        ({"bank": "offf"}, "did you mean 'off'?"),
        ({"bank": {"breaker": {"prboes": 1}}}, "did you mean 'probes'?"),
        ({f"{SAMPLE_SERVICE.name}/Ecko": "off"}, f"did you mean '{SAMPLE_SERVICE.name}/Echo'?"),
        ({SAMPLE_SERVICE.name: {"breaker": {"minimum_calls": 0}}}, "needs minimum_calls or consecutive_failures"),
    ],
)
def test_a_wrong_policy_is_told_with_the_nearest(
    policies: dict[str, object], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of targets, presets, keys and operations; the command exits 1."""
    monkeypatch.setenv("INTERLOCK_POLICIES", json.dumps(policies))
    monkeypatch.setenv("INTERLOCK_EXTERNALS__BANK__URL", "https://bank.example")
    with pytest.raises(SystemExit) as ended:
        main(["show", "policies", MODULE])
    assert ended.value.code == 1
    assert told in capsys.readouterr().err


def test_a_policy_for_nobody_here_is_pointed_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be meant for another contract, so it is no mistake."""
    monkeypatch.setenv("INTERLOCK_POLICIES", '{"else.v1.Service/Get*": "off", "*": "standard"}')
    with pytest.raises(SystemExit) as ended:
        main(["show", "policies", MODULE, "--json"])
    assert ended.value.code in (0, None)
    said = capsys.readouterr()
    assert said.err == "policies: 'else.v1.Service/Get*' concerns none of these operations\n"
    assert json.loads(said.out)


def test_verbs_of_an_external_are_known_however_it_is_spelled(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dot in its name makes no service of it; a verb that is none is told with the nearest."""
    monkeypatch.setenv("INTERLOCK_EXTERNALS", '{"api.payments_provider": {"url": "https://payments.example"}}')
    monkeypatch.setenv("INTERLOCK_POLICIES", '{"api.payments-provider/GET": "strict"}')
    with pytest.raises(SystemExit):
        main(["show", "policies", MODULE, "--json"])
    said = capsys.readouterr()
    assert said.err == ""
    row = next(each for each in json.loads(said.out) if "target" in each)
    assert row["bulkhead"]["from"] == "preset strict, settings (api.payments_provider/GET)"
    assert row["throttle"]["value"] == "keeps under the limit it is told"
    monkeypatch.setenv("INTERLOCK_POLICIES", '{"api.payments-provider/GTE": "strict"}')
    with pytest.raises(SystemExit) as ended:
        main(["show", "policies", MODULE])
    assert ended.value.code == 1
    assert "did you mean 'api.payments_provider/GET'" in capsys.readouterr().err


def test_a_pattern_of_served_operations_names_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said of many operations is told as such, what is said of one wins."""
    service = SAMPLE_SERVICE.name
    operations = {f"{service}/*Thing": {"timeout": "3s"}, f"{service}/GetThing": {"rate_limit": "5/1s"}}
    monkeypatch.setenv("INTERLOCK_OPERATIONS", json.dumps(operations))
    rows = {row["operation"]: row for row in json.loads(shown(capsys, "--json"))}
    assert rows[f"/{service}/GetThing"]["timeout"] == {"value": "3s", "from": f"settings ({service}/*Thing)"}
    assert rows[f"/{service}/GetThing"]["rate_limit"]["from"] == "settings"
    assert rows[f"/{service}/Echo"]["timeout"]["from"] == "default"
