"""`python -m bench.breaker`: a circuit breaker between a client and a real service, over gRPC.

A hundred slow calls at once, which it must not put one behind the other; a thousand NOT_FOUND, which must leave it
closed; two hundred calls at once when it is half-open, of which exactly its probes may reach the service.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from bench import report
from bench.figures import Goal, Section
from interlock import App, Call, Error, NotFound, RetryPolicy, Unavailable
from interlock.resilience.circuit_breaker import BreakerPolicy
from interlock.server import serving
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample

RESULTS = Path(__file__).parent / "results/breaker.json"
POLICY = BreakerPolicy(open_for=timedelta(seconds=1), probes=3)
SLOW = 0.2


class Moody(Sample):
    """Echoes, after a while or never; counts who came."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = 0
        self.fails: Error | None = None
        self.takes = 0.0

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Do what it is in the mood for."""
        self.arrived += 1
        await asyncio.sleep(self.takes)
        if self.fails is not None:
            raise self.fails
        return await super().echo(request, call)


async def ends(client: SampleServiceClient, calls: int, *, at_once: bool) -> Counter[str]:
    """Make so many calls; return how many ended in which way."""

    async def one() -> str:
        try:
            await client.echo()
        except Error as error:
            return type(error).__name__
        return "OK"

    if at_once:
        return Counter(await asyncio.gather(*(one() for _ in range(calls))))
    return Counter([await one() for _ in range(calls)])


async def measure() -> Section:
    """Make the calls, and return what became of them."""
    section = Section("breaker", "A circuit breaker between a client and a service", "gRPC, one process, no retries")
    async with AsyncExitStack() as stack:
        moody = Moody()
        address = await stack.enter_async_context(serving(App(moody, settings=Settings(), access_log=False)))

        async def client_of(policy: BreakerPolicy) -> SampleServiceClient:
            made = SampleServiceClient(str(address), breaker=policy, retries=RetryPolicy(retries=0))
            await (await stack.enter_async_context(made)).echo()
            return made

        client = await client_of(POLICY)

        moody.takes, began = SLOW, time.perf_counter()
        fine = await ends(client, 100, at_once=True)
        took, moody.takes = time.perf_counter() - began, 0.0
        name = f"100 calls of {SLOW * 1000:g} ms at once"
        section.add(name, "went well", "", [fine["OK"]], Goal(100))
        section.add(name, "took", "s", [took], Goal(10 * SLOW, at_most=True))

        moody.arrived, moody.fails = 0, NotFound("none")
        await ends(client, 1000, at_once=False)
        section.add("1,000 NOT_FOUND", "reached the service", "", [moody.arrived], Goal(1000))

        moody.fails = None
        client = await client_of(POLICY)
        moody.fails = Unavailable("down")
        refused = await ends(client, 100, at_once=False)
        section.add("100 UNAVAILABLE", "refused", "", [refused["CircuitOpen"]], Goal(50))
        await asyncio.sleep(POLICY.open_for.total_seconds())
        moody.arrived, moody.fails, moody.takes = 0, None, SLOW
        halves = await ends(client, 200, at_once=True)
        name = "200 at once when it is half-open"
        section.add(name, "reached the service", "", [moody.arrived], Goal(POLICY.probes, at_most=True))
        section.add(name, "went well", "", [halves["OK"]], Goal(POLICY.probes))
        section.add(name, "refused", "", [halves["CircuitOpen"]], Goal(200 - POLICY.probes))
        closed = await ends(client, 10, at_once=False)
        section.add("10 behind the probes", "went well", "", [closed["OK"]], Goal(10))
    return section


def main() -> int:
    """Measure, print and keep the figures; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    given = parser.parse_args()
    section = asyncio.run(measure())
    report.show(section, report.console())
    if not given.dry:
        report.write([section], RESULTS)
    return int(any(figure.met is False for figure in section.figures))


if __name__ == "__main__":
    sys.exit(main())
