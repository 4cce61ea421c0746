"""Sections about servers: ours and its peers under the same load, in turn, round after round."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from random import sample
from statistics import fmean, harmonic_mean

from bench import load
from bench.figures import Effort, Goal, Section, ratios
from bench.load import Measured, Work
from bench.processes import Cores, NotMeasured, Server, serving
from bench.reference import STREAM_LENGTH

CPU, RATE, TIMES = "CPU", "throughput", "ours does"
OURS = "interlock"
SLICES = 5
"""Parts of a round, between which the servers take turns."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to measure: how the table calls it, its module in bench.servers, what follows the port."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()


INTERLOCK = Peer(OURS, "interlock")
GRPC_AIO = Peer("grpc.aio", "grpc_aio")
CONNECTRPC = Peer("connectrpc on h2corn", "connectrpc_h2corn")
UNARY_PEERS = (
    INTERLOCK,
    GRPC_AIO,
    Peer("grpc.aio, uvloop", "grpc_aio", ("uvloop",)),
    Peer("grpcio, threads", "grpc_threads"),
    CONNECTRPC,
    Peer("bare ASGI on h2corn", "asgi_floor"),
)
FASTAPI = Peer("FastAPI on uvicorn", "fastapi_uvicorn")


def unary(effort: Effort) -> Section:
    """Measure GetOrder over gRPC."""
    section = Section(
        "unary",
        "Unary gRPC: one id in, an order of three items out",
        "h2load, 4 connections with 16 calls each; the server has one core, the load generator another",
    )
    measured = _compare(section, UNARY_PEERS, load.UNARY, effort)
    goals = {CPU: Goal(90, at_most=True), RATE: Goal(10_000), GRPC_AIO.name: Goal(4)}
    _tell(section, measured, goals, "request")
    return section


def connect(effort: Effort) -> Section:
    """Measure the same call over Connect in JSON."""
    section = Section(
        "connect",
        "Connect, unary, JSON: the same call",
        "h2load, 4 connections with 16 calls each; one core each",
    )
    measured = _compare(section, (INTERLOCK, CONNECTRPC), load.CONNECT, effort)
    _tell(section, measured, {}, "request")
    return section


def rest(effort: Effort) -> Section:
    """Measure GET of the same order over HTTP/1.1."""
    section = Section(
        "rest",
        "REST over HTTP/1.1: GET the same order",
        "h2load --h1, 64 connections with one request at a time; one core each",
    )
    measured = _compare(section, (INTERLOCK, FASTAPI), load.REST, effort)
    goals = {CPU: Goal(80, at_most=True), FASTAPI.name: Goal(2.2)}
    _tell(section, measured, goals, "request")
    return section


def stream(effort: Effort) -> Section:
    """Measure the messages of a server stream."""
    section = Section(
        "stream",
        f"Server stream over gRPC: {STREAM_LENGTH:,} small messages a call",
        "h2load, 4 connections with one call at a time; one core each",
    )
    measured = _compare(section, (INTERLOCK, GRPC_AIO), load.STREAM, effort)
    each = {
        name: [Measured(one.cpu / STREAM_LENGTH, one.rate * STREAM_LENGTH) for one in rounds]
        for name, rounds in measured.items()
    }
    _tell(section, each, {GRPC_AIO.name: Goal(5)}, "message")
    return section


def workers(effort: Effort) -> Section:
    """Measure what a second worker costs each request."""
    section = Section(
        "workers",
        "Two workers against one: requests per server CPU second",
        "the unary load on 8 connections; server and load generator share all cores",
    )
    one, two = Peer("1 worker", "interlock", ("1",)), Peer("2 workers", "interlock", ("2",))
    cores = Cores.available()
    cores = Cores(cores.all, cores.all, cores.all)
    measured = _compare(section, (one, two), replace(load.UNARY, connections=8), effort, cores)
    for peer in (one, two):
        _tell_one(section, peer.name, measured[peer.name], {}, "request")
    both = ratios([each.cpu for each in measured[one.name]], [each.cpu for each in measured[two.name]])
    section.add(two.name, "against one", "×", both, Goal(0.9))
    return section


def _compare(
    section: Section, peers: Iterable[Peer], work: Work, effort: Effort, cores: Cores | None = None
) -> dict[str, list[Measured]]:
    """Measure every peer once a round; those that do not start are noted in the section, ours must."""
    load.require()
    chosen = cores or Cores.available()
    requests = max(work.connections, effort.of(work.requests))
    measured: dict[str, list[Measured]] = {}
    with ExitStack() as running:
        servers: dict[str, Server] = {}
        for peer in peers:
            try:
                server = running.enter_context(serving(peer.module, *peer.arguments, cores=chosen.server))
            except NotMeasured as reason:
                if peer.module == INTERLOCK.module:
                    raise
                section.missing[peer.name] = str(reason)
                continue
            servers[peer.name] = server
            load.send(server, work, max(work.connections, requests // 5), chosen.load)  # to warm up
        for _ in range(effort.rounds):
            slices = [_slice(servers, work, max(work.connections, requests // SLICES), chosen) for _ in range(SLICES)]
            for name in servers:
                parts = [each[name] for each in slices]
                rate = harmonic_mean([part.rate for part in parts])
                measured.setdefault(name, []).append(Measured(fmean([part.cpu for part in parts]), rate))
    return measured


def _slice(servers: dict[str, Server], work: Work, requests: int, cores: Cores) -> dict[str, Measured]:
    """Measure every server for a short while, each time in another order, so that they share the machine's moods."""
    order = sample(list(servers.items()), len(servers))
    return {name: load.send(server, work, requests, cores.load) for name, server in order}


def _tell(section: Section, measured: dict[str, list[Measured]], goals: dict[str, Goal], what: str) -> None:
    """Put the figures of every peer into the section, and how many times as much ours does per CPU second."""
    ours = [each.cpu for each in measured[OURS]]
    for name, rounds in measured.items():
        _tell_one(section, name, rounds, goals if name == OURS else {}, what)
        if name != OURS:
            section.add(name, TIMES, "×", ratios([each.cpu for each in rounds], ours), goals.get(name))


def _tell_one(section: Section, name: str, rounds: list[Measured], goals: dict[str, Goal], what: str) -> None:
    section.add(name, CPU, f"µs/{what}", [each.cpu for each in rounds], goals.get(CPU))
    section.add(name, RATE, f"{what}s/s", [each.rate for each in rounds], goals.get(RATE))
