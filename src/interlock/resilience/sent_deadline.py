"""The deadline of SENT calls: all attempts, and the waits between them, end when the call's time is up."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from interlock.call import Call, Cancellation, Handler, Layer, Middleware, Reply
from interlock.contract.model import Operation
from interlock.deadline import NEVER, Clock, monotonic
from interlock.errors import DeadlineExceeded
from interlock.resilience.deadline import Wheel

T = TypeVar("T")

GRACE = 0.25
"""Seconds past the deadline that the callee's own answer (mostly DEADLINE_EXCEEDED) is waited for."""


def late_wheel(clock: Clock = monotonic) -> Wheel:
    """Return a wheel for SENT calls: it comes `GRACE` after the deadline, which transports and callees keep too."""
    return Wheel(tick=0.05, idle=0, clock=lambda: clock() - GRACE)


def sent_deadline(wheel: Wheel, clock: Clock = monotonic) -> Layer:
    """Refuse a call whose time is up, and give one up that runs on although it is.

    Transports and retries keep the deadline themselves; this is for what else may wait inside (credentials, a queue, a
    transport of the user's own). A stream of replies is given up by who waits for its first one (`first_of`); from then
    on its transport alone keeps its deadline.
    """

    def layer(operation: Operation) -> Middleware:
        async def keep(call: Call, proceed: Handler) -> Reply:
            at = call.deadline.at
            if at == NEVER.at:
                return await proceed(call)
            if at <= clock():
                raise _passed("before the call was sent")
            task = asyncio.current_task()
            if task is None:
                return await proceed(call)
            call.task = task
            cancelled_before = task.cancelling()
            wheel.watch(call)
            try:
                reply = await proceed(call)
            except BaseException as raised:
                if _taken_back(call, task, cancelled_before) and isinstance(raised, asyncio.CancelledError):
                    raise _passed("before the answer was there") from None
                raise
            _taken_back(call, task, cancelled_before)
            return reply

        async def refuse_late(call: Call, proceed: Handler) -> Reply:
            if call.deadline.at <= clock():
                raise _passed("before the call was sent")
            return await proceed(call)

        return refuse_late if operation.kind.server_streams else keep

    return layer


async def first_of(call: Call, reply: Awaitable[T]) -> T:
    """Wait for a stream to open, and its first reply, at most `GRACE` past the deadline; DeadlineExceeded then."""
    at = call.deadline.at
    if at == NEVER.at:
        return await reply
    try:
        async with asyncio.timeout(max(0.0, at - monotonic()) + GRACE) as limit:
            return await reply
    except TimeoutError:
        if not limit.expired():
            raise
        raise _passed("before the answer was there") from None


def _taken_back(call: Call, task: "asyncio.Task[object]", cancelled_before: int) -> bool:
    """Undo the wheel's cancelling; False if there is none, or somebody else cancelled the task too."""
    ours = call.cancellation is Cancellation.DEADLINE
    call.task = None  # from here on the wheel has nothing to cancel
    return ours and task.uncancel() <= cancelled_before


def _passed(when: str) -> DeadlineExceeded:
    error = DeadlineExceeded(f"the deadline passed {when}")
    error.received = True  # a neighbour was too slow for us, which is no mistake of our caller's
    return error
