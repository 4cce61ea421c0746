"""Metrics for CloudWatch: lines in the embedded metric format on standard output, which its agent turns into metrics.

Each worker writes what it served since its last lines; CloudWatch adds them up.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from interlock.observability.series import Table

NAMESPACE = "ServiceIntegration"
"""The namespace that the standard names."""
_UNITS = (("APICallSuccess", "Count"), ("APICallFailure", "Count"), ("APICallDuration", "Milliseconds"))
_DIMENSIONS = (("Service",), ("Service", "Method", "Endpoint"))


class CloudWatch:
    """Writes lines of `requests` every `period` seconds between `start` and `stop`; `write` takes whole lines."""

    def __init__(
        self,
        service: str,
        requests: Table,
        write: Callable[[str], object],
        *,
        period: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._requests = requests
        self._write = write
        self._period = period
        self._clock = clock
        self._before: dict[tuple[str, ...], tuple[int, int, float]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="cloudwatch")

    async def stop(self) -> None:
        """Write what is left."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.emit()

    def emit(self) -> None:
        """Write a line for each method and endpoint that was called since the last time."""
        self._write("".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        for values, series in self._requests.counted().items():
            good = sum(count for status, count in series.counts.items() if _succeeded(status))
            total = sum(series.counts.values())
            good_before, total_before, seconds_before = self._before.get(values, (0, 0, 0.0))
            self._before[values] = good, total, series.sum
            calls = total - total_before
            if calls:
                done = good - good_before
                mean = (series.sum - seconds_before) / calls
                yield self._line(values, (done, calls - done, round(mean * 1000, 3)))

    def _line(self, values: tuple[str, ...], numbers: tuple[int, int, float]) -> str:
        metrics = [{"Name": name, "Unit": unit} for name, unit in _UNITS]
        document: dict[str, Any] = {
            "_aws": {
                "Timestamp": int(self._clock() * 1000),
                "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": _DIMENSIONS, "Metrics": metrics}],
            },
            "Service": self._service,
            "Method": values[0],
            "Endpoint": values[1],
            **dict(zip((name for name, _ in _UNITS), numbers, strict=True)),
        }
        return json.dumps(document, separators=(",", ":")) + "\n"

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._period)
            self.emit()


def _succeeded(status: str) -> bool:
    return status == "OK" or status[:1] in "123"
