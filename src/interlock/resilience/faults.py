"""Fault injection: a share of the calls is delayed or ends in an error, to see what callers make of it.

Nobody has this layer who does not place it: `App(…, layers=[after("access", faults(Faults(…)))])`.
"""

import asyncio
import random as randomness
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

from interlock.call import Call, Handler, Layer, Middleware, Reply
from interlock.contract.model import Operation
from interlock.errors import Code, error_class

Random = Callable[[], float]
"""A number from 0 up to, not including, 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """`share` (0 to 1) of the calls waits `delay` and then, unless `code` is OK, ends in an error of that code.

    `operations` are RPC paths (`/package.Service/Method`); left out, all are meant.
    """

    share: float
    code: Code = Code.OK
    delay: timedelta = timedelta()
    operations: Collection[str] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.delay < timedelta():
            raise ValueError("faults need 0 <= share <= 1 and a delay that is not negative")
        if isinstance(self.operations, str):
            raise TypeError("operations are several paths, not one text")


def faults(policy: Faults, *, random: Random = randomness.random) -> Layer:
    """Inject faults, in either direction; a deadline that passes in the delay is kept as it always is."""

    def layer(operation: Operation) -> Middleware | None:
        if not policy.share or (policy.operations and operation.path not in policy.operations):
            return None

        def inject(call: Call, proceed: Handler) -> Awaitable[Reply]:
            return _fail(policy, call, proceed) if random() < policy.share else proceed(call)

        return inject

    return layer


async def _fail(policy: Faults, call: Call, proceed: Handler) -> Reply:
    if policy.delay:
        await asyncio.sleep(policy.delay.total_seconds())
    if policy.code is not Code.OK:
        raise error_class(policy.code)("injected fault")
    return await proceed(call)
