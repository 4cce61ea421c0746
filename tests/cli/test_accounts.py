"""`interlock accounts …` and `interlock keys certs`: what they print, where, and with which exit code."""

import json
import stat
from pathlib import Path

import pytest
import typer
from cryptography import x509
from typer.testing import CliRunner, Result

from interlock.cli import accounts, keys


def run(*arguments: str, stdin: str = "", app: typer.Typer | None = None) -> Result:
    """Run a command as the table would."""
    if app is None:
        app = typer.Typer(pretty_exceptions_enable=False)
        for name, function in (
            ("create", accounts.create),
            ("list", accounts.list_),
            ("disable", accounts.disable),
            ("enable", accounts.enable),
            ("key", accounts.key),
            ("keys", accounts.keys),
            ("revoke", accounts.revoke),
            ("certs", keys.certs),
        ):
            app.command(name)(function)
    return CliRunner().invoke(app, arguments, input=stdin)


@pytest.fixture(autouse=True, params=["var/accounts.json", "sqlite:///accounts.db"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where accounts are, by the settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERLOCK_ACCOUNTS", request.param)
    return str(request.param)


def test_the_life_of_an_account() -> None:
    """Made, given keys, looked at, one revoked, disabled; a key is shown once, and alone on standard output."""
    made = run("create", "billing", "--role", "clerk", "--role", "porter")
    assert (made.exit_code, "interlock accounts key billing" in made.stdout) == (0, True)
    first, second = run("key", "billing"), run("key", "billing", "--role", "porter", "--lifetime", "1h")
    for each in (first, second):
        assert (each.exit_code, each.stderr, each.stdout.count("\n")) == (0, "", 1)
        assert each.stdout.startswith("ilk_")
    assert "2 keys" in run("list").stdout
    listed = json.loads(run("keys", "billing", "--json").stdout)
    assert [each["state"] for each in listed] == ["counts", "counts"]
    assert {tuple(each["roles"] or ()) for each in listed} == {(), ("porter",)}
    shown = run("keys").stdout
    assert first.stdout.strip() not in shown
    assert first.stdout.rpartition("_")[0] in shown
    assert run("revoke", "-", stdin=first.stdout).exit_code == 0
    assert run("revoke", second.stdout.rpartition("_")[0]).exit_code == 0
    again = run("revoke", "-", stdin=first.stdout)
    assert (again.exit_code, again.stdout) == (1, "")
    assert [each["state"] for each in json.loads(run("keys", "--json").stdout)] == ["revoked", "revoked"]
    assert run("disable", "billing").exit_code == 0
    assert json.loads(run("list", "--json").stdout)[0]["disabled"] is True
    assert run("enable", "billing").exit_code == 0
    assert json.loads(run("list", "--json").stdout)[0]["disabled"] is False


def test_a_mistake_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, with exit code 1; where no store is named it says how to name one, with 2."""
    assert "there is no account; make one" in run("list").stdout
    run("create", "billing")
    for wrong in (
        ("create", "billing"),
        ("create", "a b"),
        ("key", "nobody"),
        ("key", "billing", "--role", "root"),
        ("key", "billing", "--lifetime", "soon"),
        ("key", "billing", "--lifetime", "0s"),
        ("disable", "nobody"),
        ("revoke", "ilk_0000"),
    ):
        told = run(*wrong)
        assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (1, "", 1), wrong
    for unnamed in ("", "database"):
        monkeypatch.setenv("INTERLOCK_ACCOUNTS", unnamed)
        told = run("list")
        assert (told.exit_code, told.stdout) == (2, "")
        assert "--store" in told.stderr


def test_certificates_for_a_platform(tmp_path: Path) -> None:
    """One authority, a certificate and a key for each name; run again they are renewed, the authority stays."""
    made = run("certs", "orders", "gateway", "--san", "localhost", "--san", "127.0.0.1", "--trust-domain", "shop")
    assert made.exit_code == 0, made.output
    place = tmp_path / "var/certs"
    assert {each.name for each in place.iterdir()} == {
        f"{name}.{kind}" for name in ("authority", "orders", "gateway") for kind in ("pem", "key")
    }
    for each in place.glob("*.key"):
        assert stat.S_IMODE(each.stat().st_mode) == 0o600
    authority = x509.load_pem_x509_certificate((place / "authority.pem").read_bytes())
    orders = x509.load_pem_x509_certificate((place / "orders.pem").read_bytes())
    orders.verify_directly_issued_by(authority)
    names = orders.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["orders", "localhost"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://shop/orders"]
    assert run("certs", "orders").exit_code == 0
    renewed = x509.load_pem_x509_certificate((place / "orders.pem").read_bytes())
    renewed.verify_directly_issued_by(authority)
    assert renewed.serial_number != orders.serial_number


@pytest.mark.parametrize(
    "wrong",
    [("../x",), ("authority",), ("a", "--san", "a b"), ("a", "--san", "http://x"), ("a", "--trust-domain", "A")],
)
def test_names_that_are_none_are_refused(wrong: tuple[str, ...]) -> None:
    """In a line, with exit code 1."""
    told = run("certs", *wrong)
    assert (told.exit_code, told.stderr.count("\n")) == (1, 1)
