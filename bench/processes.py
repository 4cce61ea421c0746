"""Processes that are measured: started on a core of their own, their CPU time and memory read from /proc, stopped."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import ROOT

_TICK = os.sysconf("SC_CLK_TCK")
START_LIMIT = 30.0


class NotMeasured(Exception):
    """Something cannot be measured here; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the server and the load generator get; both get all where there is only one."""

    server: frozenset[int]
    load: frozenset[int]
    all: frozenset[int]

    @classmethod
    def available(cls) -> "Cores":
        """Choose among the cores that this process may use."""
        free = sorted(os.sched_getaffinity(0))
        first, second = free[:1], free[1:2] or free[:1]
        return cls(frozenset(first), frozenset(second), frozenset(free))


@contextmanager
def on(cores: frozenset[int]) -> Iterator[None]:
    """Run what the block starts on these cores: a child inherits them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(slots=True)
class Server:
    """A server that runs, and the port it serves."""

    pid: int
    port: int
    began: float

    def cpu(self) -> float:
        """Return the CPU seconds, user and system, that its processes have used."""
        return sum(_cpu(pid) for pid in _family(self.pid))

    def memory(self) -> int:
        """Return the resident bytes of its processes."""
        return sum(_resident(pid) for pid in _family(self.pid))


@contextmanager
def serving(module: str, *arguments: str, cores: frozenset[int]) -> Iterator[Server]:
    """Start `bench.servers.<module>` and yield it once its port is open; stop it, whatever happens."""
    port = _free_port()
    command = [sys.executable, "-m", f"bench.servers.{module}", str(port), *arguments]
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        with on(cores):
            # a session of its own: Ctrl-C reaches us alone, and we stop it
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        try:
            deadline = began + START_LIMIT
            while not _answers(port):
                if process.poll() is not None:
                    output.seek(0)
                    last = output.read().decode(errors="replace").strip().splitlines()[-1:] or ["it ended at once"]
                    raise NotMeasured(f"bench.servers.{module} does not start: {last[0]}")
                if time.perf_counter() > deadline:
                    raise NotMeasured(f"bench.servers.{module} did not open its port in {START_LIMIT:g} s")
                time.sleep(0.005)
            yield Server(process.pid, port, began)
        finally:
            stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop a process: asked first, killed when it does not end."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def output_of(command: Sequence[str], limit: float, cores: frozenset[int] | None = None) -> str:
    """Run a command to its end and return what it printed; NotMeasured with its last words if it fails."""
    with on(cores or frozenset(os.sched_getaffinity(0))):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, complaint = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"{' '.join(command[:4])} did not end in {limit:g} s") from None
    finally:
        if process.poll() is None:
            stop(process)
    if process.returncode:
        words = complaint.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise NotMeasured(f"{' '.join(command[:4])} failed: {words[0]}")
    return out.decode(errors="replace")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _family(pid: int) -> list[int]:
    """Return the process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    family = [pid]
    for each in family:
        family.extend(parents.get(each, ()))
    return family


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICK if fields else 0.0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name (proc(5)); none if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
