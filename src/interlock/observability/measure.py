"""Measuring calls: the seam by which meters see every outcome. A meter binds its children once, at start."""

from collections.abc import Callable
from typing import TypeAlias

from interlock.call import Call, Handler, Layer, Middleware, Outcome, Reply
from interlock.contract.model import Operation

Meter: TypeAlias = Callable[[Operation], Callable[[Outcome], None] | None]
"""Asked once per operation, at start, for what records its outcomes; None leaves the operation unmeasured."""


def metrics(meter: Meter) -> Layer:
    """Have `meter` record every outcome, streams when they are over."""

    def layer(operation: Operation) -> Middleware | None:
        record = meter(operation)
        if record is None:
            return None

        async def measure(call: Call, proceed: Handler) -> Reply:
            call.on_end(record)
            return await proceed(call)

        return measure

    return layer
