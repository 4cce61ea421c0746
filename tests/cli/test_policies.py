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
