"""`python -m bench.amplification`: what a dead service gets through three others that retry, and the way back.

A client calls a service, which calls a second one, that a third, and that the one which dies: it answers UNAVAILABLE to
all, and counts. All of them retry, over gRPC, at a rate where the floor of their retry budgets does not count. Then it
heals. Once with the circuit breakers off, so that retries alone are seen, and once as everything is by default.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import report
from bench.figures import Goal, Section
from interlock import App, Call, Error, Unavailable
from interlock.resilience.circuit_breaker import BreakerPolicy, counting
from interlock.server import serving
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import ListThingsRequest, ListThingsResponse
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample

RESULTS = Path(__file__).parent / "results/amplification.json"
RATE = 60.0
LAYERS = 3
TIMEOUT = 5.0
RECOVERED = 0.99
CASES: dict[str, BreakerPolicy | None] = {"retries alone": counting(max_failures=1_000_000), "with breakers": None}


class Mortal(Sample):
    """Lists things, or is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = 0
        self.dead = False

    async def list_things(self, request: ListThingsRequest, call: Call) -> ListThingsResponse:
        """Answer, while it lives."""
        self.arrived += 1
        if self.dead:
            raise Unavailable("dead")
        return ListThingsResponse()


class Relaying(Sample):
    """Asks the service behind it."""

    def __init__(self, behind: SampleServiceClient) -> None:
        super().__init__()
        self._behind = behind

    async def list_things(self, request: ListThingsRequest, call: Call) -> ListThingsResponse:
        """Pass the call on."""
        return await self._behind.list_things(request)


@dataclass(slots=True)
class Seen:
    """What callers saw: how calls that began in each second of the clock ended."""

    offered: int = 0
    good: Counter[int] = field(default_factory=Counter)
    bad: Counter[int] = field(default_factory=Counter)

    def recovered(self, healed: float) -> float:
        """Return the seconds from healing to the first from which on every second was good."""
        last_bad = max(
            (second for second, count in self.bad.items() if count > (1 - RECOVERED) * (count + self.good[second])),
            default=int(healed) - 1,
        )
        return max(0.0, last_bad + 1 - healed)


async def offer(client: SampleServiceClient, seen: Seen, rate: float, seconds: float) -> None:
    """Call at that rate, on time whatever becomes of the calls, and wait for their ends."""
    tasks: set[asyncio.Task[None]] = set()
    began, offered = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        while offered < elapsed * rate:
            offered += 1
            task = asyncio.create_task(_one(client, seen))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.005)
    seen.offered += offered
    await asyncio.gather(*tasks)


async def _one(client: SampleServiceClient, seen: Seen) -> None:
    second = int(time.monotonic())
    try:
        await client.list_things()
    except Error:
        seen.bad[second] += 1
    else:
        seen.good[second] += 1


async def measure(breaker: BreakerPolicy | None, *, dead: float = 20.0, after: float = 20.0) -> tuple[float, float]:
    """Return arrivals at the dead service for each call offered, and the seconds until calls went well again."""
    async with AsyncExitStack() as stack:

        async def served(handlers: Sample) -> SampleServiceClient:
            app = App(handlers, settings=Settings(), access_log=False)
            address = await stack.enter_async_context(serving(app, drain_limit=1.0))
            client = SampleServiceClient(str(address), breaker=breaker)
            return (await stack.enter_async_context(client)).using(timeout=TIMEOUT)

        last = Mortal()
        front = await served(last)
        for _ in range(LAYERS):
            front = await served(Relaying(front))
        seen = Seen(offered=5)
        for _ in range(seen.offered):
            await front.list_things()  # connects, and leaves the budgets nearly empty
        last.dead = True
        await offer(front, seen, RATE, dead)
        ratio = round(last.arrived / seen.offered, 3)
        last.dead, healed, way_back = False, time.monotonic(), Seen()
        await offer(front, way_back, RATE, after)
        return ratio, way_back.recovered(healed)


async def table(cases: dict[str, BreakerPolicy | None], *, dead: float = 20.0, after: float = 20.0) -> Section:
    """Measure the cases."""
    section = Section(
        "amplification",
        f"A dead service behind {LAYERS} services that retry",
        f"{RATE:g} calls/s for {dead:g} s; {TIMEOUT:g} s for a call; until {RECOVERED:.0%} of every second went well",
    )
    for name, breaker in cases.items():
        ratio, seconds = await measure(breaker, dead=dead, after=after)
        section.add(name, "arrivals", "of offered", [ratio], Goal(1.2, at_most=True))
        section.add(name, "back within", "s", [seconds], Goal(10.0, at_most=True))
    return section


def main() -> int:
    """Measure, print and keep the figures; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    given = parser.parse_args()
    section = asyncio.run(table(CASES))
    report.show(section, report.console())
    if not given.dry:
        report.write([section], RESULTS)
    return int(any(figure.met is False for figure in section.figures))


if __name__ == "__main__":
    sys.exit(main())
