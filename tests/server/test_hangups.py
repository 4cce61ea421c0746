"""Looking at the connections of those who wait leaves every descriptor as it was."""

import os
import socket
from pathlib import Path

import pytest

from interlock.server import hangups

DESCRIPTORS = Path("/proc/self/fd")


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="this system shows no descriptors, so nothing is looked at")
def test_a_look_neither_opens_nor_closes_anything(tmp_path: Path) -> None:
    """Whatever a descriptor is of, a file, a pipe, a socket with or without a peer, it stays open and is not copied."""
    reading, writing = os.pipe()
    with (
        (tmp_path / "file").open("w") as file,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as served,
    ):
        before = sorted(each.name for each in DESCRIPTORS.iterdir())
        shown = {number: hangups._peer_of(number) for number in map(int, before)}
        assert sorted(each.name for each in DESCRIPTORS.iterdir()) == before
        assert shown[served.fileno()] == client.getsockname()
        for number in (reading, writing, file.fileno(), server.fileno()):
            assert shown[number] is None
            os.fstat(number)
        client.sendall(b"x")
        assert served.recv(1) == b"x"
    os.close(reading)
    os.close(writing)
