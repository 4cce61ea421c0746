"""`interlock check`: what it prints, for people and programs, and its exit codes."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from interlock.cli import check
from interlock.standards.rules.grpc003 import GRPC003
from tests.standards.protos import write


def run(*arguments: str) -> Result:
    """Run the command as the table would."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("check")(check.check)
    return CliRunner().invoke(app, arguments)


def test_a_sound_contract_exits_0(tmp_path: Path) -> None:
    """Without findings every rule is told and the exit code is 0."""
    result = run(str(write(tmp_path, GRPC003.right)))
    assert result.exit_code == 0
    assert "GRPC003  ok" in result.stdout
    assert "0 findings" in result.stdout


def test_findings_exit_1_with_file_line_and_remedy(tmp_path: Path) -> None:
    """A finding is told with its file and line, and under it the remedy; the exit code is 1, and no colour is piped."""
    result = run(str(write(tmp_path, GRPC003.wrong)))
    assert result.exit_code == 1
    assert f"{tmp_path}/api/order/v1/order.proto:11: OrderService.CancelOrder takes OrderRef" in result.stdout
    assert "let it take a message `CancelOrderRequest`" in result.stdout
    assert "\x1b" not in result.stdout


def test_json_is_for_programs(tmp_path: Path) -> None:
    """With --json the report is one JSON object, with the same exit code."""
    result = run(str(write(tmp_path, GRPC003.wrong)), "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert not report["ok"]
    assert {each["id"] for each in report["rules"] if each["verdict"] == "failed"} == {"GRPC003"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("nowhere",),
        ("--live", "localhost"),
        ("--live", "http://127.0.0.1:9", "contracts"),
        ("--live", "http://127.0.0.1:9", "--keys", "nowhere"),
        ("--explain", "GRPC999"),
    ],
)
def test_nothing_to_check_exits_2(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be checked is neither clean nor found wanting."""
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr


def test_rules_are_listed_and_explained() -> None:
    """--rules lists contract and live rules; --explain prints a rule's page, both where an id has two."""
    assert "GRPC006  live" in run("--rules").stdout
    page = run("--explain", "grpc004").stdout
    assert "interlock:ignore GRPC004" in page
    assert "cannot be silenced" in page
