"""Numbers that must be asked for elsewhere, at the database or the broker: read when somebody scrapes, not too often.

They tell of the whole service, so the worker that is asked reads them alone, and no snapshot holds them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from interlock.deadline import Clock, monotonic

log = logging.getLogger("interlock.metrics")

LIMIT = 1.0
"""Seconds that a reading may take."""
FRESH = 5.0
"""Seconds for which a reading is not repeated."""

Ask = Callable[[], Awaitable[dict[tuple[str, ...], float]]]


class Readings(Collector):
    """Gauges whose numbers come from elsewhere; one that can't be read in time is left out until it can."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._asked: dict[str, tuple[str, tuple[str, ...], Ask]] = {}
        self._found: dict[str, dict[tuple[str, ...], float]] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    def add(self, name: str, documentation: str, ask: Ask, labels: tuple[str, ...] = ()) -> None:
        """Have `ask` read for the gauge `name`."""
        self._asked[name] = documentation, labels, ask

    async def refresh(self) -> None:
        """Read all anew, unless that was done a moment ago; those who ask meanwhile wait for the same reading."""
        if self._clock() - self._read_at < FRESH:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        results = await asyncio.gather(
            *(asyncio.wait_for(ask(), LIMIT) for _, _, ask in self._asked.values()), return_exceptions=True
        )
        self._read_at = self._clock()
        for name, result in zip(self._asked, results, strict=True):
            if isinstance(result, BaseException):
                log.debug("the gauge %s can't be read: %s: %s", name, type(result).__name__, result)
                self._found.pop(name, None)
            else:
                self._found[name] = result

    def collect(self) -> Iterator[Metric]:
        """Yield what was read last."""
        for name, found in self._found.items():
            documentation, labels, _ = self._asked[name]
            gauge = GaugeMetricFamily(name, documentation, labels=labels)
            for values, value in found.items():
                gauge.add_metric(values, value)
            yield gauge
