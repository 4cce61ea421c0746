"""Sections about the process itself: how long it takes to import and to start, and what memory it keeps."""

import shutil
import sys
import time
from pathlib import Path

from bench import load
from bench.figures import Effort, Goal, Section
from bench.processes import Cores, output_of, serving

STARTS = 10
MEBIBYTE = 1 << 20


def imports(effort: Effort) -> Section:
    """Measure how long `import interlock` and `interlock --help` take."""
    section = Section(
        "import", "Start of a process", "wall clock of the whole process, in turn; start of python included"
    )
    beside = shutil.which("interlock", path=str(Path(sys.executable).parent))
    script = [beside] if beside else [sys.executable, "-m", "interlock.cli"]
    commands = {
        "python alone": ([sys.executable, "-c", "pass"], None),
        "import interlock": ([sys.executable, "-c", "import interlock"], Goal(120, at_most=True)),
        "interlock --help": ([*script, "--help"], Goal(250, at_most=True)),
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(max(3, effort.of(STARTS)) + 1):
        for name, (command, _goal) in commands.items():
            began = time.perf_counter()
            output_of(command, 30)
            taken[name].append((time.perf_counter() - began) * 1000)
    for name, (_command, goal) in commands.items():
        section.add(name, "time", "ms", taken[name][1:], goal)  # the first one fills the caches
    return section


def memory(effort: Effort) -> Section:
    """Measure a worker's memory under the reference call, and how soon it serves the first one."""
    requests = effort.of(100_000)
    section = Section(
        "memory",
        f"One worker: from its start through {requests:,} requests",
        "RSS of the server's process; growth is counted from a tenth of the requests to the end",
    )
    load.require()
    cores = Cores.available()
    started: list[float] = []
    for _ in range(effort.rounds):
        with serving("interlock", cores=cores.server) as server:
            load.UNARY.check(server.port)
            started.append(time.perf_counter() - server.began)
    with serving("interlock", cores=cores.server) as server:
        load.send(server, load.UNARY, requests // 10, cores.load)
        early = server.memory() / MEBIBYTE
        load.send(server, load.UNARY, requests - requests // 10, cores.load)
        late = server.memory() / MEBIBYTE
    section.add("interlock", "start to first request served", "s", started, Goal(1, at_most=True))
    section.add("interlock", "memory at the end", "MiB", [late], Goal(80, at_most=True))
    section.add("interlock", "growth", "MiB", [late - early], Goal(2, at_most=True))
    return section
