"""Deadlines kept: one shared wheel cancels the calls whose time is up, instead of a timer a call."""

import asyncio
from collections.abc import Awaitable

from interlock.call import Call, Cancellation, Handler, Layer, Middleware, Outcome, Reply
from interlock.contract.model import Operation
from interlock.deadline import NEVER, Clock, monotonic
from interlock.errors import DeadlineExceeded

_NEVER = 1e12
"""Seconds of the clock that are as good as never: some thirty thousand years."""


class Wheel:
    """Slots of `tick` seconds, each with the calls that end in it; turned only while a call is watched.

    A call is cancelled at the first turn after the tick in which its time ran out, so at most two ticks late, and never
    early. A call without a deadline (a stream that runs on) is cancelled once no message passed for `idle` seconds
    (0: never). Belongs to one event loop.
    """

    def __init__(self, *, tick: float = 0.01, idle: float = 300.0, clock: Clock = monotonic) -> None:
        self._tick = tick
        self._idle = idle or float("inf")
        self._clock = clock
        self._slots: dict[int, set[Call]] = {}
        self._due: dict[Call, int] = {}
        self._turned = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, call: Call) -> None:
        """Cancel `call` when its deadline passes or it stays idle, unless it ends before."""
        if self._timer is None:
            self._turned = int(self._clock() / self._tick)
            self._arm()
        self._place(call)
        call.on_end(self._forget)

    def _place(self, call: Call) -> None:
        at = call.deadline.at if call.deadline != NEVER else max(call.touched, self._clock()) + self._idle
        if at >= _NEVER:
            return
        slot = max(int(at / self._tick), self._turned) + 1
        self._due[call] = slot
        waiting = self._slots.get(slot)
        if waiting is None:
            self._slots[slot] = {call}
        else:
            waiting.add(call)

    def _forget(self, outcome: Outcome) -> None:
        slot = self._due.pop(outcome.call, 0)
        waiting = self._slots.get(slot)
        if waiting is not None:
            waiting.discard(outcome.call)
            if not waiting:
                del self._slots[slot]

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.turn()
        if self._slots:
            self._arm()

    def turn(self) -> None:
        """Cancel what is due now."""
        now = self._clock()
        last = int(now / self._tick)
        if last - self._turned > len(self._slots):
            due = [slot for slot in self._slots if slot <= last]
        else:
            due = [slot for slot in range(self._turned, last + 1) if slot in self._slots]
        self._turned = last
        for slot in due:
            for call in self._slots.pop(slot):
                if call.deadline == NEVER and call.touched + self._idle > now:
                    self._place(call)
                else:
                    call.cancel(Cancellation.DEADLINE)


def deadline(wheel: Wheel) -> Layer:
    """Refuse a call whose time is up, and have `wheel` cancel it when its time runs out."""

    def layer(_operation: Operation) -> Middleware:
        def keep_deadline(call: Call, proceed: Handler) -> Awaitable[Reply]:
            if call.deadline.at <= monotonic():
                raise DeadlineExceeded("the deadline had passed when the call arrived")
            wheel.watch(call)
            return proceed(call)

        return keep_deadline

    return layer
