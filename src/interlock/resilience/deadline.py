"""Deadlines kept: one shared wheel cancels the calls whose time is up, instead of a timer a call."""

import asyncio
from collections.abc import Awaitable

from interlock.call import Call, Cancellation, Handler, Layer, Middleware, Outcome, Reply
from interlock.contract.model import Operation
from interlock.deadline import NEVER, Clock, monotonic
from interlock.errors import DeadlineExceeded


class Wheel:
    """Watches calls and cancels those whose time is up; turned every `tick` seconds while there are any.

    A turn looks at the calls only once the nearest deadline it knows has passed, so watching costs a call next to
    nothing. A call is cancelled at the first turn after its time ran out, so at most a tick late, and never early. A
    call without a deadline (a stream that runs on) is cancelled once no message passed for `idle`
    seconds (0: never). Belongs to one event loop.
    """

    __slots__ = ("_clock", "_idle", "_nearest", "_tick", "_timer", "watched")

    def __init__(self, *, tick: float = 0.01, idle: float = 300.0, clock: Clock = monotonic) -> None:
        self.watched: set[Call] = set()
        self._tick = tick
        self._idle = idle or float("inf")
        self._clock = clock
        self._nearest = float("inf")  # no call ends before it; it may be that of a call that has ended since
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, call: Call) -> None:
        """Cancel `call` when its deadline passes or it stays idle, unless it ends before."""
        at: float = call.deadline
        if at == NEVER:
            if self._idle == NEVER:
                return
            call.touched = self._clock()
            at = call.touched + self._idle
        self._nearest = min(self._nearest, at)
        if self._timer is None:
            self._arm()
        self.watched.add(call)
        call.on_end(self._forget)

    def _forget(self, outcome: Outcome) -> None:
        self.watched.discard(outcome.call)

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.turn()
        if self.watched:
            self._arm()

    def turn(self) -> None:
        """Cancel what is due now."""
        now = self._clock()
        if now < self._nearest:
            return
        self._nearest = float("inf")
        for call in tuple(self.watched):
            at = call.deadline if call.deadline != NEVER else call.touched + self._idle
            if at <= now:
                self.watched.discard(call)
                call.cancel(Cancellation.DEADLINE)
            elif at < self._nearest:
                self._nearest = at


def deadline(wheel: Wheel) -> Layer:
    """Refuse a call whose time is up, and have `wheel` cancel it when its time runs out."""

    def layer(_operation: Operation) -> Middleware:
        def keep_deadline(call: Call, proceed: Handler) -> Awaitable[Reply]:
            if call.deadline <= monotonic():
                raise DeadlineExceeded("the deadline had passed when the call arrived")
            wheel.watch(call)
            return proceed(call)

        return keep_deadline

    return layer
