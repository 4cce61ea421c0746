"""`interlock doctor` finds what is seeded and names the remedy, and is quiet where all is well."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from interlock import App
from interlock.data import Database
from interlock.doctor import Finding, Patient, State, examine
from interlock.doctor.credentials import certificates, keys, roles
from interlock.doctor.reach import broker, collector, database, upstreams
from interlock.doctor.surroundings import disk, ports, unknown_variables, versions
from interlock.security.keys import new_keys
from interlock.settings import Settings
from tests.sample.handlers import Sample

INTERLOCK = Path(sys.executable).parent / "interlock"


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of the test's own, without this machine's variables."""
    monkeypatch.chdir(tmp_path)
    for name in [each for each in os.environ if each.startswith("INTERLOCK_")]:
        monkeypatch.delenv(name)


@contextmanager
def taken() -> Iterator[int]:
    """Yield a port on which something listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def free() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def faults(findings: Sequence[Finding]) -> list[Finding]:
    """Return the faults, each of which must say what to do."""
    found = [each for each in findings if each.state is State.FAULT]
    assert all(each.remedy for each in found)
    return found


def patient(**settings: object) -> Patient:
    """Return a patient with these settings."""
    return Patient(settings=Settings(**settings))  # type: ignore[arg-type]


async def test_a_healthy_service_has_no_fault() -> None:
    """Fresh keys, free ports, defaults elsewhere: nothing to put right."""
    new_keys(Path("var/keys"))
    found = await examine(patient(port=free(), operations_port=free()))
    assert faults(found) == []
    assert {"versions", "disk", "port", "operations_port", "keys", "broker"} <= {each.part for each in found}


async def test_a_taken_port() -> None:
    """1: the port is named, with the variable that moves it."""
    with taken() as port:
        (found,) = faults(await ports(patient(port=port, operations_port=0)))
    assert str(port) in found.told
    assert "INTERLOCK_PORT" in found.remedy


async def test_missing_keys() -> None:
    """2: nothing to verify tokens with."""
    (found,) = faults(await keys(patient()))
    assert "interlock keys new" in found.remedy


def loosened(directory: Path) -> Path:
    """Let everybody read the one private key, and return it."""
    (pem,) = directory.glob("*.pem")
    pem.chmod(0o644)
    return pem


async def test_a_private_key_that_others_may_read() -> None:
    """3: the file is named, with the command."""
    new_keys(Path("var/keys"))
    pem = loosened(Path("var/keys"))
    (found,) = faults(await keys(patient()))
    assert "chmod 600" in found.remedy
    assert pem.name in found.remedy


async def test_an_old_key() -> None:
    """A key past its 90 days is a note: it works, and should be replaced."""
    new_keys(Path("var/keys"), now=lambda: time.time() - 100 * 86400)
    found = await keys(patient())
    assert ("100 days", "`interlock keys rotate`") in [(each.told[-12:-4], each.remedy) for each in found]


async def test_a_broken_roles_file(tmp_path: Path) -> None:
    """4: the file is named."""
    path = tmp_path / "roles.toml"
    path.write_text("[roles\n")
    (found,) = faults(await roles(patient(roles=path)))
    assert "roles.toml" in found.told


def certificate(until: datetime) -> tuple[Path, Path]:
    """Write a certificate that is good until then, with its key."""
    issued = trustme.CA().issue_cert("localhost", not_after=until)
    chain, key = Path("chain.pem"), Path("key.pem")
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    return chain, key


async def test_a_certificate_out_of_date() -> None:
    """5: since when."""
    chain, key = certificate(datetime.now(UTC) - timedelta(hours=1))
    (found,) = faults(await certificates(patient(tls_certificate=chain, tls_key=key)))
    assert "out of date since" in found.told


async def test_a_key_of_another_certificate() -> None:
    """6: the two files are named."""
    chain, key = certificate(datetime.now(UTC) + timedelta(days=90))
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(key)
    (found,) = faults(await certificates(patient(tls_certificate=chain, tls_key=key)))
    assert "do not serve" in found.told


async def test_a_certificate_that_ends_soon_is_a_note() -> None:
    """There is time to renew it."""
    chain, key = certificate(datetime.now(UTC) + timedelta(days=3))
    (found,) = await certificates(patient(tls_certificate=chain, tls_key=key))
    assert found.state is State.NOTE


async def test_a_database_that_does_not_answer() -> None:
    """7: without its password."""
    app = App(Sample(), database=Database(f"postgresql://u:hidden@127.0.0.1:{free()}/x"), settings=Settings())
    (found,) = faults(await database(Patient(settings=app.settings, app=app)))
    assert "hidden" not in found.told + found.remedy
    assert "127.0.0.1" in found.told


async def test_a_database_that_answers(tmp_path: Path) -> None:
    """Its clock is compared, and no table is made."""
    app = App(Sample(), database=Database(f"sqlite:///{tmp_path}/x.db"), settings=Settings())
    assert faults(await database(Patient(settings=app.settings, app=app))) == []
    assert not (tmp_path / "x.db").exists()
    (tmp_path / "x.db").touch()
    found = await database(Patient(settings=app.settings, app=app))
    assert [(each.part, each.state) for each in found] == [("database", State.OK), ("clock", State.OK)]


async def test_a_broker_that_does_not_answer() -> None:
    """8: at which URL."""
    url = f"nats://127.0.0.1:{free()}"
    (found,) = faults(await broker(patient(broker=url)))
    assert url in found.told
    assert "INTERLOCK_BROKER" in found.remedy


async def test_a_neighbour_that_is_not_there() -> None:
    """9: which, and the variable that holds its address; one that is there is well."""
    with taken() as port:
        found = await upstreams(patient(upstreams={"stock": f"127.0.0.1:{free()}", "payments": f"127.0.0.1:{port}"}))
    (wrong,) = faults(found)
    assert wrong.part == "upstream stock"
    assert "INTERLOCK_UPSTREAMS__STOCK" in wrong.remedy


async def test_a_directory_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """10: whoever runs it lacks the right. A superuser may write anywhere, so the answer of the system is given."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (found,) = faults(await disk(patient()))
    assert "cannot be written" in found.told


async def test_a_collector_that_is_gone_is_a_note() -> None:
    """Calls go on without traces."""
    (found,) = await collector(patient(otlp_endpoint=f"http://127.0.0.1:{free()}"))
    assert found.state is State.NOTE


def test_a_variable_that_nothing_reads() -> None:
    """A slip of the finger is found, with the name that was meant."""
    (found,) = unknown_variables({"INTERLOCK_PROT": "1", "INTERLOCK_UPSTREAMS__X": "a:1"}, Settings.model_fields)
    assert (found.told, found.remedy) == ("INTERLOCK_PROT is set, and nothing reads it", "did you mean INTERLOCK_PORT?")


async def test_the_libraries_are_those_required() -> None:
    """What runs the tests is as the metadata asks."""
    (found,) = await versions(patient())
    assert found.state is State.OK, found.told


async def test_an_examination_that_fails_does_not_end_the_others() -> None:
    """It is a fault of its own part."""

    async def broken(_patient: Patient) -> Sequence[Finding]:
        raise RuntimeError("it broke")

    found = await examine(patient(), [broken, versions])
    assert [each.state for each in found] == [State.FAULT, State.OK]
    assert "it broke" in found[0].told


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return what runs the command in the test's directory."""

    def command(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "INTERLOCK_PORT": "0", "INTERLOCK_OPERATIONS_PORT": "0", **variables}
        return subprocess.run(
            [INTERLOCK, "doctor", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def test_the_command(run: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    """It exits 1 for a fault, 0 without one, and gives JSON to programs."""
    ill = run()
    assert (ill.returncode, "→ `interlock keys new`" in ill.stdout) == (1, True)
    new_keys(Path("var/keys"))
    well = run("--json")
    assert well.returncode == 0, well.stdout
    assert {each["state"] for each in json.loads(well.stdout)} <= {"ok", "note"}


def test_settings_that_cannot_be_read(run: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    """Then there is nothing more to look at."""
    told = run(INTERLOCK_WORKERS="many")
    assert told.returncode == 1
    assert "INTERLOCK_WORKERS" in told.stdout
    assert told.stderr == ""


def test_a_platform_is_examined_as_a_whole(tmp_path: Path) -> None:
    """What its services share once, each database under its service's name; neighbours need not run."""
    new_keys(tmp_path / "var" / "keys")
    shop = Path(__file__).resolve().parents[2] / "examples" / "shop"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(shop.parents[1] / "src"), str(shop))),
        "INTERLOCK_DATABASE_URL": f"postgresql://u:hidden@127.0.0.1:{free()}/{{name}}",
        "INTERLOCK_PORT": str(free()),
        "INTERLOCK_OPERATIONS_PORT": str(free()),
    }
    command = [str(INTERLOCK), "doctor", "shop.platform:platform", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    rows = json.loads(done.stdout)
    assert done.returncode == 1
    assert b"hidden" not in done.stdout
    wrong = {each["part"] for each in rows if each["state"] == "fault"}
    assert wrong == {f"{name}: database" for name in ("customers", "inventory", "payments", "orders")}
    assert not [each for each in rows if each["state"] == "note"]
