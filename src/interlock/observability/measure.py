"""Measuring calls: the seam by which meters see every outcome. A meter binds its children once, at start."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakSet

from interlock.call import Call, Handler, Layer, Middleware, Outcome, Reply
from interlock.contract.model import Operation
from interlock.observability.tracing import Tracing, tracer_of

if TYPE_CHECKING:
    from interlock.observability.bulkheads import Places
    from interlock.observability.metrics import States  # prometheus_client costs time, and clients come here too

Meter: TypeAlias = Callable[[Operation], Callable[[Outcome], None] | None]
"""Asked once per operation, at start, for what records its outcomes; None leaves the operation unmeasured."""


def metrics(meter: Meter) -> Layer:
    """Have `meter` record every outcome, streams when they are over."""

    def layer(operation: Operation) -> Middleware | None:
        record = meter(operation)
        if record is None:
            return None

        def measure(call: Call, proceed: Handler) -> Awaitable[Reply]:
            call.on_end(record)
            return proceed(call)

        return measure

    return layer


def metrics_of_caller(
    target: str = "", states: "States | None" = None, places: "Places | None" = None, *, external: bool = False
) -> Layer:
    """Have SENT calls recorded by the app that serves the call they are made for: `Tracing.sent` of its trace.

    So a client need not know whose it is; its calls outside any served call are not measured. Behind `trace`. `states`
    are those of the client's breakers and `places` those of its bulkheads, which the same app shows under `target`.
    `external`: the calls go to a service without a contract, over plain HTTP (`Tracing.external`).
    """
    told: WeakSet[Tracing] = WeakSet()

    def layer(operation: Operation) -> Middleware:
        known: Tracing | None = None
        record: Callable[[Outcome], None] | None = None

        def measure(call: Call, proceed: Handler) -> Awaitable[Reply]:
            nonlocal known, record
            tracing = tracer_of(call.trace)
            if tracing is not known:
                known = tracing
                meter = tracing and (tracing.external if external else tracing.sent)
                record = meter(operation) if meter else None
                if tracing is not None and tracing not in told:
                    told.add(tracing)
                    if tracing.breakers is not None and states is not None:
                        tracing.breakers(target, states)
                    if tracing.bulkheads is not None and places is not None:
                        tracing.bulkheads(target, places)
            if record is not None:
                call.on_end(record)
            return proceed(call)

        return measure

    return layer
