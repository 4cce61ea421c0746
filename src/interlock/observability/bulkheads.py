"""The bulkheads of an app's clients as metrics: who has a place, who waits for one, who was refused."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakMethod

if TYPE_CHECKING:
    from interlock.observability.metrics import Metrics

Places: TypeAlias = Callable[[], Mapping[str, tuple[int, int, int]]]
"""Tells how many calls run, wait and were refused at each bulkhead to one target, by RPC path, `*` for a shared one."""


class Bulkheads:
    """Shows the bulkheads that clients tell of, each for as long as its client lives."""

    def __init__(self, metrics: "Metrics") -> None:
        self._known: list[tuple[str, WeakMethod[Places]]] = []
        self._refused: dict[tuple[str, ...], float] = {}
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
        self._known = [each for each in self._known if each[1]() is not None]
        self._known.append((target, WeakMethod(places)))

    def _there(self) -> Mapping[tuple[str, str], tuple[int, int, int]]:
        found: dict[tuple[str, str], tuple[int, int, int]] = {}
        for target, reference in self._known:
            places = reference()
            for endpoint, now in ({} if places is None else places()).items():
                there = found.get((target, endpoint), (0, 0, 0))
                found[target, endpoint] = (there[0] + now[0], there[1] + now[1], there[2] + now[2])
        return found

    def _calls(self) -> Mapping[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for (target, endpoint), (running, waiting, _) in self._there().items():
            found[target, endpoint, "running"] = running
            found[target, endpoint, "waiting"] = waiting
        return found

    def _refusals(self) -> Mapping[tuple[str, ...], float]:
        for key, (_, _, refused) in self._there().items():
            self._refused[key] = max(refused, self._refused.get(key, 0.0))  # a count outlives the client
        return self._refused
