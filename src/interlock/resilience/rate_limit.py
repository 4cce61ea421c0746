"""Rate limits of SERVED calls: what the contract allows each caller, told in leading metadata (IETF draft 11)."""

import math
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Literal, TypeAlias

from interlock.call import Call, Handler, Layer, Middleware, Reply
from interlock.contract.model import Operation, RateLimit
from interlock.deadline import Clock, monotonic
from interlock.errors import UNPROCESSED, ResourceExhausted
from interlock.metadata import Metadata
from interlock.resilience.host_limit import HostLimit, HostTable, Taken
from interlock.resilience.redis_limit import RedisCounts, RedisLimit
from interlock.resilience.sliding import SlidingCount

Taking: TypeAlias = Callable[[Hashable], Taken]
By: TypeAlias = Literal["principal", "key", "address"]
"""Who a caller is to the limits: a principal, each of its API keys by itself, or an address."""

LATELY = 60.0
"""Seconds, at least, for which the highest use of a limit is shown."""


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
    """Makes the limits of an app's operations, kept by one of `workers` processes that serve alike.

    With `shared`, a file, they keep them together. Without, each has its share: rounded down, but at least 1, so that a
    host keeps to the contract unless it has more workers than there are requests. With `redis` hosts keep them
    together. `by` says who a caller is. `close` it in the end.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        callers: int = 10_000,
        by: By = "principal",
        shared: Path | None = None,
        redis: RedisCounts | None = None,
        clock: Clock = monotonic,
    ) -> None:
        if workers < 1:
            raise ValueError("workers must be at least 1")
        self.caller = _CALLERS[by]
        self._workers = workers if shared is None else 1
        self._callers = callers
        self._table = HostTable(shared) if shared is not None and workers > 1 else None
        self._redis = redis
        self._clock = clock
        self._used: dict[str, Peak] = {}

    def share(self, limit: RateLimit) -> int:
        """Return how many requests of the limit are this process's."""
        return max(1, limit.requests // self._workers)

    def told(self, limit: RateLimit) -> int:
        """Return how many requests callers are told that they have."""
        return limit.requests if self._redis is not None else self.share(limit)

    def limit(self, limit: RateLimit, name: str = "") -> "SlidingLimit | HostLimit":
        """Return this host's limit of the operation of that name: this process's share, or that of all workers."""
        if self._table is not None:
            return HostLimit(self._table, name, limit.requests, limit.per, clock=self._clock)
        return SlidingLimit(self.share(limit), limit.per, callers=self._callers, clock=self._clock)

    def across(self, limit: RateLimit, name: str) -> RedisLimit | None:
        """Return the limit of all hosts together, None where each is on its own."""
        if self._redis is None:
            return None
        return RedisLimit(self._redis, name, limit.requests, limit.per, self.limit(limit, name).take)

    def peak(self, path: str) -> "Peak":
        """Return what notes the use of an operation's limit."""
        return self._used.setdefault(path, Peak(self._clock))

    def used(self) -> Mapping[tuple[str, ...], float]:
        """Return the highest share of each operation's limit that any caller has used lately, by path."""
        return {(path,): peak.read() for path, peak in self._used.items()}

    async def close(self) -> None:
        """Let go of the file and of Redis."""
        if self._table is not None:
            self._table.close()
        if self._redis is not None:
            await self._redis.close()


class Peak:
    """The highest share of a limit lately: of the last `LATELY` to twice that many seconds."""

    __slots__ = ("_before", "_began", "_clock", "_now")

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._before = 0.0
        self._now = 0.0

    def note(self, share: float) -> None:
        """Take a share that was just used."""
        if share > self._now:
            self.read()
            self._now = max(self._now, share)

    def read(self) -> float:
        """Return the highest."""
        passed = self._clock() - self._began
        if passed >= LATELY:
            self._before = self._now if passed < 2 * LATELY else 0.0
            self._now = 0.0
            self._began += passed
        return max(self._before, self._now)


def rate_limit(limiter: Limiter) -> Layer:
    """Keep every caller to the operation's limit; left out where the contract sets none.

    A caller is a principal, or an address where nobody authenticated. Every reply says in its leading metadata what
    the limit is and what is left of it; beyond it calls end with RESOURCE_EXHAUSTED and `retry_after`.
    """

    def layer(operation: Operation) -> Middleware | None:
        declared = operation.rate_limit
        if declared is None:
            return None
        caller = limiter.caller
        admit = _admission(limiter, declared, operation.path)
        across = limiter.across(declared, operation.path)
        if across is not None:
            ask = across.take

            async def limit_across(call: Call, proceed: Handler) -> Reply:
                admit(call, await ask(caller(call)))
                return await proceed(call)

            return limit_across
        take = limiter.limit(declared, operation.path).take

        def limit_rate(call: Call, proceed: Handler) -> Awaitable[Reply]:
            admit(call, take(caller(call)))
            return proceed(call)

        return limit_rate

    return layer


def _admission(limiter: Limiter, limit: RateLimit, path: str) -> Callable[[Call, Taken], None]:
    """Return what tells a caller what it got, and raises where that is nothing."""
    requests, seconds = limiter.told(limit), limit.per.total_seconds()
    policy = (b"ratelimit-policy", b'"default";q=%d;w=%d' % (requests, math.ceil(seconds)))
    note = limiter.peak(path).note

    def admit(call: Call, taken: Taken) -> None:
        note((requests - taken.remaining) / requests)
        state = b'"default";r=%d;t=%d' % (taken.remaining, math.ceil(taken.until_more))
        call.reply_headers.extend(Metadata.from_raw([policy, (b"ratelimit", state)]))
        if not taken.allowed:
            raise _refusal(taken, requests, seconds)

    return admit


def _by_principal(call: Call) -> Hashable:
    principal = call.principal
    if principal is not None:
        return (principal.issuer, principal.subject)
    return _by_address(call)


def _by_key(call: Call) -> Hashable:
    key = call.metadata.header(b"x-api-key") if call.principal is not None else None
    return _by_principal(call) if key is None else blake2b(key, digest_size=16).digest()  # no secret is kept


def _by_address(call: Call) -> Hashable:
    return call.peer.address.rpartition(":")[0]  # every connection has a port of its own


_CALLERS: Mapping[By, Callable[[Call], Hashable]] = {
    "principal": _by_principal,
    "key": _by_key,
    "address": _by_address,
}


def _refusal(taken: Taken, share: int, seconds: float) -> ResourceExhausted:
    wait = timedelta(milliseconds=math.ceil(taken.until_more * 1000))
    return ResourceExhausted(
        f"the limit of {share} requests in {seconds:g} s is used up; more from {wait.total_seconds():g} s on",
        retry_after=wait,
        metadata=[UNPROCESSED],
    )
