"""What the servers that tests start have in common: a process that can be killed and comes back where it was."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

_LINGERING = 5.0
"""Seconds that what a killed server leaves behind (PostgreSQL's backends) may take to go; none starts beside them."""


class NoServer(Exception):
    """A server that a test needs neither runs nor can be started; the text says what to do."""


class ServerProcess:
    """A server of one's own on a port of loopback: `start`, `kill` (-9), `start` again on the same files, `stop`.

    `url` is where it answers while it runs. It has a session of its own, so Ctrl-C does not reach it, and a kill takes
    what it started with it. `user` is who it runs as, if not we; `ending` is the signal at which it ends without
    waiting for its clients; `ready` is a command that succeeds once it is more than listening; what it says goes to
    the file `log`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        url: str,
        port: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        ending: signal.Signals = signal.SIGTERM,
        ready: Sequence[str] = (),
    ) -> None:
        self.url = url
        self.log = log
        self._name = name
        self._command = command
        self._port = port
        self._environment = environment
        self._user = user
        self._ending = ending
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._lingering = 0.0

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def start(self, limit: float = 30.0) -> None:
        """Start it and wait until it is ready; NoServer, with its last words, if it is not within `limit` seconds."""
        began = time.monotonic()
        self._launch()
        while not self._answers():
            waited = time.monotonic() - began
            if not self.running and waited < self._lingering:
                time.sleep(0.1)
                self._launch()
            elif not self.running or waited > limit:
                self.kill()
                raise NoServer(f"the {self._name} server did not start: {self._last_words()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it and what it started with SIGKILL; done if it does not run."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            ends = time.monotonic() + _LINGERING
            while answers("127.0.0.1", self._port) and time.monotonic() < ends:
                time.sleep(0.02)
            self._lingering = _LINGERING

    def stop(self, limit: float = 10.0) -> None:
        """End it in good order, or, if that takes longer than `limit` seconds, by `kill`."""
        if self._process is not None and self.running:
            self._process.send_signal(self._ending)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(limit)
        self.kill()
        self._lingering = 0.0

    def _launch(self) -> None:
        with self.log.open("ab") as said:
            self._process = subprocess.Popen(  # noqa: S603 - a server that a test chose
                self._command, env=self._environment, user=self._user, cwd=self.log.parent, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip

    def _answers(self) -> bool:
        if not answers("127.0.0.1", self._port):
            return False
        return not self._ready or subprocess.run(self._ready, check=False).returncode == 0  # noqa: S603 - as above

    def _last_words(self) -> str:
        said = self.log.read_text(errors="replace").strip().splitlines()
        return said[-1] if said else "it said nothing"


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answers(host: str, port: int) -> bool:
    """Tell whether somebody takes connections there."""
    try:
        socket.create_connection((host, port), timeout=0.3).close()
    except OSError:
        return False
    return True
