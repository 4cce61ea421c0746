"""`python -m bench.resilience`: what each layer of resilience adds to a unary call that goes well.

CPU time in a loop around a handler that answers at once; rows are measured in turn, in short slices, and the faster
half of the slices counts. The last rows are the layers together, as a client has them.
"""

import asyncio
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median

from interlock import Call, Deadline, Direction, Principal
from interlock.call import Handler, Layer, compose
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Operation, RateLimit
from interlock.resilience.budget import RetryBudget
from interlock.resilience.circuit_breaker import BreakerPolicy, Breakers, circuit_breaker
from interlock.resilience.concurrency import Bulkhead, BulkheadPolicy, concurrency
from interlock.resilience.rate_limit import Limiter, rate_limit
from interlock.resilience.retry import RetryPolicy, retry
from interlock.resilience.sent_deadline import late_wheel, sent_deadline
from interlock.resilience.shedding import Shedder, load, shed
from shop.gen.api.order.v1.order_pb import Order
from shop.gen.api.order.v1.order_rpc import GET_ORDER, ORDER_SERVICE

SLICE = 1_000
SLICES = 60
BARE = "a call and its end, no layer"
_ORDER = Order()


def layers() -> dict[str, list[Layer]]:
    """Return the rows: a name and the layers of its chain."""
    deadline = sent_deadline(late_wheel())
    again = retry(RetryPolicy(), RetryBudget())
    breaker = circuit_breaker(Breakers(BreakerPolicy()))
    bulkhead = concurrency(Bulkhead(BulkheadPolicy()))
    shedder = Shedder()
    return {
        BARE: [],
        "sent_deadline": [deadline],
        "retry": [again],
        "circuit_breaker": [breaker],
        "rate_limit": [rate_limit(Limiter())],
        "rate_limit, 10,000 callers": [rate_limit(Limiter())],
        "rate_limit, shared by workers": [rate_limit(Limiter(workers=2, shared=_table()))],
        "concurrency": [bulkhead],
        "shed": [shed(shedder), load(shedder)],
        "all of a SENT call": [deadline, again, breaker, bulkhead],
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
    chains = {name: compose(each, called, answer) for name, each in layers().items()}
    principals = {name: [Principal(subject="one")] for name in chains}
    principals["rate_limit, 10,000 callers"] = [Principal(subject=str(number)) for number in range(10_000)]
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
    print(f"{'layer':32}{'µs/call':>9}{'adds µs':>9}")
    for name, value in figures.items():
        print(f"{name:32}{value:9.2f}{value - bare:9.2f}")


if __name__ == "__main__":
    main()
