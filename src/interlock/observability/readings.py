"""Numbers that must be asked for elsewhere, at the database or the broker: read when somebody scrapes, not too often.

They tell of the whole service, so that the worker that is asked reads them alone; what it found, the others take from
a file for as long as it is fresh.
"""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

log = logging.getLogger("interlock.metrics")

LIMIT = 1.0
"""Seconds that a reading may take."""
FRESH = 5.0
"""Seconds for which a reading is not repeated, unless it says otherwise."""

Ask: TypeAlias = Callable[[], Awaitable[dict[tuple[str, ...], float]]]
_Found: TypeAlias = tuple[float, dict[tuple[str, ...], float] | None]
"""When something was read (epoch seconds), and what was found; None where it could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    documentation: str
    labels: tuple[str, ...]
    ask: Ask
    fresh: float


class Readings(Collector):
    """Gauges whose numbers come from elsewhere; one that can't be read in time is left out until it can.

    `shared` is a file that workers of one service have in common; without it each reads for itself.
    """

    def __init__(self, clock: Callable[[], float] = time.time, *, shared: Path | None = None) -> None:
        self._clock = clock
        self._shared = shared
        self._asked: dict[str, _Asked] = {}
        self._found: dict[str, _Found] = {}
        self._reading: asyncio.Task[None] | None = None

    def add(self, name: str, documentation: str, ask: Ask, labels: tuple[str, ...] = (), fresh: float = FRESH) -> None:
        """Have `ask` read for the gauge `name`, again only after `fresh` seconds."""
        self._asked[name] = _Asked(documentation=documentation, labels=labels, ask=ask, fresh=fresh)

    async def refresh(self) -> None:
        """Read anew what is not fresh any more; those who ask meanwhile wait for the same reading."""
        if not self._due():
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        await asyncio.shield(self._reading)

    def _due(self) -> list[str]:
        now = self._clock()
        never: _Found = (float("-inf"), None)
        return [name for name, each in self._asked.items() if abs(now - self._found.get(name, never)[0]) >= each.fresh]

    async def _read(self) -> None:
        self._take_over()
        due = self._due()
        results = await asyncio.gather(
            *(asyncio.wait_for(self._asked[name].ask(), LIMIT) for name in due), return_exceptions=True
        )
        now = self._clock()
        for name, result in zip(due, results, strict=True):
            if isinstance(result, BaseException):
                log.debug("the gauge %s can't be read: %s: %s", name, type(result).__name__, result)
                self._found[name] = now, None
            else:
                self._found[name] = now, result
        if due:
            self._hand_on()

    def _take_over(self) -> None:
        """Take what another worker read later than this one."""
        if self._shared is None:
            return
        with contextlib.suppress(OSError, ValueError, TypeError):
            for name, (at, found) in json.loads(self._shared.read_bytes()).items():
                if name in self._asked and (name not in self._found or self._found[name][0] < at):
                    self._found[name] = at, None if found is None else {tuple(key): value for key, value in found}

    def _hand_on(self) -> None:
        if self._shared is None:
            return
        document: dict[str, Any] = {
            name: (at, None if found is None else [*found.items()]) for name, (at, found) in self._found.items()
        }
        draft = self._shared.with_name(f"{self._shared.name}.{os.getpid()}.new")
        with contextlib.suppress(OSError):  # then each worker reads for itself
            draft.write_text(json.dumps(document))
            draft.replace(self._shared)

    def collect(self) -> Iterator[Metric]:
        """Yield what was read last."""
        for name, each in self._asked.items():
            _, found = self._found.get(name, (0.0, None))
            if found is None:
                continue
            gauge = GaugeMetricFamily(name, each.documentation, labels=each.labels)
            for values, value in found.items():
                gauge.add_metric(values, value)
            yield gauge
