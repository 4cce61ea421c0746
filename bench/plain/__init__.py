"""Plain publishing and consuming on NATS JetStream, without outbox and inbox: ours and FastStream's, a program each.

`python -m bench.plain.NAME publish|consume URL STREAM COUNT` prints its own cost. An event has PAYLOAD bytes and one of
KEYS keys; publishing waits for the server's confirmation, AT_ONCE at a time; consuming begins with all events there.
"""

import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

AT_ONCE = 16
PAYLOAD = 256
KEYS = 97


@dataclass(slots=True)
class Meter:
    """Counts events, and measures from the first tenth on."""

    count: int
    seen: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)
    _began: tuple[float, float] = (0.0, 0.0)

    def event(self) -> None:
        """Count one."""
        self.seen += 1
        if self.seen == self.count // 10:
            self._began = time.perf_counter(), _cpu()
        elif self.seen == self.count:
            began, used = self._began
            measured = self.count - self.count // 10
            took, cost = time.perf_counter() - began, _cpu() - used
            print(json.dumps({"cpu": cost / measured * 1e6, "rate": measured / took}))
            self.done.set()


async def publish(meter: Meter, one: Callable[[int], Awaitable[object]]) -> None:
    """Publish all events by `one`, which is given their number."""
    numbers = count()

    async def publisher() -> None:
        while (number := next(numbers)) < meter.count:
            await one(number)
            meter.event()

    await asyncio.gather(*(publisher() for _ in range(AT_ONCE)))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
