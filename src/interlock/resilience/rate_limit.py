"""Rate limits of SERVED calls: what the contract allows each caller, told in leading metadata (IETF draft 11)."""

import math
from collections.abc import Hashable
from datetime import timedelta
from typing import NamedTuple

from interlock.call import Call, Handler, Layer, Middleware, Reply
from interlock.contract.model import Operation, RateLimit
from interlock.deadline import Clock, monotonic
from interlock.errors import ResourceExhausted
from interlock.metadata import Metadata
from interlock.resilience.sliding import SlidingCount


class Taken(NamedTuple):
    """What a caller got: whether the call may go on, how many are left, in how many seconds there are more."""

    allowed: bool
    remaining: int
    until_more: float


class SlidingLimit:
    """At most `requests` in any window of `per`, for each caller; a refused call takes nothing.

    A caller who keeps to `requests` in a window one sixteenth longer is never refused. At most `callers` are
    remembered; beyond that those who have been quiet for longest are forgotten. For one event loop.
    """

    __slots__ = ("_by_caller", "_callers", "_clock", "_requests", "_span")

    def __init__(self, requests: int, per: timedelta, *, callers: int = 10_000, clock: Clock = monotonic) -> None:
        if requests < 1 or per <= timedelta() or callers < 1:
            raise ValueError("a rate limit needs at least one request, one caller, and a window above zero")
        self._requests = requests
        self._span = per.total_seconds()
        self._callers = callers
        self._clock = clock
        self._by_caller: dict[Hashable, SlidingCount] = {}

    def take(self, caller: Hashable) -> Taken:
        """Take one request out of the caller's share, if there is one left."""
        now = self._clock()
        used = self._by_caller.pop(caller, None)
        if used is None:
            used = SlidingCount(self._span)
            self._make_room(now)
        self._by_caller[caller] = used  # at the end: the order is that of the last use
        left = self._requests - used.at(now)
        if left > 0:
            used.add(now)
        return Taken(left > 0, max(0, left - 1), used.until_fewer(now))

    def __len__(self) -> int:
        return len(self._by_caller)

    def _make_room(self, now: float) -> None:
        """Forget callers who have all of their share again, two at a time, and the quietest if there are too many."""
        for _ in range(2):
            quietest = next(iter(self._by_caller), None)
            if quietest is None:
                return
            if len(self._by_caller) < self._callers and self._by_caller[quietest].at(now):
                return
            del self._by_caller[quietest]


class Limiter:
    """Makes the limits of an app's operations: the share of one of `workers` processes that serve alike.

    The share is rounded down, but at least 1, so that a host keeps to the contract unless it has more workers than
    there are requests.
    """

    def __init__(self, *, workers: int = 1, callers: int = 10_000, clock: Clock = monotonic) -> None:
        if workers < 1:
            raise ValueError("workers must be at least 1")
        self._workers = workers
        self._callers = callers
        self._clock = clock

    def share(self, limit: RateLimit) -> int:
        """Return how many requests of the limit are this process's."""
        return max(1, limit.requests // self._workers)

    def limit(self, limit: RateLimit) -> SlidingLimit:
        """Return this process's share of the limit, with nothing used."""
        return SlidingLimit(self.share(limit), limit.per, callers=self._callers, clock=self._clock)


def rate_limit(limiter: Limiter) -> Layer:
    """Keep every caller to the operation's limit; left out where the contract sets none.

    A caller is a principal, or an address where nobody authenticated. Every reply says in its leading metadata what
    the limit is and what is left of it; beyond it calls end with RESOURCE_EXHAUSTED and `retry_after`.
    """

    def layer(operation: Operation) -> Middleware | None:
        declared = operation.rate_limit
        if declared is None:
            return None
        take = limiter.limit(declared).take
        seconds = declared.per.total_seconds()
        policy = (b"ratelimit-policy", b'"default";q=%d;w=%d' % (limiter.share(declared), math.ceil(seconds)))

        async def limit_rate(call: Call, proceed: Handler) -> Reply:
            taken = take(_caller(call))
            state = b'"default";r=%d;t=%d' % (taken.remaining, math.ceil(taken.until_more))
            call.reply_headers.extend(Metadata.from_raw([policy, (b"ratelimit", state)]))
            if not taken.allowed:
                raise _refusal(taken, limiter.share(declared), seconds)
            return await proceed(call)

        return limit_rate

    return layer


def _caller(call: Call) -> Hashable:
    principal = call.principal
    if principal is not None:
        return (principal.issuer, principal.subject)
    return call.peer.address.rpartition(":")[0]  # every connection has a port of its own


def _refusal(taken: Taken, share: int, seconds: float) -> ResourceExhausted:
    wait = timedelta(milliseconds=math.ceil(taken.until_more * 1000))
    return ResourceExhausted(
        f"the limit of {share} requests in {seconds:g} s is used up; more from {wait.total_seconds():g} s on",
        retry_after=wait,
    )
