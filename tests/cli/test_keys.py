"""`interlock keys …` and `interlock show access`: what they print, where, and with which exit code."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from interlock.cli import access, keys

SAMPLE = str(Path(__file__).parents[2] / "tests/sample/gen/contract.binpb")


def run(*arguments: str, stdin: str = "") -> Result:
    """Run a command as the table would; the working directory is the test's own."""
    app = typer.Typer(pretty_exceptions_enable=False)
    for name, function in (
        ("new", keys.new),
        ("rotate", keys.rotate),
        ("list", keys.list_),
        ("token", keys.token),
        ("verify", keys.verify),
        ("access", access.access),
    ):
        app.command(name)(function)
    return CliRunner().invoke(app, arguments, input=stdin)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_from_no_keys_to_a_token_that_verifies() -> None:
    """Two commands make a token; it is all that stands on standard output."""
    made = run("new")
    assert made.exit_code == 0
    assert "interlock keys token" in made.stdout
    minted = run("token", "--subject", "me", "--role", "clerk", "--role", "porter")
    assert minted.exit_code == 0
    assert minted.stdout.count("\n") == 1
    assert minted.stdout.count(".") == 2
    assert minted.stderr == ""
    verified = run("verify", "-", stdin=minted.stdout)
    assert verified.exit_code == 0
    assert "it verifies" in verified.stdout
    assert '["clerk", "porter"]' in verified.stdout


def test_a_mistake_is_a_line_and_exit_1() -> None:
    """No keys, keys already, a lifetime out of bounds: one line on standard error, and nothing on the other."""
    for arguments in (("token", "--subject", "me"), ("rotate",), ("list",)):
        missing = run(*arguments)
        assert (missing.exit_code, missing.stdout) == (1, "")
        assert "interlock keys new" in missing.stderr
    run("new")
    assert "keys rotate" in run("new").stderr
    for lifetime in ("x", "25h", "0s"):
        wrong = run("token", "--subject", "me", "--lifetime", lifetime)
        assert (wrong.exit_code, wrong.stdout) == (1, "")
        assert wrong.stderr.count("\n") == 1


def test_rotations_are_listed() -> None:
    """The newest key stands first and signs; a token of a key that is out is refused with the reason."""
    run("new")
    old = run("token", "--subject", "me").stdout.strip()
    assert run("rotate").exit_code == 0
    listed = json.loads(run("list", "--json").stdout)
    assert [each["signs"] for each in listed] == [True, False]
    assert [each["age_days"] for each in listed] == [0, 0]
    assert run("list").stdout.startswith(f"* {listed[0]['kid']}")
    assert run("verify", old).exit_code == 0
    run("rotate", "--keep", "1")
    refused = run("verify", old)
    assert refused.exit_code == 1
    assert "is not known" in refused.stderr


def test_verify_reads_what_is_no_token() -> None:
    """Any text is answered with why it is refused."""
    run("new")
    for text in ("x", "a.b.c", "é", ".W10.", "." * 10_000):
        refused = run("verify", text)
        assert refused.exit_code == 1
        assert "refused: " in refused.stderr


def test_the_matrix_of_access(tmp_path: Path) -> None:
    """Each operation is there with what it needs and who may; a permission that nothing needs is pointed out."""
    (tmp_path / "roles.toml").write_text('[roles]\nwhisperer = ["sample:whisper"]\nother = ["sampel:whisper"]\n')
    found = json.loads(run("access", SAMPLE, "--roles", "roles.toml", "--json").stdout)
    by_name = {each["operation"]: each for each in found["operations"]}
    assert by_name["/sample.v1.SampleService/Whisper"]["roles"] == ["whisperer"]
    assert by_name["/sample.v1.SampleService/Echo"]["roles"] == ["other", "whisperer"]
    assert found["unused"] == ["sampel:whisper"]
    printed = run("access", SAMPLE, "--roles", "roles.toml").stdout
    (line,) = [each for each in printed.splitlines() if each.strip().startswith("Whisper")]
    assert line.split() == ["Whisper", "sample:whisper", "-", "yes"]
    assert "no operation needs sampel:whisper" in printed


def test_why_a_role_may_or_may_not(tmp_path: Path) -> None:
    """The decision is explained; the exit code is 0 where the role may, 1 where not, 2 for no such method."""
    (tmp_path / "roles.toml").write_text('[roles]\nwhisperer = ["sample:*"]\nother = []\n')
    given = ("access", SAMPLE, "--roles", "roles.toml")

    def why(role: str, method: str) -> Result:
        return run(*given, "--role", role, "--method", method)

    may = why("whisperer", "Whisper")
    assert (may.exit_code, may.stdout) == (
        0,
        "yes: Whisper needs sample:whisper, and whisperer holds it, by sample:*\n",
    )
    assert why("other", "sample.v1.SampleService/Whisper").exit_code == 1
    assert why("whisperer", "Shout").exit_code == 2
    assert run(*given, "--role", "other").exit_code == 2
    unknown = why("boss", "Whisper")
    assert unknown.exit_code == 1
    assert "there are: other, whisperer" in unknown.stderr


def test_without_roles_it_says_how_to_write_them() -> None:
    """Where no roles file is set the output ends with one to start from."""
    printed = run("access", SAMPLE)
    assert printed.exit_code == 0
    assert "[roles]" in printed.stdout
