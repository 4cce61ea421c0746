"""Circuit breakers of SENT calls: a neighbour that fails is left alone for a while, then tried with a few calls.

`CircuitBreaker` is the state machine alone; `circuit_breaker` wires one per target and operation into the chain.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import TypeAlias

from interlock.call import Call, Handler, Layer, Middleware, Outcome, Reply
from interlock.contract.model import Operation
from interlock.deadline import Clock, monotonic
from interlock.errors import Code, Error, Unavailable
from interlock.resilience.concurrency import BulkheadFull
from interlock.resilience.sliding import SlidingCount

log = logging.getLogger("interlock.breaker")


class State(Enum):
    """Whether calls pass: all, none, or a few that find out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Result(Enum):
    """What a call says about the callee; IGNORED says nothing."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


OnChange: TypeAlias = Callable[[str, State, State], None]
"""Told the breaker's name, the old and the new state, for metrics and logs; must not raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, for how long, and how many calls then try.

    It opens once `failure_rate` (above 0, up to 1) of at least `minimum_calls` that ended within `window` failed, or
    `consecutive_failures` in a row; 0 switches that rule off, but not both. Where `slow` is set, it opens too once
    `slow_rate` of so many calls succeeded only after that time, and a slow probe is a failed one. After `open_for`
    exactly `probes` calls pass; when all of them succeeded it closes, when one fails it opens again.
    """

    window: timedelta = timedelta(seconds=10)
    minimum_calls: int = 20
    failure_rate: float = 0.5
    consecutive_failures: int = 0
    open_for: timedelta = timedelta(seconds=5)
    probes: int = 3
    slow: timedelta | None = None
    slow_rate: float = 0.8

    def __post_init__(self) -> None:
        if min(self.window, self.open_for) <= timedelta():
            raise ValueError("window and open_for of a breaker must be above zero")
        if not 0 < self.slow_rate <= 1 or (self.slow is not None and self.slow <= timedelta()):
            raise ValueError("a breaker needs 0 < slow_rate <= 1, and slow above zero where it is set")
        if not 0 < self.failure_rate <= 1 or self.probes < 1:
            raise ValueError("a breaker needs 0 < failure_rate <= 1 and at least one probe")
        if min(self.minimum_calls, self.consecutive_failures) < 0 or not self.minimum_calls + self.consecutive_failures:
            raise ValueError("a breaker needs minimum_calls or consecutive_failures above zero")


def counting(max_failures: int = 5, timeout: timedelta = timedelta(seconds=30)) -> BreakerPolicy:
    """Return the count-and-timeout form: opens after `max_failures` in a row, one probe after `timeout` decides."""
    if max_failures < 1:
        raise ValueError("max_failures must be at least 1")
    return BreakerPolicy(consecutive_failures=max_failures, minimum_calls=0, open_for=timeout, probes=1)


class CircuitBreaker:
    """The state machine, without locks, for one event loop.

    `enter` before a call, `leave` after it with the ticket: no more, so nothing is held while the call runs. What a
    call says counts only in the period (between two changes of state) in which it entered.
    """

    __slots__ = (
        "_calls",
        "_clock",
        "_failures",
        "_in_a_row",
        "_on_change",
        "_open_for",
        "_passed",
        "_period",
        "_policy",
        "_since",
        "_slow",
        "_slow_calls",
        "_span",
        "_state",
        "_succeeded",
        "name",
    )

    def __init__(
        self,
        policy: BreakerPolicy,
        clock: Clock = monotonic,
        *,
        name: str = "",
        on_change: OnChange | None = None,
    ) -> None:
        self.name = name
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._span = policy.window.total_seconds()
        self._open_for = policy.open_for.total_seconds()
        self._state = State.CLOSED
        self._since = 0.0
        self._period = 0
        self._passed = 0
        self._succeeded = 0
        self._in_a_row = 0
        self._calls = SlidingCount(self._span)
        self._failures = SlidingCount(self._span)
        self._slow_calls = SlidingCount(self._span)
        self._slow = float("inf") if policy.slow is None else policy.slow.total_seconds()

    @property
    def state(self) -> State:
        """The state; an open breaker turns half-open when the first call after its time enters."""
        return self._state

    def enter(self) -> int | None:
        """Return the ticket of a call that may pass, None for one that may not."""
        if self._state is State.CLOSED:
            return self._period
        if self._state is State.OPEN:
            if self._clock() - self._since < self._open_for:
                return None
            self._become(State.HALF_OPEN)
        elif self._passed >= self._policy.probes:
            # probes that never come back (an endless stream) must not keep it half-open for ever
            if self._clock() - self._since < self._open_for:
                return None
            self._restart()
        self._passed += 1
        return self._period

    def leave(self, ticket: int, result: Result, seconds: float = 0.0) -> None:
        """Take what the call of that ticket, which took `seconds`, said about the callee; once for each ticket."""
        if ticket != self._period:
            return
        slow = seconds > self._slow and result is Result.SUCCESS
        if self._state is State.HALF_OPEN:
            self._probed(Result.FAILURE if slow else result)
        elif result is Result.SUCCESS:
            self._calls.add(self._clock())
            self._in_a_row = 0
            if slow:
                self._succeeded_slowly()
        elif result is Result.FAILURE:
            self._failed()

    def retry_after(self) -> timedelta:
        """Return how long to stay away: until the breaker lets a call try, or a tenth of that while some do."""
        if self._state is State.CLOSED:
            return timedelta()
        if self._state is State.HALF_OPEN:
            return self._policy.open_for / 10
        return timedelta(seconds=max(0.0, self._since + self._open_for - self._clock()))

    def _succeeded_slowly(self) -> None:
        policy, now = self._policy, self._clock()
        self._slow_calls.add(now)
        calls = self._calls.at(now)
        if 0 < policy.minimum_calls <= calls and self._slow_calls.at(now) >= policy.slow_rate * calls:
            self._become(State.OPEN)

    def _failed(self) -> None:
        policy, now = self._policy, self._clock()
        self._calls.add(now)
        self._failures.add(now)
        self._in_a_row += 1
        calls = self._calls.at(now)
        too_many = 0 < policy.minimum_calls <= calls and self._failures.at(now) >= policy.failure_rate * calls
        if too_many or 0 < policy.consecutive_failures <= self._in_a_row:
            self._become(State.OPEN)

    def _probed(self, result: Result) -> None:
        if result is Result.FAILURE:
            self._become(State.OPEN)
        elif result is Result.IGNORED:
            self._passed -= 1  # it told nothing, so another may try
        else:
            self._succeeded += 1
            if self._succeeded == self._policy.probes:
                self._become(State.CLOSED)

    def _become(self, state: State) -> None:
        old, self._state = self._state, state
        self._restart()
        if self._on_change is not None:
            self._on_change(self.name, old, state)

    def _restart(self) -> None:
        self._period += 1
        self._since = self._clock()
        self._passed = 0
        self._succeeded = 0
        self._in_a_row = 0
        self._calls = SlidingCount(self._span)
        self._failures = SlidingCount(self._span)
        self._slow_calls = SlidingCount(self._span)


class CircuitOpen(Unavailable):
    """The call was not sent: the circuit to its target is open; `retry_after` says when it is worth trying."""

    unsent = True
    event = "circuit_open"


_FAILURES = frozenset((Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.DATA_LOSS, Code.UNKNOWN))


def result_of(error: Error | None) -> Result:
    """Tell what a call's end says about the callee: only its own failures count against it.

    Refusals (NOT_FOUND, INVALID_ARGUMENT, RESOURCE_EXHAUSTED …) and the caller's own doing say nothing: a CANCELLED
    call, a deadline that had passed before the call was sent, an exception that came from no callee. Nor does what the
    callee calls final: it works itself and passes on the failure of one behind it, on which its own breaker looks.
    """
    if error is None:
        return Result.SUCCESS
    if error.final or error.code not in _FAILURES or isinstance(error, BulkheadFull):
        return Result.IGNORED
    if error.code is Code.UNKNOWN:
        return Result.FAILURE if error.received else Result.IGNORED
    if error.code is Code.DEADLINE_EXCEEDED and error.unsent:
        return Result.IGNORED
    return Result.FAILURE


def _logged(name: str, old: State, new: State) -> None:
    log.log(_LEVELS[new], "circuit %s: %s, was %s", name, new.value, old.value)


_LEVELS = {State.OPEN: logging.WARNING, State.HALF_OPEN: logging.INFO, State.CLOSED: logging.INFO}


class Breakers:
    """The breakers of one target, one per operation, made when they are asked for; `target` stands in their names.

    A change of state is logged, unless `on_change` is told of it instead.
    """

    def __init__(
        self,
        policy: BreakerPolicy,
        *,
        target: str = "",
        clock: Clock = monotonic,
        on_change: OnChange | None = None,
    ) -> None:
        self._policy = policy
        self.target = target
        self._clock = clock
        self._on_change = on_change or _logged
        self._by_path: dict[str, CircuitBreaker] = {}

    def of(self, operation: Operation, policy: BreakerPolicy | None = None) -> CircuitBreaker:
        """Return the operation's breaker, made with `policy` if given; its name is the target and the RPC path."""
        breaker = self._by_path.get(operation.path)
        if breaker is None:
            breaker = CircuitBreaker(
                policy or self._policy, self._clock, name=f"{self.target}{operation.path}", on_change=self._on_change
            )
            self._by_path[operation.path] = breaker
        return breaker

    def states(self) -> dict[str, State]:
        """Return the state of every breaker, by RPC path."""
        return {path: breaker.state for path, breaker in self._by_path.items()}


def circuit_breaker(breakers: Breakers) -> Layer:
    """Refuse calls at once with `CircuitOpen` while the target fails; streams are judged when they are over."""

    def layer(operation: Operation) -> Middleware:
        breaker = breakers.of(operation)
        streams = operation.kind.server_streams  # how long one lasts is its own affair

        def settle(ticket: int, outcome: Outcome) -> None:
            breaker.leave(ticket, result_of(outcome.error), 0.0 if streams else outcome.duration)

        async def break_circuit(call: Call, proceed: Handler) -> Reply:
            ticket = breaker.enter()
            if ticket is None:
                raise _refusal(breaker)
            call.on_end(partial(settle, ticket))
            return await proceed(call)

        return break_circuit

    return layer


def _refusal(breaker: CircuitBreaker) -> CircuitOpen:
    refusal = CircuitOpen(f"circuit open: {breaker.name} failed lately", retry_after=breaker.retry_after())
    refusal.received = True  # the callee's affair as much as what it answered before; not to be shown to our own caller
    return refusal
