"""`python -m bench.resilience`: what each layer of a client, and of a server's resilience, adds to a good call.

CPU time in a loop around a handler that answers at once; rows are measured in turn, in short slices, and the faster
half of the slices counts. A client's layers are those of `interlock.defaults.sent` that a SAFE operation has, each by
itself and then all together; a server's whole stack, layer upon layer, is shown by `python -m bench profile`.
"""

import asyncio
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median

from interlock import BearerToken, Call, Deadline, Direction, Principal
from interlock.call import Handler, Layer, compose
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Operation, RateLimit
from interlock.defaults import sent
from interlock.resilience.deadline import Wheel, deadline
from interlock.resilience.neighbour import Neighbour
from interlock.resilience.policies import Policies
from interlock.resilience.rate_limit import Limiter, rate_limit
from interlock.resilience.sent_deadline import late_wheel
from interlock.resilience.shedding import Shedder, load, shed
from shop.gen.api.order.v1.order_pb import Order
from shop.gen.api.order.v1.order_rpc import GET_ORDER, ORDER_SERVICE

SLICE = 1_000
SLICES = 60
BARE = "a call and its end, no layer"
_ORDER = Order()


def layers(called: Operation) -> dict[str, list[Layer]]:
    """Return the rows: a name and the layers of its chain."""
    shedder = Shedder()
    stack = sent(wheel=late_wheel(), to=Neighbour(Policies("orders:8080")), shown=BearerToken("token"))
    client = {f"client: {each.name}": [each.layer] for each in stack if each.layer(called) is not None}
    return {
        BARE: [],
        **client,
        "client: all of them": [each.layer for each in stack],
        "server: limit": [rate_limit(Limiter())],
        "server: limit, 10,000 callers": [rate_limit(Limiter())],
        "server: limit, shared by workers": [rate_limit(Limiter(workers=2, shared=_table()))],
        "server: shed and load": [shed(shedder), load(shedder)],
        "server: deadline": [deadline(Wheel())],
    }


def _table() -> Path:
    return Path(tempfile.mkdtemp(prefix="interlock-bench-")) / "limits"


def operation() -> Operation:
    """Return the reference operation, with a limit that is never reached."""
    limited = RateLimit(requests=1_000_000_000, per=timedelta(minutes=1))
    return replace(ORDER_SERVICE.operation(GET_ORDER), rate_limit=limited, idempotency=Idempotency.SAFE)


async def answer(_call: Call) -> Order:
    return _ORDER


async def measure() -> dict[str, float]:
    """Return the CPU microseconds of each row."""
    called = operation()
    chains = {name: compose(each, called, answer) for name, each in layers(called).items()}
    principals = {name: [Principal(subject="one")] for name in chains}
    principals["server: limit, 10,000 callers"] = [Principal(subject=str(number)) for number in range(10_000)]
    measured: dict[str, list[float]] = {name: [] for name in chains}
    for _ in range(SLICES):
        for name, chain in chains.items():
            measured[name].append(await _slice(chain, called, principals[name]))
    return {name: median(sorted(values)[: SLICES // 2]) for name, values in measured.items()}


async def _slice(chain: Handler, called: Operation, principals: list[Principal]) -> float:
    deadline = Deadline.after(3600)
    began = time.process_time()
    for number in range(SLICE):
        call = Call(called, deadline=deadline, direction=Direction.SENT)
        call.principal = principals[number * 7919 % len(principals)]
        await chain(call)
        call.end()
    return (time.process_time() - began) / SLICE * 1e6


def main() -> None:
    """Measure and print."""
    figures = asyncio.run(measure())
    bare = figures[BARE]
    print(f"{'layer':34}{'µs/call':>9}{'adds µs':>9}")
    for name, value in figures.items():
        print(f"{name:34}{value:9.2f}{value - bare:9.2f}")


if __name__ == "__main__":
    main()
