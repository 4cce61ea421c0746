"""Metrics for CloudWatch: lines in the embedded metric format on standard output, which its agent turns into metrics.

Each worker writes what it served since its last lines; CloudWatch adds them up.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from interlock.observability.series import Table

NAMESPACE = "ServiceIntegration"
"""The namespace that the standard names."""
_UNITS = (("APICallSuccess", "Count"), ("APICallFailure", "Count"), ("APICallDuration", "Milliseconds"))
_DIMENSIONS = (("Service",), ("Service", "Method", "Endpoint"))
_Before: TypeAlias = tuple[int, int, float, list[int]]
"""Successes, calls, seconds and calls by bucket that were told already."""


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
        self._before: dict[tuple[str, ...], _Before] = {}
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
            total, buckets = sum(series.counts.values()), list(series.buckets)
            nothing: _Before = (0, 0, 0.0, [0] * len(buckets))
            good_before, total_before, seconds_before, buckets_before = self._before.get(values, nothing)
            self._before[values] = good, total, series.sum, buckets
            calls = total - total_before
            if calls:
                done = good - good_before
                fresh = [now - then for now, then in zip(buckets, buckets_before, strict=True)]
                duration = distribution(series.bounds, fresh, series.sum - seconds_before)
                yield self._line(values, (done, calls - done, duration))

    def _line(self, values: tuple[str, ...], numbers: tuple[int, int, dict[str, Any]]) -> str:
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


def distribution(bounds: Sequence[float], counts: Sequence[int], seconds: float) -> dict[str, Any]:
    """Return durations by bucket as milliseconds in the form from which CloudWatch can tell percentiles.

    That is `Values` with their `Counts`, as the AWS exporter of the OpenTelemetry collector writes histograms: the
    middle of each bucket, beyond the last bound that bound, at most 150. `Sum` is exact.
    """
    ends = [bound * 1000 for bound in bounds]
    filled = [
        (low, high, count) for low, high, count in zip([0.0, *ends], [*ends, ends[-1]], counts, strict=True) if count
    ]
    return {
        "Values": [round((low + high) / 2, 3) for low, high, _ in filled],
        "Counts": [count for _, _, count in filled],
        "Max": filled[-1][1],
        "Min": filled[0][0],
        "Count": sum(count for _, _, count in filled),
        "Sum": round(seconds * 1000, 3),
    }


def _succeeded(status: str) -> bool:
    return status == "OK" or status[:1] in "123"
