"""`make run`: what a newcomer sees first."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from interlock.testing import Surroundings
from interlock.testing.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
STEP = re.compile(r"^ *(\d+\.\d\d) s  (.*)$", re.MULTILINE)


@pytest.fixture
def environment(surroundings: Surroundings) -> dict[str, str]:
    """Where the shop keeps its files, and a free port."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    inside = surroundings.variables({"port": free_port()})
    return {**outside, **inside, "PYTHONPATH": os.pathsep.join((str(ROOT / "examples/shop"), str(ROOT / "src")))}


def shop(environment: dict[str, str]) -> "subprocess.Popen[str]":
    """Start the tour."""
    return subprocess.Popen(
        [sys.executable, "-m", "shop"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines_until(process: "subprocess.Popen[str]", last: str) -> str:
    """Read what it prints, up to a line."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        if line.startswith(last):
            break
    return "".join(read)


def roles_tried(text: str) -> str:
    """Do in a shell what is printed of tokens and roles; return what it prints."""
    exports = [line for line in text.splitlines() if line.startswith("  export ")]
    loop = text[text.index("  for EACH in") : text.index("  done") + len("  done")]
    done = subprocess.run(["sh", "-c", "\n".join((*exports, loop))], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_from_nothing_to_a_confirmed_order(environment: dict[str, str]) -> None:
    """Each step with its time, the order CONFIRMED; URLs, a token, three lines to try; Ctrl-C ends it with 0."""
    with shop(environment) as process:
        text = lines_until(process, "Ctrl-C stops")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0, text + rest
    steps = STEP.findall(text)
    times = [float(time) for time, _ in steps]
    assert times == sorted(times)
    told = " | ".join(step for _, step in steps)
    for wanted in ("gateway", "201: o-", "is CONFIRMED: 2 items, 33.00 EUR", "HELD", "COMPLETED", "one trace: "):
        assert wanted in told
    assert f"http://127.0.0.1:{environment['INTERLOCK_PORT']}/openapi.json" in text
    assert "export TOKEN=ey" in text
    assert text.count("  curl -s http://") == 3
    assert STEP.sub("", rest).strip() == ""  # nothing but steps: no warnings, no traceback


def test_the_printed_roles_differ(environment: dict[str, str]) -> None:
    """The lines that make the other tokens and try them do what is said: customer no, operator yes, service no."""
    with shop(environment) as process:
        text = lines_until(process, "Ctrl-C stops")
        codes = roles_tried(text)
        process.send_signal(signal.SIGINT)
        _ = process.stdout.read() if process.stdout else ""
    assert codes.split() == ["403", "201", "403"]


def test_a_taken_port_is_told(environment: dict[str, str]) -> None:
    """One line that says what to do, and exit code 1."""
    with socket.create_server(("127.0.0.1", int(environment["INTERLOCK_PORT"]))), shop(environment) as process:
        text = process.stdout.read() if process.stdout else ""
    assert process.returncode == 1
    assert "is taken" in text
    assert "INTERLOCK_PORT" in text
    assert "Traceback" not in text


def test_ctrl_c_while_it_starts_ends_it_quietly(environment: dict[str, str]) -> None:
    """No traceback, and an exit code that says so."""
    with shop(environment) as process:
        lines_until(process, "  0.00 s")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read() if process.stdout else ""
    assert process.returncode in (0, 130)
    assert "Traceback" not in rest


@pytest.fixture
def terminal(environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """`make run` in a terminal of its own: its process id, and the terminal."""
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("NOT TESTED: `make run` takes .venv, and there is none; `make` makes it")
    pid, screen = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe("make", ["make", "--assume-old=.venv/.installed", "run"], environment)
    yield pid, screen
    os.close(screen)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_make_run_ends_with_0_on_ctrl_c(terminal: tuple[int, int]) -> None:
    """Ctrl-C at the terminal reaches the shop alone, so that make sees it end well."""
    pid, screen = terminal
    text, interrupted = b"", False
    with suppress(OSError):  # the terminal's end, on Linux
        while chunk := os.read(screen, 4096):
            text += chunk
            if b"Ctrl-C stops" in text and not interrupted:
                interrupted = True
                os.write(screen, b"\x03")
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, text.decode()
    assert b"stopped" in text
