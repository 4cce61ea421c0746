"""`python -m bench.overload`: a small service under one, two and five times the load that it bears.

Its handler takes 20 ms and ten run at a time, so it bears 500 calls a second. Over gRPC from a process of its own, in
an open loop (calls are sent on time, whatever became of those before), with half a second of patience. Printed are
the calls answered in time, in calls a second and as a share of the peak, and how long refusals take. With `--without`

"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import grpc
from grpc import aio

from bench import ROOT, report
from bench.figures import Goal, Section
from interlock import App, Call
from interlock.server import serving
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE
from tests.sample.handlers import Sample

RESULTS = Path(__file__).parent / "results/overload.json"
BEARS = 500
PATIENCE = 0.5
ON_TIME = 0.1
"""Seconds; where one call in a hundred is sent later than that, it is not the service that is measured."""
LOADS = {"peak": 0.95, "2 x": 2.0, "5 x": 5.0}


class Small(Sample):
    """Answers ten calls at a time, in 20 ms each."""

    def __init__(self) -> None:
        super().__init__()
        self._places = asyncio.Semaphore(10)

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Take the time that a database would."""
        async with self._places:
            await asyncio.sleep(0.02)
        return EchoResponse(text=request.text)


@dataclass(slots=True)
class Tally:
    """What became of the calls; `behind` is how late each was sent, in seconds."""

    good: int = 0
    late: int = 0
    refusals: list[float] = field(default_factory=list)
    behind: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


async def serve() -> None:
    """Serve until the parent closes the pipe, and print the port."""
    async with serving(App(Small(), settings=Settings(), access_log=False)) as address:
        print(address.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


class Caller:
    """Sends calls as bytes, so that the load costs little of the machine that bears it too."""

    def __init__(self, port: int, connections: int = 4) -> None:
        alone = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self._channels = [aio.insecure_channel(f"127.0.0.1:{port}", alone) for _ in range(connections)]
        self._echoes = cycle(channel.unary_unary(SAMPLE_SERVICE.operation(ECHO).path) for channel in self._channels)
        self._request = EchoRequest(text="x").to_binary()

    async def close(self) -> None:
        """Close the connections."""
        for each in self._channels:
            await each.close()

    async def call(self, tally: Tally) -> None:
        """Call once, and count how it ended."""
        began = time.perf_counter()
        try:
            await next(self._echoes)(self._request, timeout=PATIENCE)
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                tally.late += 1
            elif error.code() is grpc.StatusCode.UNAVAILABLE and "overloaded" in (error.details() or ""):
                tally.refusals.append(time.perf_counter() - began)
            else:
                tally.others[f"{error.code().name}: {error.details()}"] += 1
        else:
            tally.good += 1


async def offer(caller: Caller, rate: float, seconds: float) -> Tally:
    """Send `rate` calls a second on time, whatever becomes of those before, and count their ends."""
    tally, tasks = Tally(), set[asyncio.Task[None]]()
    began, offered = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        while offered < elapsed * rate:
            tally.behind.append(elapsed - offered / rate)
            offered += 1
            task = asyncio.create_task(caller.call(tally))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    return tally


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of them does not exceed; 0 for none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


async def measure(port: int, seconds: float) -> Section:
    """Offer each load to the service, and return what became of it."""
    section = Section(
        "overload",
        f"A service that bears {BEARS} calls a second, under more",
        f"{seconds:g} s of each load over gRPC, sent on time; {PATIENCE:g} s of patience",
    )
    caller, peak = Caller(port), 0.0
    try:
        await offer(caller, BEARS * 0.5, 2)
        for name, times in LOADS.items():
            await offer(caller, BEARS * times, 1)  # the limit finds its place
            tally = await offer(caller, BEARS * times, seconds)
            behind = percentile(tally.behind, 0.99)
            section.add(name, "offered", "/s", [len(tally.behind) / seconds])
            section.add(name, "sent late by, P99", "ms", [behind * 1000])
            if behind > ON_TIME:
                section.missing[name] = "the machine was too busy with other things to send the calls on time"
                continue
            peak = peak or tally.good / seconds
            section.add(name, "goodput", "/s", [tally.good / seconds])
            section.add(name, "of peak", "", [tally.good / seconds / peak], Goal(0.8) if times > 1 else None)
            section.add(name, "no answer", "", [tally.late])
            section.add(name, "refused", "", [len(tally.refusals)])
            goal = Goal(50.0, at_most=True) if times > 1 else None
            section.add(name, "refusals, P99", "ms", [percentile(tally.refusals, 0.99) * 1000], goal)
            for told, count in tally.others.items():
                section.missing[f"{name}, {count} x"] = told
    finally:
        await caller.close()
    return section


async def against_a_service(seconds: float, *, shed: bool = True) -> Section:
    """Start the service in a process of its own, and measure."""
    environment = {**os.environ, "INTERLOCK_SHED": str(shed).lower()}
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.overload", "--serve"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=ROOT,
    )
    assert service.stdin is not None
    assert service.stdout is not None
    try:
        return await measure(int(await service.stdout.readline()), seconds)
    finally:
        service.stdin.close()
        async with asyncio.timeout(20):
            await service.wait()


def main() -> int:
    """Measure, print and keep the figures; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each load is offered")
    parser.add_argument("--without", action="store_true", help="without shedding, to compare; no figures are kept")
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return 0
    section = asyncio.run(against_a_service(given.seconds, shed=not given.without))
    report.show(section, report.console())
    if not given.dry and not given.without:
        report.write([section], RESULTS)
    if any(figure.met is False for figure in section.figures):
        return 1
    return 2 if section.missing else 0


if __name__ == "__main__":
    sys.exit(main())
