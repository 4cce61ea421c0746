"""One plan carried out by several processes, for rates that one of them can't send."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Barrier, BrokenBarrierError
from typing import TypeAlias, TypeVar

from interlock.bench.latencies import Latencies
from interlock.bench.plan import Plan
from interlock.bench.run import Measured

T = TypeVar("T")

Start: TypeAlias = Callable[[], bool]
"""To be called once all is ready; returns when it is so in every process, True in the one that may tell of progress."""

_READY = 60.0  # seconds that processes may need until they are all ready

_barrier: Barrier | None = None  # set once in each child, which can be handed one only while it is made


def in_processes(count: int, work: Callable[[Start], T]) -> list[T]:
    """Run `work`, which must be picklable, in `count` fresh processes at once, and return what each returns.

    What one raises is raised; BrokenBarrierError where not all are ready within a minute.
    """
    context = get_context("spawn")  # never fork: grpcio may be running here
    barrier = context.Barrier(count)
    with ProcessPoolExecutor(count, mp_context=context, initializer=_join, initargs=(barrier,)) as pool:
        running = [pool.submit(_child, work) for _ in range(count)]
        failures = [failure for each in running if (failure := each.exception()) is not None]
    if failures:  # that others waited in vain for the one that failed says nothing
        raise next((each for each in failures if not isinstance(each, BrokenBarrierError)), failures[0])
    return [each.result() for each in running]


def _join(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - see there
    _barrier = barrier


def _child(work: Callable[[Start], T]) -> T:
    barrier = _barrier
    if barrier is None:
        raise RuntimeError("the process was not made for this")
    try:
        return work(lambda: _wait(barrier))
    except BaseException:
        barrier.abort()  # the others need not wait for one that will not come
        raise


def _wait(barrier: Barrier) -> bool:
    return barrier.wait(_READY) == 0


def together(plan: Plan, shares: Sequence[Measured]) -> Measured:
    """Put together what several processes measured of one `plan`."""
    latencies, lags, errors = Latencies(), Latencies(), Counter[str]()
    for each in shares:
        latencies.merge(each.latencies)
        lags.merge(each.lags)
        errors.update(each.errors)
    return Measured(
        plan=plan,
        succeeded=sum(each.succeeded for each in shares),
        errors=dict(errors),
        latencies=latencies,
        lags=lags,
        held=sum(each.held for each in shares),
        span=max(each.span for each in shares),
    )
