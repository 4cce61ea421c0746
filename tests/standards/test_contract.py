"""Checking contracts as a whole: what is claimed once, silenced with a reason, named as it was asked for."""

from pathlib import Path

import pytest

from interlock.standards import NothingToCheck, Verdict, as_data, check_contract
from tests.standards.protos import checked, method, write

SHARED = method("GetOrder", request="OrderRequest")
"""Breaks GRPC003 at its method."""


def by_rule(root: Path, *texts: str) -> dict[str, list[str]]:
    """Return the messages of the findings of each rule."""
    found: dict[str, list[str]] = {}
    for each in checked(root, *texts, comments=False).findings:
        found.setdefault(each.rule, []).append(each.message)
    return found


@pytest.mark.parametrize(
    "place",
    [
        "  // interlock:ignore GRPC003 shared with the old API\n  rpc",
        "  // interlock:ignore GRPC003: shared with the old API\n  // Gets an order.\n  rpc",
        "  // interlock:ignore GRPC003 shared with the old API\n\n  // Gets an order.\n  rpc",
        "  /* interlock:ignore GRPC003 shared with the old API */\n  rpc",
    ],
)
def test_a_comment_silences_with_its_reason(place: str, tmp_path: Path) -> None:
    """A comment at the element, apart from it or part of its own, silences the rule there; the reason is kept."""
    report = checked(tmp_path, SHARED.replace("  rpc", place), comments=False)
    outcome = next(each for each in report.outcomes if each.rule == "GRPC003")
    assert outcome.findings == ()
    assert [each.reason for each in outcome.silenced] == ["shared with the old API"]
    assert report.ok


def test_a_comment_holds_for_all_of_its_element(tmp_path: Path) -> None:
    """Above a service it holds for the methods in it."""
    assert "GRPC003" not in by_rule(tmp_path, f"// interlock:ignore GRPC003 old API\n{SHARED}")


def test_a_comment_above_the_package_holds_for_the_file(tmp_path: Path) -> None:
    """Above `package` it holds for the whole file, and for that file alone."""
    whole = f"// interlock:ignore GRPC003 old API\npackage api.order.v1;\n{SHARED}"
    other = f"package api.other.v1;\n{SHARED}"
    assert len(by_rule(tmp_path, whole, other)["GRPC003"]) == 1


def test_a_comment_does_not_reach_beyond_its_element(tmp_path: Path) -> None:
    """At the message it does not silence the method, and is told to silence nothing."""
    text = SHARED.replace("message OrderRequest", "// interlock:ignore GRPC003 old API\nmessage OrderRequest")
    found = by_rule(tmp_path, text)
    assert len(found["GRPC003"]) == 1
    assert found["IGNORE"] == ["`interlock:ignore GRPC003` silences nothing"]


@pytest.mark.parametrize(
    "comment, told",
    [
        ("interlock:ignore GRPC003", "gives no reason"),
        ("interlock:ignore", "names no rule"),
        ("interlock:ignore GRPC033 old API", "did you mean 'GRPC003'?"),
    ],
)
def test_silencing_needs_rule_and_reason(comment: str, told: str, tmp_path: Path) -> None:
    """Without a rule or a reason nothing is silenced, and that is a finding itself."""
    found = by_rule(tmp_path, SHARED.replace("  rpc", f"  // {comment}\n  rpc"))
    assert len(found["GRPC003"]) == 1
    assert [told in each for each in found["IGNORE"]] == [True]


def test_what_keeps_a_contract_from_running_cannot_be_silenced(tmp_path: Path) -> None:
    """A method that nobody may call stays a finding, whatever its comment says."""
    text = method("GetOrder", access="exposure: INTERNAL").replace("  rpc", "  // interlock:ignore SEC003 later\n  rpc")
    found = by_rule(tmp_path, text)
    assert len(found["SEC003"]) == 1
    assert "CONTRACT" not in found


def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    """A mistake of the contract that a rule claims is its finding; any other is CONTRACT's."""
    text = method("GetOrder", access='timeout: {seconds: 0} permission: "Bad"')
    found = by_rule(tmp_path, text)
    assert len(found["SEC003"]) == 1
    assert len(found["CONTRACT"]) == 1
    assert "timeout" in found["CONTRACT"][0]


def test_findings_name_files_as_they_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path in a finding can be opened from where the check ran, for a directory and for a project."""
    monkeypatch.chdir(tmp_path)
    write(Path("shop/contracts"), SHARED)
    Path("shop/pyproject.toml").write_text('[tool.interlock]\ncontracts = "contracts"\noutput = "gen"\n')
    for path in (Path("shop/contracts"), Path("shop")):
        files = {each.source.file for each in check_contract([path]).findings}
        assert files == {"shop/contracts/api/order/v1/order.proto"}


def test_what_does_not_compile_is_told_with_its_line(tmp_path: Path) -> None:
    """A contract that does not compile is one finding with its line, and no rule claims to have looked."""
    root = write(tmp_path, "message Order { Missing other = 1; }")
    report = check_contract([root])
    assert [(each.rule, each.source.line > 0) for each in report.findings] == [("CONTRACT", True)]
    assert {each.verdict for each in report.outcomes[1:]} == {Verdict.NOT_CHECKED}


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_nothing_to_check_is_said(name: str, tmp_path: Path) -> None:
    """A path without contracts is no clean contract."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToCheck, match=name):
        check_contract([tmp_path / name])


def test_the_report_is_plain_data(tmp_path: Path) -> None:
    """As data a report holds each rule with its verdict, findings and what was silenced, and why."""
    text = f"{SHARED}".replace("  rpc", "  // interlock:ignore GRPC003 old API\n  rpc")
    data = as_data(checked(tmp_path, text))
    rule = next(each for each in data["rules"] if each["id"] == "GRPC003")
    assert rule["verdict"] == "passed"
    assert rule["silenced"][0]["reason"] == "old API"
    assert rule["silenced"][0]["line"] == 9
    assert data["findings"] == sum(len(each["findings"]) for each in data["rules"])
    assert not data["ok"]
