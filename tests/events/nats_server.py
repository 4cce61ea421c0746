"""NATS servers for tests: one of our own from its wheel, and the one that runs (at INTERLOCK_TEST_NATS, or locally)."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from interlock.testing.nats_server import nats_process
from interlock.testing.servers import NoServer, answers, free_port

__all__ = ["free_port", "own_server", "running_url"]

PLACE = ("127.0.0.1", 4222)


def running_url() -> str | None:
    if url := os.environ.get("INTERLOCK_TEST_NATS"):
        return url
    return f"nats://{PLACE[0]}:{PLACE[1]}" if answers(*PLACE) else None


@contextmanager
def own_server(port: int = 0, directory: str = "") -> Iterator[str]:
    """A server while the block runs; the test is skipped, loudly, where none can be started."""
    with ExitStack() as stack:
        place = Path(directory or stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            server = stack.enter_context(nats_process(place, port))
        except NoServer as reason:
            pytest.skip(f"NOT TESTED on NATS: {reason}")
        yield server.url
