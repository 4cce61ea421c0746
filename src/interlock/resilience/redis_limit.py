"""Rate limits that all hosts keep together, in Redis: one atomic script a call, in Redis' own clock."""

import logging
from collections.abc import Hashable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from interlock.deadline import Clock, monotonic
from interlock.errors import Unavailable
from interlock.resilience.host_limit import Taken, key_of
from interlock.resilience.sliding import SLOTS

if TYPE_CHECKING:
    from interlock.resilience.rate_limit import Taking

log = logging.getLogger("interlock.limits")

TIMEOUT = 0.25
"""Seconds that Redis may take to answer."""
AWAY = 1.0
"""Seconds for which a Redis that did not answer is not asked again."""

# KEYS[1] the caller's counts, a hash by slot; ARGV: requests, milliseconds of a slot, slots of a window.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local requests, width, slots = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local slot = math.floor(now / width)
local used, oldest = 0, slot
local counts = redis.call('HGETALL', KEYS[1])
for i = 1, #counts, 2 do
  local each = tonumber(counts[i])
  if each < slot - slots then
    redis.call('HDEL', KEYS[1], counts[i])
  else
    used = used + tonumber(counts[i + 1])
    if each < oldest then oldest = each end
  end
end
local allowed = 0
if used < requests then
  allowed = 1
  redis.call('HINCRBY', KEYS[1], string.format('%.0f', slot), 1)
  redis.call('PEXPIRE', KEYS[1], math.ceil((slots + 1) * width))
end
return {allowed, math.max(0, requests - used - 1), math.ceil((oldest + slots + 1) * width - now)}
"""


class RedisCounts:
    """The connection to Redis and what is known of its health; connects when it is first asked.

    While it does not answer, said in the log once, limits are kept by each host for itself (`closed` False), or every
    limited call is refused as UNAVAILABLE. For one event loop.
    """

    def __init__(self, url: str, *, closed: bool = False, clock: Clock = monotonic) -> None:
        try:
            from redis.asyncio import Redis  # noqa: PLC0415 - an extra, where limits across hosts are wanted
            from redis.exceptions import RedisError  # noqa: PLC0415
        except ImportError:
            raise RuntimeError("limits across hosts need Redis' client: pip install 'interlock[redis]'") from None
        self._redis: Any = Redis.from_url(
            url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, health_check_interval=30
        )
        self._failures = (RedisError, OSError)
        self._script = self._redis.register_script(_SCRIPT)
        self._closed = closed
        self._clock = clock
        self._away_until = float("-inf")
        self._down = False

    async def take(self, key: str, requests: int, width: float) -> Taken | None:
        """Take one request; None where Redis does not answer and hosts are on their own, else Unavailable then."""
        if self._clock() >= self._away_until:
            try:
                allowed, remaining, until_more = await self._script(
                    keys=[key], args=[requests, repr(width * 1000), SLOTS]
                )
            except self._failures as error:
                self._failed(error)
            else:
                self._answered()
                return Taken(bool(allowed), remaining, until_more / 1000)
        if self._closed:
            raise Unavailable("limits can't be checked now", retry_after=timedelta(seconds=AWAY))
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _failed(self, error: Exception) -> None:
        self._away_until = self._clock() + AWAY
        if not self._down:
            self._down = True
            then = "calls with a limit are refused" if self._closed else "each host keeps the limits for itself"
            log.error("Redis does not answer, %s until it does: %s: %s", then, type(error).__name__, error)

    def _answered(self) -> None:
        if self._down:
            self._down = False
            log.warning("Redis answers again; limits hold across hosts")


class RedisLimit:
    """One operation's limit, for all hosts together; `own` keeps it where Redis does not answer."""

    def __init__(self, counts: RedisCounts, name: str, requests: int, per: timedelta, own: "Taking") -> None:
        self._counts = counts
        self._name = f"{name} {requests}/{per.total_seconds():g}"
        self._requests = requests
        self._width = per.total_seconds() / SLOTS
        self._own = own

    async def take(self, caller: Hashable) -> Taken:
        """Take one request out of the caller's share, if there is one left."""
        key = f"interlock:limit:{key_of(self._name, caller).hex()}"
        taken = await self._counts.take(key, self._requests, self._width)
        return self._own(caller) if taken is None else taken
