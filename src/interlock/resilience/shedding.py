"""Load shedding of SERVED calls: what can't be answered in time is refused at once, so that the rest can be.

Two signs of overload: more calls run than the adaptive limit allows, or the event loop comes to a call late.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from interlock.call import Call, Handler, Layer, Middleware, Outcome, Reply
from interlock.contract.gen.interlock.v1.options_pb import Tier
from interlock.contract.model import Operation
from interlock.deadline import Clock
from interlock.errors import UNPROCESSED, Code, Unavailable
from interlock.resilience.adaptive import AdaptiveLimit

SHARES = {Tier.HIGH_VOLUME: 0.85, Tier.STANDARD: 1.0, Tier.ADMIN: 1.25}
"""How much of the limit an operation's tier may fill: what comes in masses goes first, what operators need last."""
BUILT_IN = ("grpc.health.", "grpc.reflection.")
"""Services that always answer."""
RETRY_AFTER = timedelta(seconds=1)
TICK = 0.05
_QUEUE = 8
"""Calls that begin in one turn of the event loop before its lateness is a queue, not one slow handler."""
_WAITED = frozenset((Code.OK, Code.DEADLINE_EXCEEDED, Code.CANCELLED))
"""Ends that tell how long calls take; other errors come early and tell nothing."""


class Overloaded(Unavailable):
    """The service has more to do than it can; it was refused before anything was done for it."""

    event = "shed"


class Shedder:
    """What one process knows of its load; for one event loop.

    Up to `floor` calls at a time are never refused for being many. A call that waited for the event loop for longer
    than `delay` is refused where the loop was late the turn before too; 0 switches that off.
    """

    __slots__ = ("_delay", "_late", "_timer", "_turn", "begun", "clock", "limit", "refused", "running")

    def __init__(
        self, *, floor: int = 32, delay: timedelta = timedelta(milliseconds=100), clock: Clock = time.perf_counter
    ) -> None:
        if floor < 1 or delay < timedelta():
            raise ValueError("shedding needs a floor of at least one call, and a delay that is not negative")
        self.limit = AdaptiveLimit(floor)
        self.clock = clock
        self.running = 0
        self.begun = 0
        self.refused: dict[str, int] = {}
        self._delay = delay.total_seconds()
        self._turn = 0.0
        self._late = False
        self._timer: asyncio.TimerHandle | None = None

    def admits(self, share: float, now: float) -> bool:
        """Tell whether a call of that share of the limit may run; counts it as begun, not as running."""
        self.begun += 1
        limit = self.limit
        if self.running >= limit.limit * share and self.running >= limit.floor:
            return False
        if not self._delay:
            return True
        if self._timer is None:
            self._arm()
        waited = now - self._turn - TICK
        return waited <= self._delay * share or not self._late or self.begun <= _QUEUE

    def refuse(self, path: str) -> Overloaded:
        """Count a refusal, and return it."""
        self.limit.shed = True
        self.refused[path] = self.refused.get(path, 0) + 1
        text = "overloaded: more calls than can be answered in time"
        return Overloaded(text, retry_after=RETRY_AFTER, metadata=[UNPROCESSED])

    def turn(self) -> None:
        """Note that the event loop has come round."""
        now = self.clock()
        self._late = now - self._turn - TICK > self._delay / 2
        self._turn = now
        self.begun = 0

    def _arm(self) -> None:
        self._turn = self.clock()
        self._late = False
        self.begun = 0
        self._timer = asyncio.get_running_loop().call_later(TICK, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.begun or self.running:  # else nothing to watch; the next call arms it again
            self.turn()
            self._timer = asyncio.get_running_loop().call_later(TICK, self._on_timer)


def shed(shedder: Shedder | None) -> Layer:
    """Refuse calls at once, UNAVAILABLE with `retry_after`, while the service is overloaded; None: never.

    Health and reflection always answer. What counts as running is said by `load`.
    """

    def layer(operation: Operation) -> Middleware | None:
        if shedder is None or operation.service.startswith(BUILT_IN):
            return None
        share = SHARES.get(operation.tier, 1.0)
        path = operation.path
        shedder.refused[path] = 0

        def shed_load(call: Call, proceed: Handler) -> Awaitable[Reply]:
            if not shedder.admits(share, call.started):
                raise shedder.refuse(path)
            return proceed(call)

        return shed_load

    return layer


def load(shedder: Shedder | None) -> Layer:
    """Count calls as running from here on: behind `decode`, so that who holds back a body is no load.

    Streams do not count: they wait.
    """

    def layer(operation: Operation) -> Middleware | None:
        if shedder is None or operation.service.startswith(BUILT_IN):
            return None
        if operation.kind.server_streams or operation.kind.client_streams:
            return None
        leave, clock = _leaving(shedder), shedder.clock

        def count(call: Call, proceed: Handler) -> Awaitable[Reply]:
            shedder.running += 1
            call.on_end(partial(leave, clock()))
            return proceed(call)

        return count

    return layer


def _leaving(shedder: Shedder) -> Callable[[float, Outcome], None]:
    limit, add = shedder.limit, shedder.limit.baseline().add

    def leave(began: float, outcome: Outcome) -> None:
        shedder.running -= 1
        ended = outcome.call.started + outcome.duration
        if outcome.error is None or outcome.error.code in _WAITED:
            add(ended - began)
        limit.observe(ended, shedder.running + 1)

    return leave
