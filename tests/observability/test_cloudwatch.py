"""Lines for CloudWatch: the embedded metric format, of what was served since the last lines."""

import json
from typing import Any

import pytest

from interlock import Call, Error, Unavailable
from interlock.observability.cloudwatch import CloudWatch, distribution
from interlock.observability.metrics import Metrics
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE
from tests.waiting import until

OPERATION = SAMPLE_SERVICE.operation(ECHO)


def serve(metrics: Metrics, *errors: Error | None) -> None:
    """Count calls that ended so."""
    record = metrics.served(OPERATION)
    for error in errors:
        call = Call(OPERATION, protocol="grpc")
        call.on_end(record)
        call.end(error)


def lines(written: list[str]) -> list[Any]:
    """Return the documents that were written, and forget them."""
    found = [json.loads(line) for text in written for line in text.splitlines()]
    written.clear()
    return found


def test_a_line_is_what_cloudwatch_reads() -> None:
    """Namespace, dimensions and units stand under `_aws`, the values beside it; each metric named has a value."""
    metrics, written = Metrics("orders"), list[str]()
    watch = CloudWatch("orders", metrics.requests, written.append, period=60, clock=lambda: 1_700_000_000.5)
    serve(metrics, None, None, Unavailable())
    watch.emit()
    (line,) = lines(written)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert line["_aws"]["Timestamp"] == 1_700_000_000_500
    assert directive["Namespace"] == "ServiceIntegration"
    assert directive["Dimensions"] == [["Service"], ["Service", "Method", "Endpoint"]]
    assert {"Name": "APICallSuccess", "Unit": "Count"} in directive["Metrics"]
    for each in directive["Metrics"]:
        assert isinstance(line[each["Name"]], int | dict)
    for dimensions in directive["Dimensions"]:
        assert all(isinstance(line[each], str) for each in dimensions)
    assert (line["APICallSuccess"], line["APICallFailure"]) == (2, 1)
    assert line["Endpoint"] == OPERATION.path


def test_each_line_tells_what_came_since_the_last() -> None:
    """Nothing is told twice, and what was not called leaves no line."""
    metrics, written = Metrics("orders"), list[str]()
    watch = CloudWatch("orders", metrics.requests, written.append, period=60)
    serve(metrics, None)
    watch.emit()
    serve(metrics, None, None, None)
    watch.emit()
    watch.emit()
    assert [each["APICallSuccess"] for each in lines(written)] == [1, 3]


def test_percentiles_can_be_told() -> None:
    """Durations are values with their counts, of what came since the last line."""
    metrics, written = Metrics("orders"), list[str]()
    watch = CloudWatch("orders", metrics.requests, written.append, period=60)
    series = metrics.requests.series("GRPC", OPERATION.path)
    series.add(0.4, "OK")
    watch.emit()
    written.clear()
    for seconds in [0.0008] * 90 + [0.03] * 9 + [99.0]:
        series.add(seconds, "OK")
    watch.emit()
    (line,) = lines(written)
    assert line["APICallDuration"] == {
        "Values": [0.5, 37.5, 30_000.0],
        "Counts": [90, 9, 1],
        "Min": 0.0,
        "Max": 30_000.0,
        "Count": 100,
        "Sum": pytest.approx(99_342.0),
    }
    every = len(series.buckets)
    assert len(distribution(series.bounds, [1] * every, 1.0)["Values"]) == every <= 150


async def test_lines_come_by_themselves_and_at_the_end() -> None:
    """Every period, and once more when the app stops."""
    metrics, written = Metrics("orders"), list[str]()
    metrics.cloudwatch = CloudWatch("orders", metrics.requests, written.append, period=0.02)
    await metrics.start()
    serve(metrics, None)
    await until(lambda: any(written), 10)
    await metrics.stop()
    serve(metrics, None)
    assert sum(each["APICallSuccess"] for each in lines(written)) == 1
