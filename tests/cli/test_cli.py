"""The command line: what it prints, where, and with which exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.cli import COMMANDS, GROUPS

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests/sample"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
PROTO = """syntax = "proto3";
package t.v1;
import "interlock/v1/options.proto";
message M { string id = 1; }
service S { rpc Find(M) returns (M) { option (interlock.v1.method).unauthenticated = true; } }
"""


def run(*arguments: object, at: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "interlock.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=at, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.interlock]\noutput = "gen"\n')
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/t.proto").write_text(PROTO)
    return tmp_path


def wrong(project: Path) -> None:
    path = project / "contracts/t.proto"
    path.write_text(PROTO.replace("unauthenticated = true", "timeout = {}"))


def test_help_is_quick_and_names_every_command() -> None:
    """No command is imported for it: not in 250 ms, and none of the libraries that commands use."""
    code = (
        "import sys; from interlock.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'protobuf', 'rich', 'pydantic', 'grpc', 'watchfiles', 'interlock.contract'}\n"
        "print(sorted(slow & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    for command in COMMANDS:
        assert command.name.partition(" ")[0] in result.stdout
    times = []
    for _ in range(3):
        started = time.perf_counter()
        run("--help")
        times.append(time.perf_counter() - started)
    assert min(times) < 0.25


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_of_a_command_shows_examples(command: object) -> None:
    """Each command's help has a line that can be typed."""
    name = getattr(command, "name")  # noqa: B009 - the table's type is internal
    result = run(*name.split(), "--help")
    assert result.returncode == 0
    assert f"    interlock {name} " in result.stdout or f"    interlock {name}\n" in result.stdout


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    """Unknown commands, options, missing arguments, directories that are no project: on stderr, without traceback."""
    cases: list[tuple[str, ...]] = [
        ("bogus",),
        (),
        ("init",),
        ("init", "Hello"),
        ("generate", "--bogus"),
        ("generate", "--check", "--watch"),
        ("generate",),
        ("show", "contract", "nowhere"),
    ]
    for arguments in cases:
        result = run(*arguments, at=tmp_path)
        assert (arguments, result.returncode) == (arguments, 2)
        assert "Traceback" not in result.stderr
        assert result.stderr or not arguments


def test_version_and_groups() -> None:
    """--version is the package's; a group lists its commands."""
    assert run("--version").stdout == "interlock 0.1.0\n"
    for group in GROUPS:
        told = run(*group.split(), "--help").stdout
        members = [
            command.name.removeprefix(f"{group} ") for command in COMMANDS if command.name.startswith(f"{group} ")
        ]
        assert members
        assert all(name.split()[0] in told for name in members)


def test_generate_writes_checks_and_says_so(project: Path) -> None:
    """Exit 0 when up to date, 1 with the names of stale files when not."""
    stale = run("generate", "--check", at=project)
    assert stale.returncode == 1
    assert "stale gen/t_rpc.py\n" in stale.stdout
    written = run("generate", at=project)
    assert (written.returncode, written.stdout.splitlines()[0]) == (0, "wrote gen/__init__.py")
    assert run("generate", "--check", at=project).stdout == "up to date\n"
    assert run("generate", project, at=ROOT).stdout == "up to date\n"


def test_mistakes_go_to_stderr_with_exit_code_1(project: Path) -> None:
    """A line each, from where the command was run."""
    wrong(project)
    for command in (("generate",), ("show", "contract")):
        result = run(*command, at=project)
        assert (result.returncode, result.stdout) == (1, "")
        assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == ["contracts/t.proto:5"] * 2


def test_watch_generates_at_every_change_and_survives_mistakes(project: Path) -> None:
    """It shows the mistakes, waits for the next change, and ends with Ctrl-C."""
    command = [sys.executable, "-u", "-m", "interlock.cli", "generate", "--watch"]
    log = project / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=project, env=ENVIRONMENT, stdout=output, stderr=output)
    try:
        wait(lambda: "watching contracts" in log.read_text())
        time.sleep(0.5)  # until the watcher of the file system is set up
        wrong(project)
        wait(lambda: "contracts/t.proto:5: S.Find" in log.read_text())
        (project / "contracts/t.proto").write_text(PROTO + "message Later {}\n")
        wait(lambda: "class Later" in (project / "gen/t_pb.py").read_text())
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert "Traceback" not in log.read_text()


def wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_show_contract_for_people_and_programs(project: Path) -> None:
    """A table, and JSON with everything."""
    table = run("show", "contract", at=SAMPLE).stdout
    assert "POST /v1/echo" in table
    assert "sample:whisper" in table
    described = json.loads(run("show", "contract", "--json", at=SAMPLE).stdout)
    service = described["services"][0]
    things = next(each for each in service["operations"] if each["name"] == "CreateThing")
    assert (things["idempotency"], things["rate_limit"]) == ("KEYED", {"requests": 1000, "per": 60.0})
    assert described["events"][0]["type"] == "echo.made"


def test_show_contract_finds_what_is_meant(project: Path) -> None:
    """An image, a project not generated yet, a package, a generated module: one and the same contract."""
    first = run("show", "contract", "--json", at=project).stdout
    run("generate", at=project)
    for target in (".", "gen/contract.binpb", "gen", "gen.t_rpc", project):
        if target == "gen":
            continue  # a directory there, so a path: no project
        assert run("show", "contract", target, "--json", at=project).stdout == first
    assert run("show", "contract", "tests.sample.gen").returncode == 0
    assert "is no project" in run("show", "contract", "gen", at=project).stderr
