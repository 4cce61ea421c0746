"""The bulkheads of an app's clients as metrics: who has a place, who waits for one, who was refused."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakMethod

if TYPE_CHECKING:
    from interlock.observability.metrics import Metrics

Places: TypeAlias = Callable[[], Mapping[str, tuple[int, int, int]]]
"""Tells how many calls run, wait and were refused at each bulkhead to one target, by RPC path, `*` for a shared one."""


class Bulkheads:
    """Shows the bulkheads that clients tell of, each for as long as its client lives."""

    def __init__(self, metrics: "Metrics") -> None:
        self._known: list[_Known] = []
        self._refused: Counter[tuple[str, ...]] = Counter()
        labels = ("target", "endpoint")
        metrics.gauge(
            "service_bulkhead_calls",
            "Calls to a neighbour at its bulkhead: running, or waiting for a place.",
            self._calls,
            labels=(*labels, "state"),
        )
        metrics.counter(
            "service_bulkhead_refused", "Calls to a neighbour that got no place.", self._refusals, labels=labels
        )

    def add(self, target: str, places: Places) -> None:
        """Show the bulkheads of a client to `target`; `places` is a method of what lives as long as it does."""
        self._known = [each for each in self._known if each.places() is not None]
        self._known.append(_Known(target, WeakMethod(places)))

    def _there(self) -> Iterator[tuple["_Known", str, tuple[int, int, int]]]:
        for known in self._known:
            places = known.places()
            for endpoint, now in ({} if places is None else places()).items():
                yield known, endpoint, now

    def _calls(self) -> Mapping[tuple[str, ...], float]:
        found: Counter[tuple[str, ...]] = Counter()
        for known, endpoint, (running, waiting, _) in self._there():
            found[known.target, endpoint, "running"] += running
            found[known.target, endpoint, "waiting"] += waiting
        return found

    def _refusals(self) -> Mapping[tuple[str, ...], float]:
        for known, endpoint, (_, _, refused) in self._there():
            self._refused[known.target, endpoint] += refused - known.refused[endpoint]  # a count outlives the client
            known.refused[endpoint] = refused
        return self._refused


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """One client's bulkheads, and how many refusals of each were counted already."""

    target: str
    places: "WeakMethod[Places]"
    refused: Counter[str] = field(default_factory=Counter)
