"""A bell that wakes other processes on this machine: a named pipe each, beside the file they share.

A byte in the pipe means: look again. A pipe whose process is gone has no reader, and who rings it clears it away. Where
there are no named pipes nothing rings, and polling does the work.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from interlock.stamps import uuid7


class Doorbell:
    """This process's bell in `directory`, once hung up; `ring` rings all the others there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = f"{os.getpid()}-{uuid7()}"
        self._reading = -1

    def hang(self, heard: Callable[[], None]) -> None:
        """Have `heard` called in this event loop whenever another process rings."""
        if not hasattr(os, "mkfifo"):
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        hidden = self._directory / f".{self._name}"
        os.mkfifo(hidden, mode=0o600)
        # for writing too, or the pipe would report its end each time that the last ringer closes it
        self._reading = os.open(hidden, os.O_RDWR | os.O_NONBLOCK)
        hidden.rename(self._directory / self._name)  # seen by ringers only now that it is read

        def drain() -> None:
            with suppress(BlockingIOError):
                os.read(self._reading, 4096)
            heard()

        asyncio.get_running_loop().add_reader(self._reading, drain)

    def ring(self) -> None:
        """Ring every other process's bell; never waits and never raises for one that can't be rung."""
        with suppress(OSError), os.scandir(self._directory) as bells:
            for bell in bells:
                if bell.name != self._name and not bell.name.startswith("."):
                    _ring(bell.path)

    def take_down(self) -> None:
        """Stop listening."""
        if self._reading >= 0:
            asyncio.get_running_loop().remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1
            (self._directory / self._name).unlink(missing_ok=True)


def _ring(path: str) -> None:
    try:
        bell = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody reads it: its process is gone
        with suppress(OSError):
            Path(path).unlink()
        return
    with suppress(OSError):  # a full pipe has rung already
        os.write(bell, b"\0")
    os.close(bell)
