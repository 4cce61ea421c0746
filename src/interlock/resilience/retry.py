"""Retry of SENT calls: what failed for a passing reason is tried again, within deadline and budget.

Outermost of the attempt layers: everything inside runs once per attempt, on a call of its own (`call.fork()`).
"""

import asyncio
import random as randomness
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from interlock.call import Call, Cancellation, Handler, Layer, Middleware, Reply
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Operation
from interlock.deadline import Clock, monotonic
from interlock.errors import Cancelled, Code, DeadlineExceeded, Error
from interlock.resilience.budget import RetryBudget

Sleep = Callable[[float], Awaitable[object]]
Random = Callable[[], float]
"""A number from 0 up to, not including, 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how soon: before the retry n = 0, 1, … a random wait of 0 to `base` × `multiplier`ⁿ.

    No such wait exceeds `longest_backoff`. What the callee asks for (`retry_after`) is waited for first, unless it is
    more than `longest_pause`: then the call fails at once. `retries` do not count the first attempt; 0: none.
    """

    retries: int = 3
    base: timedelta = timedelta(milliseconds=100)
    multiplier: float = 2.0
    longest_backoff: timedelta = timedelta(seconds=5)
    longest_pause: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        if self.retries < 0 or self.multiplier < 1 or min(self.base, self.longest_backoff) < timedelta():
            raise ValueError("a retry policy needs retries >= 0, multiplier >= 1 and waits that are not negative")


def retryable(error: Error, *, repeatable: bool) -> bool:
    """Tell whether an attempt that ended with `error` may be followed by another.

    `repeatable`: the operation may run twice. If not, only an error that provably came before the call was sent
    (`error.unsent`) qualifies. UNAVAILABLE passes by itself, RESOURCE_EXHAUSTED where it says when; what the callee
    calls final does not (gRPC A6, pushback).
    """
    if error.final or not (repeatable or error.unsent):
        return False
    if error.code is Code.RESOURCE_EXHAUSTED:
        return error.retry_after is not None
    return error.code is Code.UNAVAILABLE


def pause(policy: RetryPolicy, retry: int, error: Error, random: Random) -> float | None:
    """Return the seconds to wait before the retry (0 is the first), None if the callee asks for too long a pause.

    Exponential with full jitter, on top of what the callee asks for, so that its callers don't all come back at once.
    """
    after = error.retry_after
    if after is not None and after > policy.longest_pause:
        return None
    backoff = min(policy.base.total_seconds() * policy.multiplier**retry, policy.longest_backoff.total_seconds())
    return random() * backoff + (max(0.0, after.total_seconds()) if after is not None else 0.0)


def retry(
    policy: RetryPolicy,
    budget: RetryBudget,
    *,
    sleep: Sleep = asyncio.sleep,
    random: Random = randomness.random,
    clock: Clock = monotonic,
) -> Layer:
    """Try calls again that failed for a passing reason: SAFE and KEYED operations, others where provably unsent.

    A KEYED call needs its `idempotency-key`. A stream of replies is retried until its first message, a stream of
    requests never (the layer is left out). Waits end before the deadline or are not begun. A call that is given up
    raises the last error, marked `final`, so that callers of this process don't retry in turn. `call.attempts` counts.
    """

    def layer(operation: Operation) -> Middleware | None:
        if operation.kind.client_streams or not policy.retries:
            return None
        tries = _Tries(operation, policy, budget, sleep=sleep, random=random, clock=clock)
        return tries.stream if operation.kind.server_streams else tries.single

    return layer


class _Tries:
    """The retry of one operation, bound at start; holds nothing of a call."""

    __slots__ = ("_budget", "_clock", "_idempotency", "_policy", "_random", "_sleep")

    def __init__(
        self,
        operation: Operation,
        policy: RetryPolicy,
        budget: RetryBudget,
        *,
        sleep: Sleep,
        random: Random,
        clock: Clock,
    ) -> None:
        self._idempotency = operation.idempotency
        self._policy = policy
        self._budget = budget
        self._sleep = sleep
        self._random = random
        self._clock = clock

    async def single(self, call: Call, proceed: Handler) -> Reply:
        self._budget.begin()
        while True:
            attempt = call.fork()
            attempt.attempts = call.attempts
            try:
                reply = await proceed(attempt)
            except Error as error:
                attempt.end(error)
                if not await self._again(call, error):
                    _adopt(call, attempt)
                    raise
            except BaseException as raised:
                attempt.end(_ended_by(call, raised))
                raise
            else:
                attempt.end()
                _adopt(call, attempt)
                return reply

    async def stream(self, call: Call, proceed: Handler) -> Reply:
        return self._stream(call, proceed)

    async def _stream(self, call: Call, proceed: Handler) -> AsyncIterator[Any]:
        self._budget.begin()
        began = False
        while True:
            attempt = call.fork()
            attempt.attempts = call.attempts
            try:
                replies: AsyncIterator[Any] = await proceed(attempt)  # type: ignore[assignment]  # as its kind says
                try:
                    async for reply in replies:
                        began = True
                        yield reply
                finally:
                    await _close(replies)
            except Error as error:
                attempt.end(error)
                if began or not await self._again(call, error):
                    _adopt(call, attempt)
                    raise
            except BaseException as raised:
                attempt.end(_ended_by(call, raised))
                _adopt(call, attempt)
                raise
            else:
                attempt.end()
                _adopt(call, attempt)
                return

    async def _again(self, call: Call, error: Error) -> bool:
        """Wait for the next attempt; False, with the error marked, where there is none."""
        if not retryable(error, repeatable=self._repeatable(call)):
            return False
        wait = None
        if call.attempts <= self._policy.retries:
            wait = pause(self._policy, call.attempts - 1, error, self._random)
        if wait is None or wait >= call.deadline.remaining(self._clock) or not self._budget.spend():
            error.final = True
            return False
        await self._sleep(wait)
        call.attempts += 1
        return True

    def _repeatable(self, call: Call) -> bool:
        if self._idempotency is Idempotency.KEYED:
            return call.metadata.header(b"idempotency-key") is not None
        return self._idempotency is Idempotency.SAFE


async def _close(replies: AsyncIterator[Any]) -> None:
    close = getattr(replies, "aclose", None)  # a middleware's own iterator may have none
    if close is not None:
        await close()


def _adopt(call: Call, attempt: Call) -> None:
    """Give the call the reply metadata of the attempt that decided it."""
    if attempt._reply_headers is not None:
        call.reply_headers.extend(attempt._reply_headers)
    if attempt._reply_trailers is not None:
        call.reply_trailers.extend(attempt._reply_trailers)


def _ended_by(call: Call, raised: BaseException) -> Error:
    if isinstance(raised, asyncio.CancelledError | GeneratorExit):
        if call.cancellation is Cancellation.DEADLINE:
            return DeadlineExceeded("the deadline passed before the answer was there")
        return Cancelled("the caller gave up")
    return Error(f"{type(raised).__name__} in the attempt")
