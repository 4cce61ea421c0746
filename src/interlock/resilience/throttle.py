"""The throttle of SENT calls: a client keeps itself under the rate limit that it was told.

Told by `RateLimit` and `RateLimit-Policy` (IETF draft 11) with every reply, and by `Retry-After` with a refusal. A call
that would be refused waits at home instead, or ends at once where its deadline is earlier than the next free place.
"""

import asyncio
import math
import re
from collections import deque
from collections.abc import Awaitable, Hashable
from datetime import timedelta
from functools import partial

from interlock.call import Call, Handler, Layer, Middleware, Outcome, Reply, current_call
from interlock.contract.model import Operation, RateLimit
from interlock.deadline import Clock, monotonic
from interlock.errors import ResourceExhausted, TooLarge

LONGEST = 3600.0
"""Seconds for which a limit that was told is believed; then one call asks anew."""
ASKING = 1.0
"""Seconds for which others wait for the answer of the call that asks."""
MOST_WAITING = 1000
"""Calls that wait for one limit; one more ends at once, so that a limit that is used up fills no memory."""
_MOST_CALLERS = 1024

_ITEM = re.compile(rb"[^,]{0,256}")
_ALONE = re.compile(rb'"[^",]{0,64}";r=(\d{1,15});t=(\d{1,15})\Z')
"""What one limit reads, as services of ours write it."""
_NUMBER = re.compile(rb";\s*([rtqw])=(\d{1,15})(?![\d.])")


class Throttled(ResourceExhausted):
    """The call was not sent: the callee's limit is used up, and told so; `retry_after` says when there is more."""

    unsent = True
    event = "throttled"


class Throttle:
    """What one caller was told of one limit; for one event loop.

    Of the calls that the callee still allows, those under way are taken off, for it may not have counted them yet. Once
    the limit is used up and its time over, one call asks, and the others wait for what it is told.
    """

    __slots__ = (
        "_asking",
        "_clock",
        "_left",
        "_timer",
        "_until",
        "_waiting",
        "policy",
        "policy_read",
        "under_way",
        "used_up",
    )

    def __init__(self, limit: RateLimit | None = None, clock: Clock = monotonic) -> None:
        self._clock = clock
        self.policy = None if limit is None else (limit.requests, limit.per.total_seconds())
        """So many calls in so many seconds, where that is known."""
        self.policy_read: bytes | None = None
        self._left: float = math.inf
        self._until = 0.0
        self._asking = False
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.under_way = 0
        self.used_up = False

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    def enter(self) -> bool:
        """Take a place for a call, if there is one and nobody waits; each place taken must be left."""
        return not self._waiting and self._take()

    async def wait(self, longest: float) -> bool:
        """Wait for a place, at most `longest` seconds; False at once where it is known to come later, or many wait."""
        known = self.used_up and not self._asking
        if longest <= 0 or len(self._waiting) >= MOST_WAITING or (known and self._until - self._clock() >= longest):
            return False
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(place)
        self._arm()
        timer = loop.call_later(longest, _give_up, place) if longest != math.inf else None
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.result():
                self.leave()  # it was given the place, and is gone
                self.give_back()
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if place in self._waiting:
                self._waiting.remove(place)

    def leave(self) -> None:
        """Leave a place; what the reply told of the limit is told apart."""
        self.under_way -= 1

    def give_back(self) -> None:
        """Take that a call, which has left, took nothing of the limit."""
        self._left += 1
        self._wake()

    def told(self, remaining: int, seconds: float) -> None:
        """Take that `remaining` calls are left for `seconds`."""
        self._asking = False
        self._left = max(0, remaining - self.under_way)
        self.used_up = remaining == 0
        self._until = self._clock() + min(max(0.0, seconds), LONGEST)
        self._wake()

    def unlimited(self) -> None:
        """Take that a reply told of no limit."""
        self._left, self.policy, self.policy_read = math.inf, None, None
        self.used_up = self._asking = False
        self._wake()

    def retry_after(self) -> timedelta:
        """Return how long it takes until there is more."""
        return timedelta(seconds=max(0.0, self._until - self._clock()))

    def _take(self) -> bool:
        now = self._clock()
        if now >= self._until:
            self._begin_anew(now)
        if self._left <= 0:
            return False
        self._left -= 1
        self.under_way += 1
        return True

    def _begin_anew(self, now: float) -> None:
        """Nothing that was told holds any more."""
        if self.used_up or self.policy is None:
            self._asking = self.used_up
            self._left = 1 if self.used_up else math.inf
            self._until = now + ASKING
        else:
            requests, seconds = self.policy
            self._left = max(1, requests - self.under_way)
            self._until = now + seconds

    def _wake(self) -> None:
        while self._waiting:
            if self._waiting[0].done():
                del self._waiting[0]
            elif self._take():
                self._waiting.popleft().set_result(True)
            else:
                break
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            wait = max(0.001, self._until - self._clock())
            self._timer = asyncio.get_running_loop().call_later(wait, self._wake)


def _give_up(place: "asyncio.Future[bool]") -> None:
    if not place.done():
        place.set_result(False)


class Throttles:
    """The throttles of one client, made when they are asked for.

    With `together` all operations have one limit, as a third party's API key has; else each has its own, and each
    caller of ours that the client speaks for.
    """

    def __init__(self, *, together: bool = False, clock: Clock = monotonic) -> None:
        self._together = together
        self._clock = clock
        self._known: dict[Hashable, Throttle] = {}

    def of(self, operation: Operation) -> Throttle:
        """Return the throttle of a call that is made now."""
        key: Hashable = None
        if not self._together:
            serving = current_call.get()
            who = serving.principal if serving is not None else None
            key = (operation.path, None) if who is None else (operation.path, who.issuer, who.subject)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Throttle(operation.rate_limit, self._clock)
            self._forget()
        return found

    def _forget(self) -> None:
        if len(self._known) > _MOST_CALLERS:
            idle = (key for key, each in self._known.items() if not each.waiting and not each.under_way)
            self._known.pop(next(idle, None), None)


def throttle(throttles: Throttles, longest: timedelta = timedelta(seconds=30)) -> Layer:
    """Hold calls back while their limit is used up; `Throttled` where that takes `longest`, or beyond the deadline."""

    def layer(operation: Operation) -> Middleware:
        streams = operation.kind.server_streams
        most = longest.total_seconds()

        def hold_back(call: Call, proceed: Handler) -> Awaitable[Reply]:
            if call.handed_on:  # by a gateway: whoever asked is told of the limit, and may wait
                return proceed(call)
            found = throttles.of(operation)
            call.wants_metadata = True
            if not found.enter():
                return wait(found, call, proceed)
            return go(found, call, proceed)

        def go(found: Throttle, call: Call, proceed: Handler) -> Awaitable[Reply]:
            if streams:
                found.leave()  # it was counted when it opened; how long it runs does not matter
            call.on_end(partial(learn, found))
            return proceed(call)

        async def wait(found: Throttle, call: Call, proceed: Handler) -> Reply:
            if not await found.wait(min(call.deadline.at - monotonic(), most)):
                raise _refusal(found)
            return await go(found, call, proceed)

        def learn(found: Throttle, outcome: Outcome) -> None:
            error = outcome.error
            if not streams:
                found.leave()
            if isinstance(error, ResourceExhausted) and error.retry_after and not isinstance(error, TooLarge):
                found.told(0, error.retry_after.total_seconds())
            elif error is not None and error.unsent:
                found.give_back()
            else:
                _read(outcome.call, found, failed=error is not None)

        return hold_back

    return layer


def _read(call: Call, found: Throttle, *, failed: bool) -> None:
    headers = call._reply_headers
    given = headers.header(b"ratelimit") if headers is not None else None
    if headers is None or given is None:
        if not failed:
            found.unlimited()
        return
    policy = headers.header(b"ratelimit-policy")
    if policy != found.policy_read:
        found.policy_read = policy
        policies = [dict(_NUMBER.findall(item)) for item in _items(policy)]
        sound = [(int(each[b"q"]), min(float(each[b"w"]), LONGEST)) for each in policies if {b"q", b"w"} <= each.keys()]
        found.policy = min(sound) if sound else found.policy
    state = told_by(given)
    if state is not None:
        found.told(*state)
    elif not failed:
        found.unlimited()


def told_by(given: bytes) -> tuple[int, float] | None:
    """Return how many calls a `RateLimit` field leaves, for how many seconds: the tightest of its limits; else None."""
    only = _ALONE.match(given)
    if only is not None:
        return int(only[1]), min(float(only[2]), LONGEST)
    states = [state for item in _items(given) if {b"r", b"t"} <= (state := dict(_NUMBER.findall(item))).keys()]
    tightest = min(((int(each[b"r"]), -min(float(each[b"t"]), LONGEST)) for each in states), default=None)
    return None if tightest is None else (tightest[0], -tightest[1])


def _items(header: bytes | None) -> list[bytes]:
    return [] if header is None else _ITEM.findall(header[:2048])


def _refusal(found: Throttle) -> Throttled:
    wait = found.retry_after()
    error = Throttled(
        f"held back: the callee's rate limit is used up; more from {wait.total_seconds():.3g} s on", retry_after=wait
    )
    error.received = True  # our caller's fault as little as the callee's own refusal
    return error
