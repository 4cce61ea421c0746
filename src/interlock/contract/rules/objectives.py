"""The rule of objectives: what is promised can be."""

from collections.abc import Callable, Iterator
from datetime import timedelta

from interlock.contract.gen.interlock.v1.options_pb import Objectives
from interlock.contract.mistakes import Mistake
from interlock.contract.model import Source


def objectives_mistakes(subject: str, given: Objectives | None, where: Callable[[str], Source]) -> Iterator[Mistake]:
    """Yield what is wrong with the objectives of `subject`."""
    if given is None:
        return
    if not 0 <= given.success_ratio <= 1:
        message = f"{subject}: a success_ratio of {given.success_ratio:g} cannot be"
        yield Mistake(where("objectives"), message, "give the share that succeeds, above 0 and at most 1 (0.999)")
    if given.latency_p95 is not None and given.latency_p95.to_timedelta() <= timedelta():
        message = f"{subject}: its latency_p95 is not above 0"
        yield Mistake(where("objectives"), message, "give the time, `latency_p95: { nanos: 50000000 }`")
