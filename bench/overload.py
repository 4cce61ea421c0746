"""`python -m bench.overload`: a small service under one, two and five times the load that it bears.

Its handler takes 20 ms and ten run at a time, so it bears 500 calls a second. Over gRPC from a process of its own, in
an open loop (calls are sent on time, whatever became of those before), with half a second of patience. Printed are
the calls answered in time, in calls a second and as a share of the peak, and how long refusals take. With `--without`
the service sheds nothing: what overload does to it then.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field

from interlock import App, Call, Error, Unavailable
from interlock.resilience.circuit_breaker import counting
from interlock.resilience.concurrency import BulkheadPolicy
from interlock.resilience.retry import RetryPolicy
from interlock.server import serving
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample

BEARS = 500
PATIENCE = 0.5
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
    """What became of the calls."""

    good: int = 0
    late: int = 0
    refusals: list[float] = field(default_factory=list)


async def serve() -> None:
    """Serve until the parent closes the pipe, and print the port."""
    async with serving(App(Small(), settings=Settings(), access_log=False)) as address:
        print(address.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def offer(client: SampleServiceClient, rate: float, seconds: float) -> Tally:
    """Send `rate` calls a second on time, and count their ends."""
    tally, tasks = Tally(), set[asyncio.Task[None]]()
    began, offered = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        while offered < elapsed * rate:
            offered += 1
            task = asyncio.create_task(_one(client, tally))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    return tally


async def _one(client: SampleServiceClient, tally: Tally) -> None:
    began = time.perf_counter()
    try:
        await client.using(timeout=PATIENCE).echo(text="x")
    except Unavailable:
        tally.refusals.append(time.perf_counter() - began)
    except Error:
        tally.late += 1
    else:
        tally.good += 1


async def measure(port: int, seconds: float) -> None:
    """Offer each load to the service, and print what became of it."""
    client = SampleServiceClient(
        f"127.0.0.1:{port}",
        retries=RetryPolicy(retries=0),
        breaker=counting(max_failures=1_000_000),
        bulkhead=BulkheadPolicy(calls=0),
        connections=4,
    )
    print(f"{'load':8}{'offered/s':>10}{'good/s':>8}{'of peak':>9}{'late':>7}{'refused':>9}{'refusal P99':>13}")
    peak = 0.0
    async with client:
        await offer(client, BEARS * 0.5, 2)
        for name, times in LOADS.items():
            tally = await offer(client, BEARS * times, seconds)
            good = tally.good / seconds
            peak = peak or good
            slowest = sorted(tally.refusals)[int(len(tally.refusals) * 0.99)] * 1000 if tally.refusals else 0.0
            ends = f"{tally.late:7}{len(tally.refusals):9}{slowest:10.1f} ms"
            print(f"{name:8}{BEARS * times:10.0f}{good:8.0f}{good / peak:9.2f}{ends}")


def main() -> None:
    """Start the service in a process of its own, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each load is offered")
    parser.add_argument("--without", action="store_true", help="without shedding, to compare")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    environment = {**os.environ, "INTERLOCK_SHED": "false" if given.without else "true"}
    command = [sys.executable, "-m", "bench.overload", "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as service:
        assert service.stdout is not None
        assert service.stdin is not None
        try:
            asyncio.run(measure(int(service.stdout.readline()), given.seconds))
        finally:
            service.stdin.close()
            service.wait(10)


if __name__ == "__main__":
    main()
