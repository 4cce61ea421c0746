"""The bulkhead of SENT calls: one slow neighbour gets a bounded share of this process, the others the rest."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta

from interlock.call import Call, Handler, Layer, Middleware, Outcome, Reply
from interlock.contract.model import Operation
from interlock.deadline import monotonic
from interlock.errors import Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadPolicy:
    """How many calls to one target run at a time, how many more may wait for a place, and for how long.

    `calls` 0: as many as there are. With `waiting` or `wait` 0 a call without a place is refused at once.
    """

    calls: int = 1000
    waiting: int = 1000
    wait: timedelta = timedelta(seconds=1)

    def __post_init__(self) -> None:
        if min(self.calls, self.waiting) < 0 or self.wait < timedelta():
            raise ValueError("the numbers and the wait of a bulkhead must not be negative")


class BulkheadFull(Unavailable):
    """The call was not sent: too many calls to its target run already, and none ended in time."""

    unsent = True


class Bulkhead:
    """The places of one target, given out in the order of asking; for one event loop.

    `running` never exceeds the policy's calls, `waiting` never its waiting; `refused` counts.
    """

    __slots__ = ("_policy", "_queue", "refused", "running", "target")

    def __init__(self, policy: BulkheadPolicy, target: str = "") -> None:
        self._policy = policy
        self._queue: OrderedDict[asyncio.Future[bool], None] = OrderedDict()
        self.target = target
        self.running = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return len(self._queue)

    def enter(self) -> bool:
        """Take a place if there is one and nobody waits for it; each place taken must be left."""
        policy = self._policy
        if self._queue or self.running >= policy.calls > 0:
            return False
        self.running += 1
        return True

    async def wait(self, longest: float) -> bool:
        """Wait for a place, at most `longest` seconds and the policy's wait; True when it was taken."""
        policy = self._policy
        longest = min(longest, policy.wait.total_seconds())
        if len(self._queue) >= policy.waiting or longest <= 0:
            return False
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        self._queue[place] = None
        timer = loop.call_later(longest, self._give_up, place)
        try:
            return await place
        except asyncio.CancelledError:
            self._queue.pop(place, None)
            if place.done() and not place.cancelled() and place.result():
                self.leave()  # it was given the place, and is gone
            raise
        finally:
            timer.cancel()

    def leave(self) -> None:
        """Give a place back, to whoever waits for longest."""
        while self._queue:
            place, _ = self._queue.popitem(last=False)
            if not place.done():
                place.set_result(True)
                return
        self.running -= 1

    def _give_up(self, place: asyncio.Future[bool]) -> None:
        if self._queue.pop(place, self) is None and not place.done():
            place.set_result(False)


def concurrency(bulkhead: Bulkhead) -> Layer:
    """Bound the calls to a target that run at a time; beyond it they wait a little, then end with `BulkheadFull`.

    Streams of replies without a timeout are left out: they run on, and most of the time do nothing.
    """

    def leave(_outcome: Outcome) -> None:
        bulkhead.leave()

    def layer(operation: Operation) -> Middleware | None:
        if not bulkhead._policy.calls or (operation.kind.server_streams and operation.timeout is None):
            return None

        def limit_concurrency(call: Call, proceed: Handler) -> Awaitable[Reply]:
            if not bulkhead.enter():
                return wait(call, proceed)
            call.on_end(leave)
            return proceed(call)

        return limit_concurrency

    async def wait(call: Call, proceed: Handler) -> Reply:
        if not await bulkhead.wait(call.deadline.at - monotonic()):
            bulkhead.refused += 1
            raise _refusal(bulkhead)
        call.on_end(leave)
        return await proceed(call)

    return layer


def _refusal(bulkhead: Bulkhead) -> BulkheadFull:
    name = f" to {bulkhead.target}" if bulkhead.target else ""
    refusal = BulkheadFull(f"bulkhead full: {bulkhead.running} calls{name} run already")
    refusal.received = True  # our caller's fault as little as an answer of the callee
    refusal.final = True  # it has waited; trying again would only make the queue longer
    return refusal
