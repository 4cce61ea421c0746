"""`interlock init`: a service that works at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.contract.generate import generate
from interlock.contract.project import read_project
from interlock.contract.scaffold import CannotMake, requirement, scaffold

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("Hello", "lower-case letters"),
        ("2fast", "lower-case letters"),
        ("a-b", "lower-case letters"),
        ("../up", "lower-case letters"),
        ("", "lower-case letters"),
        ("class", "keyword"),
        ("json", "module of Python's own library"),
        ("google", "name of a package that the service uses"),
        ("interlock", "name of a package that the service uses"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str, expected: str) -> None:
    """Before anything is written."""
    with pytest.raises(CannotMake, match=expected):
        scaffold(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A directory of that name stays as it is."""
    (tmp_path / "hello").mkdir()
    with pytest.raises(CannotMake, match="exists already"):
        scaffold("hello", tmp_path)
    assert list((tmp_path / "hello").iterdir()) == []
    with pytest.raises(CannotMake, match="is no directory"):
        scaffold("hello", tmp_path / "nowhere")


def test_what_is_made_is_complete_and_up_to_date(tmp_path: Path) -> None:
    """No placeholder is left, nothing names the machine but the source tree that is required."""
    made = scaffold("hello_world", tmp_path)
    assert generate(read_project(made), check=True) == []
    for path in made.rglob("*"):
        if path.is_file() and path.suffix != ".binpb" and "gen" not in path.parts:
            text = path.read_text().replace(requirement(), "")
            assert "{name}" not in text
            assert str(tmp_path) not in text
            assert sys.prefix not in text


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_its_own_tests_pass(tmp_path: Path) -> None:
    """`make test` runs them with the active environment, without a network."""
    made = scaffold("hello", tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "MAKEFLAGS": ""}  # not our own ARGS
    result = subprocess.run(
        ["make", "test"], cwd=made, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 passed" in result.stdout
    assert not (made / ".venv").exists()


def test_it_is_strictly_typed_and_clean(tmp_path: Path) -> None:
    """What it shows is how one should write."""
    made = scaffold("hello", tmp_path)
    environment = {**os.environ, "MYPYPATH": f"{ROOT / 'src'}{os.pathsep}{made / 'src'}"}
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = True\nfollow_imports = silent\nexplicit_package_bases = True\n"
        "[mypy-grpc.*,google.*]\nignore_missing_imports = True\n"
    )
    files = ["src/hello/greetings.py", "src/hello/service.py", "tests/test_service.py"]
    commands: list[list[str]] = [
        ["mypy", "--config-file", str(tmp_path / "mypy.ini"), *files],
        ["ruff", "format", "--isolated", "--line-length", "120", "--check", *files],
        ["ruff", "check", "--isolated", "--line-length", "120", "--select", "A,B,E,F,I,PT,RET,RUF,SIM,UP,W", *files],
    ]
    for command in commands:
        result = subprocess.run(
            [sys.executable, "-m", *command], cwd=made, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
