"""The section about our client, over gRPC and over Connect, against a bare stub of grpc.aio on the same server."""

import json
import sys

from bench.clients import AT_ONCE
from bench.figures import Effort, Goal, Section, ratios
from bench.load import Measured
from bench.processes import Cores, Server, output_of, serving

OURS, BARE, CONNECT = "interlock", "grpc.aio stub", "interlock, Connect"
MODULES = {OURS: "interlock", BARE: "grpc_stub", CONNECT: "connect"}


def client(effort: Effort) -> Section:
    """Measure a call of the client's process."""
    section = Section(
        "client",
        "Client: the reference call, CPU of the client's process",
        f"{AT_ONCE} calls in flight at a time (gRPC on one connection); the client has one core, the server another",
    )
    measured: dict[str, list[Measured]] = {name: [] for name in MODULES}
    cores = Cores.available()
    with serving("interlock", cores=cores.server) as server:
        for _ in range(effort.rounds):
            for name, module in MODULES.items():
                measured[name].append(_run(module, server, effort.of(10_000), cores.load))
    cpu = {name: [each.cpu for each in rounds] for name, rounds in measured.items()}
    for name, rounds in measured.items():
        section.add(name, "CPU", "µs/call", cpu[name])
        section.add(name, "throughput", "calls/s", [each.rate for each in rounds])
    section.add(OURS, "CPU against the bare stub", "×", ratios(cpu[OURS], cpu[BARE]), Goal(1.25, at_most=True))
    section.add(CONNECT, "CPU against the bare stub", "×", ratios(cpu[CONNECT], cpu[BARE]))
    return section


def _run(module: str, server: Server, calls: int, cores: frozenset[int]) -> Measured:
    command = [sys.executable, "-m", f"bench.clients.{module}", str(server.port), str(calls)]
    return Measured(**json.loads(output_of(command, 120, cores)))
