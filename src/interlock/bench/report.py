"""What a run found, as plain values for scripts and as rows for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interlock.bench.objectives import Goal, Judgement, State, judge, met
from interlock.bench.run import UNFINISHED, UNSENT, Measured

_BUSY = 0.9  # of one core; a generator that is busier sends late
_LATE = 0.01  # seconds; more than a timer's grain


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run and its verdict; `generator_cpu` is the share of one core that each sending process took here."""

    target: str
    operation: str
    measured: Measured
    judgements: tuple[Judgement, ...]
    generator_cpu: float

    @property
    def met(self) -> bool:
        """Whether no objective was missed."""
        return met(self.judgements)


def report(target: str, operation: str, measured: Measured, goals: Sequence[Goal], *, generator_cpu: float) -> Report:
    """Judge what was measured."""
    return Report(
        target=target,
        operation=operation,
        measured=measured,
        judgements=judge(measured, goals),
        generator_cpu=generator_cpu,
    )


def as_json(given: Report) -> dict[str, Any]:
    """Return dictionaries, lists, texts and numbers; latencies are in seconds."""
    measured, plan = given.measured, given.measured.plan
    return {
        "target": given.target,
        "operation": given.operation,
        "asked": {"requests_per_second": plan.rate, "seconds": plan.seconds, "in_flight": plan.in_flight},
        "arrivals": measured.latencies.count,
        "succeeded": measured.succeeded,
        "success_ratio": round(measured.success_ratio, 6),
        "errors": dict(sorted(measured.errors.items())),
        "requests_per_second": round(measured.rate, 2),
        "latency": {name: round(value, 6) for name, value in measured.latencies.summary().items()},
        "generator": {
            "lag_p95": round(measured.lags.quantile(0.95), 6),
            "cpu": round(given.generator_cpu, 3),
            "held": measured.held,
        },
        "objectives": [_judgement(each) for each in given.judgements],
        "notes": notes(given),
        "verdict": "met" if given.met else "missed",
    }


def _judgement(each: Judgement) -> dict[str, Any]:
    return {
        "name": each.goal.name,
        "limit": each.goal.limit,
        "measured": round(each.measured, 6),
        "state": each.state.value,
        "source": each.goal.source,
    }


def rows(given: Report) -> list[tuple[str, str, str, str]]:
    """Return quantity, figure, goal and state, line by line, for a table."""
    measured = given.measured
    judged = {each.goal.name: each for each in given.judgements}
    lines = [("requests/s", f"{measured.rate:,.1f}", *_goal(judged, "requests_per_second", "at least {:,g}"))]
    success = f"{measured.success_ratio:.2%} of {measured.latencies.count:,}"
    lines.append(("succeeded", success, *_goal(judged, "success_ratio", "at least {:.2%}")))
    for name, value in measured.latencies.summary().items():
        goal = _goal(judged, "latency_p95", "at most {:.0f} ms", 1000) if name == "p95" else ("", "")
        lines.append((name if name == "max" else name.upper(), f"{value * 1000:,.1f} ms", *goal))
    lines += [(f"failed: {name}", f"{count:,}", "", "") for name, count in sorted(measured.errors.items())]
    return lines


def _goal(judged: dict[str, Judgement], name: str, text: str, scale: float = 1) -> tuple[str, str]:
    each = judged.get(name)
    return (f"{text.format(each.goal.limit * scale)} ({each.goal.source})", each.state.value) if each else ("", "")


def notes(given: Report) -> list[str]:
    """Return what a reader must know to trust the figures."""
    measured, plan = given.measured, given.measured.plan
    found = []
    if given.generator_cpu > _BUSY or measured.lags.quantile(0.95) > _LATE:
        late = f"P95 {measured.lags.quantile(0.95) * 1000:.0f} ms late, {given.generator_cpu:.0%} of a core"
        found.append(
            f"the load generator itself fell behind ({late}): the server may be better than these figures; "
            f"try more --processes, or another machine"
        )
    if measured.held:
        found.append(f"{measured.held:,} requests waited for one of {plan.in_flight:,} places in flight")
    if measured.errors.get(UNSENT):
        found.append(f"{UNSENT}: due, but never sent, for no place became free within {plan.end:g} s")
    if measured.errors.get(UNFINISHED):
        found.append(f"{UNFINISHED}: sent, but without an answer after {plan.end:g} s")
    for each in given.judgements:
        if each.state is State.UNTESTED:
            asked = f"{plan.rate:g} requests/s were asked for, {each.goal.limit:g} are promised"
            found.append(f"{each.goal.name} was not tested: {asked}")
    return found
