"""Settings: where a value comes from, how durations and sizes read, what a mistake says."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from interlock.settings import MissingUpstream, Settings, explain


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty directory, with no variable of ours set."""
    import os

    for name in [name for name in os.environ if name.startswith("INTERLOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mistake(settings: type[Settings] = Settings, /, **given: Any) -> str:
    """Return what is said about settings that do not hold."""
    with pytest.raises((ValidationError, SettingsError)) as raised:
        settings(**given)
    assert isinstance(raised.value, ValidationError | SettingsError)
    return explain(raised.value, settings)


def test_stronger_sources_win(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults < TOML < secrets directory < .env < environment < arguments."""
    assert Settings().port == 8080
    (nowhere / "interlock.toml").write_text("port = 1\n")
    assert Settings().port == 1
    (nowhere / "secrets").mkdir()
    (nowhere / "secrets" / "interlock_port").write_text("2")
    monkeypatch.setenv("INTERLOCK_SECRETS", "secrets")
    assert Settings().port == 2
    (nowhere / ".env").write_text("INTERLOCK_PORT=3\n")
    assert Settings().port == 3
    monkeypatch.setenv("INTERLOCK_PORT", "4")
    assert Settings().port == 4
    assert Settings(port=5).port == 5


def test_a_named_file_is_read_instead(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """INTERLOCK_CONFIG names another TOML file; tables are fields."""
    (nowhere / "other.toml").write_text(
        '[upstreams]\ncustomers = "c:1"\n[operations."sample.v1.SampleService/Echo"]\ntimeout = "5s"\n'
    )
    monkeypatch.setenv("INTERLOCK_CONFIG", "other.toml")
    settings = Settings()
    assert settings.upstream("customers") == "c:1"
    assert settings.operations == {"sample.v1.SampleService/Echo": {"timeout": "5s"}}
    monkeypatch.setenv("INTERLOCK_CONFIG", "missing.toml")
    assert "missing.toml" in mistake()


@pytest.mark.parametrize(
    "text,seconds", [("30s", 30), ("250ms", 0.25), ("5m", 300), ("1h", 3600), ("1.5", 1.5), (2, 2), (0.1, 0.1)]
)
def test_durations_read_as_people_write_them(text: object, seconds: float) -> None:
    """A duration is a number with a unit, or of seconds."""
    assert Settings(drain_limit=text).drain_limit == timedelta(seconds=seconds)


@pytest.mark.parametrize("text,size", [("4MiB", 4 << 20), ("512KiB", 512 << 10), ("1000", 1000), (7, 7)])
def test_sizes_read_as_people_write_them(text: object, size: int) -> None:
    """A size is a number with a binary unit, or of bytes."""
    assert Settings(request_bytes=text).request_bytes == size


def test_upstreams_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour's name may have dashes; a missing one says which variable to set."""
    monkeypatch.setenv("INTERLOCK_UPSTREAMS__CUSTOMER_ACCOUNTS", "accounts:8080")
    assert Settings().upstream("customer-accounts") == "accounts:8080"
    with pytest.raises(MissingUpstream, match="INTERLOCK_UPSTREAMS__STOCK=host:port"):
        Settings().upstream("stock")


def test_a_wrong_value_names_variable_and_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake is one line: the variable, what is wrong, what was given, where else it may stand."""
    monkeypatch.setenv("INTERLOCK_PORT", "99999")
    monkeypatch.setenv("INTERLOCK_DRAIN_LIMIT", "soon")
    first, second = mistake().splitlines()
    assert first.startswith("INTERLOCK_PORT: ")
    assert "99999" in first
    assert "port in interlock.toml" in first
    assert second.startswith('INTERLOCK_DRAIN_LIMIT: a duration reads "30s"')


def test_a_wrong_name_in_the_file_names_the_nearest(nowhere: Path) -> None:
    """A misspelt field of the TOML file is refused, not ignored."""
    (nowhere / "interlock.toml").write_text("prot = 1\n")
    assert mistake() == "interlock.toml: prot is no setting; did you mean port?"
    (nowhere / "interlock.toml").write_text("port = = 1\n")
    assert mistake().startswith("interlock.toml is not TOML")


def test_a_services_own_field_is_explained_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing own field is named; a wrong one is not quoted, for it may be a secret."""

    class Own(Settings):
        database_url: str
        pool: int = 5

    assert mistake(Own).startswith("INTERLOCK_DATABASE_URL is not set")
    monkeypatch.setenv("INTERLOCK_DATABASE_URL", "x")
    monkeypatch.setenv("INTERLOCK_POOL", "hunter2")
    assert "hunter2" not in mistake(Own)


@pytest.mark.parametrize(
    "given,told",
    [
        ({"tls_certificate": "c.pem"}, "INTERLOCK_TLS_KEY is missing"),
        ({"tls_client_authorities": "ca.pem"}, "mutual TLS needs a server certificate"),
        ({"port": 9000, "operations_port": 9000}, "INTERLOCK_OPERATIONS_PORT"),
        ({"stream_window_bytes": "8MiB"}, "larger than connection_window_bytes"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given: dict[str, Any], told: str) -> None:
    """What contradicts itself is told in one line."""
    assert told in mistake(**given)
    assert len(mistake(**given).splitlines()) == 1


def test_broken_json_says_how_to_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table in one variable is JSON, or given by parts."""
    monkeypatch.setenv("INTERLOCK_OPERATIONS", "{no")
    assert "INTERLOCK_OPERATIONS must be JSON" in mistake()


def test_every_field_is_described() -> None:
    """The reference page is made from the descriptions."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_importing_the_package_leaves_pydantic_out() -> None:
    """`import interlock` stays light."""
    import subprocess
    import sys

    code = "import sys, interlock, interlock.server; sys.exit('pydantic' in sys.modules or 'h2corn' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode
        == 0
    )
