"""Metrics as Prometheus reads them: the standard's names and labels, totals that are right, series that are few."""

import asyncio
import math
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from prometheus_client import Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from interlock import App, Call, Code, Error, NotFound, Unavailable, before
from interlock.call import Direction
from interlock.errors import MethodNotAllowed, RouteNotFound
from interlock.observability.measure import metrics
from interlock.observability.metrics import BOUNDS, Metrics
from interlock.observability.tracing import Tracing
from interlock.server import serving
from tests.sample.gen.sample.v1.sample_pb import CountUpRequest, EchoRequest, EchoResponse, FailRequest
from tests.sample.gen.sample.v1.sample_rpc import ECHO, FAIL, SAMPLE_SERVICE, SampleServiceClient
from tests.sample.handlers import Sample, make

OPERATION = SAMPLE_SERVICE.operation(ECHO)
PATH = "/sample.v1.SampleService/"
REQUESTS, DURATION = "service_requests_total", "service_request_duration_seconds"

Samples = dict[str, dict[tuple[str, ...], float]]


def shown(metrics: Metrics, accept: str = "") -> Samples:
    """Return what an exposition says: by sample's name, the labels' values in order of their names."""
    content_type, body = metrics.exposition(accept)
    text = body.decode()
    parse: Any = parse_openmetrics if "openmetrics" in content_type else parse_classic
    found: Samples = {}
    for family in parse(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def requests(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    """Return the requests counted by method, endpoint and status."""
    counted = shown(metrics).get(REQUESTS, {})
    return {(method, endpoint, status): count for (endpoint, method, status), count in counted.items()}


@pytest.fixture
def meter() -> Metrics:
    """Metrics of one service."""
    return Metrics("orders", version="1.2")


@pytest.fixture
async def app(meter: Metrics) -> AsyncIterator[App]:
    """A started app that is measured."""
    async with make(layers=[before("log", metrics(meter.served))]) as running:
        yield running


# --- what is counted ------------------------------------------------------------------------------------------------


async def test_totals_are_the_requests_over_every_protocol(meter: Metrics) -> None:
    """Each call counts once, under the labels that its protocol gives it, streams when they are over."""
    app = make(layers=[before("log", metrics(meter.served))])
    async with (
        serving(app) as address,
        SampleServiceClient(str(address)) as client,
        SampleServiceClient(app) as near,
        httpx2.AsyncClient(base_url=address.url) as rest,
    ):
        await asyncio.gather(*(client.echo(text="x") for _ in range(30)), *(near.echo(text="x") for _ in range(5)))
        for code in (Code.NOT_FOUND, Code.UNAVAILABLE):
            with pytest.raises(Error):
                await client.call(FAIL, FailRequest(code=int(code)))
        async with client.count_up(CountUpRequest(count=3)) as numbers:
            assert [each.number async for each in numbers] == [1, 2, 3]
        for number in range(20):
            assert (await rest.get(f"/v1/echo/{number}")).status_code == 200
        assert (await rest.post("/v1/echo", json={"text": "x"})).status_code == 200
        assert (await rest.post("/v1/things", json={"name": "x"})).status_code == 201
        assert (await rest.get("/v1/things/none")).status_code == 404
        assert (await rest.post("/v1/fail", json={"code": int(Code.UNAVAILABLE)})).status_code == 503
    wanted = {
        ("GRPC", f"{PATH}Echo", "OK"): 35,
        ("GRPC", f"{PATH}Fail", "NOT_FOUND"): 1,
        ("GRPC", f"{PATH}Fail", "UNAVAILABLE"): 1,
        ("GRPC", f"{PATH}CountUp", "OK"): 1,
        ("GET", "/v1/echo/{text}", "200"): 20,
        ("POST", "/v1/echo", "200"): 1,
        ("POST", "/v1/things", "201"): 1,
        ("GET", "/v1/things/{thing_id}", "404"): 1,
        ("POST", "/v1/fail", "503"): 1,
    }
    assert requests(meter) == wanted
    timed = shown(meter)[f"{DURATION}_count"]
    for method, endpoint in {(method, endpoint) for method, endpoint, _ in wanted}:
        total = sum(count for each, count in wanted.items() if each[:2] == (method, endpoint))
        assert timed[endpoint, method] == total


async def test_an_event_counts_by_its_type_and_outcome(meter: Metrics) -> None:
    """A consumed event has the method EVENT, its type as endpoint and the code as status."""
    record = meter.consumed(OPERATION)
    for error in (None, None, Unavailable()):
        call = Call(OPERATION, direction=Direction.CONSUMED)
        call.on_end(record)
        call.end(error)
    assert requests(meter) == {("EVENT", "Echo", "OK"): 2, ("EVENT", "Echo", "UNAVAILABLE"): 1}


async def test_connect_has_a_method_of_its_own(meter: Metrics) -> None:
    """RPC over Connect is told from RPC over gRPC, by the same path."""
    record = meter.served(OPERATION)
    for protocol in ("connect", "grpc", "grpc-web"):
        call = Call(OPERATION, protocol=protocol)
        call.on_end(record)
        call.end()
    assert requests(meter) == {("CONNECT", f"{PATH}Echo", "OK"): 1, ("GRPC", f"{PATH}Echo", "OK"): 2}


def test_ten_thousand_random_paths_make_no_series(meter: Metrics) -> None:
    """Whatever matches no operation is one endpoint, and an invented verb one method."""
    for number in range(10_000):
        meter.refused("GET", RouteNotFound(f"nothing stands at /{number}"), 0.001)
        meter.refused(f"VERB{number}", MethodNotAllowed())
        meter.refused("GRPC", RouteNotFound())
    assert requests(meter) == {
        ("GET", "unmatched", "404"): 10_000,
        ("OTHER", "unmatched", "405"): 10_000,
        ("GRPC", "unmatched", "UNIMPLEMENTED"): 10_000,
    }


async def test_ten_thousand_values_of_a_variable_make_no_series(app: App, meter: Metrics) -> None:
    """A route is its template, however many resources stand behind it."""
    for number in range(200):
        await _rest(app, f"/v1/echo/{number}")
    assert requests(meter) == {("GET", "/v1/echo/{text}", "200"): 200}


async def _rest(app: App, path: str) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_event: Any) -> None:
        return

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)


# --- buckets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds, edge", [(0.0, 0.001), (0.001, 0.001), (0.0011, 0.0025), (2.0, 2.0), (99.0, math.inf)]
)
def test_a_duration_falls_into_its_bucket(meter: Metrics, seconds: float, edge: float) -> None:
    """Bounds are inclusive, and each bucket holds those below it, as Prometheus wants."""
    meter.database(seconds)
    found = shown(meter)
    buckets = {float(label): count for (label,), count in found["service_database_duration_seconds_bucket"].items()}
    assert [bound for bound, count in buckets.items() if count] == [
        each for each in (*BOUNDS, math.inf) if each >= edge
    ]
    assert found["service_database_duration_seconds_sum"][()] == seconds
    assert found["service_database_duration_seconds_count"][()] == 1


def test_the_standards_thresholds_are_bounds() -> None:
    """What is promised can be read off without interpolation."""
    assert {0.01, 0.05, 0.1, 0.5, 2.0} <= set(BOUNDS)


def test_what_is_timed_elsewhere_has_the_standards_names(meter: Metrics) -> None:
    """Database and publishing are recorded by plain functions."""
    meter.database(0.001)
    meter.publish(0.002)
    found = shown(meter)
    assert found["service_database_duration_seconds_count"][()] == 1
    assert found["service_publish_duration_seconds_sum"][()] == 0.002


# --- calls that leave -----------------------------------------------------------------------------------------------


class Relay(Sample):
    """Passes each echo on."""

    def __init__(self, neighbour: SampleServiceClient) -> None:
        super().__init__()
        self.neighbour = neighbour

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        with suppress(Error):
            await self.neighbour.call(FAIL, FailRequest(code=int(Code.UNAVAILABLE)))
        return await self.neighbour.echo(text=request.text)


async def test_calls_to_neighbours_are_measured_where_they_are_made() -> None:
    """One client used by two services: each counts the calls that it made, neither those of the other."""
    meters = {name: Metrics(name) for name in ("first", "second")}
    neighbour = make()
    async with neighbour, SampleServiceClient(neighbour) as shared:
        for number, meter in enumerate(meters.values(), 1):
            app = make(Relay(shared), tracing=Tracing("x", sent=meter.sent))
            async with app, SampleServiceClient(app) as client:
                for _ in range(number):
                    await client.echo(text="x")
        await shared.echo(text="nobody's")
    for number, meter in enumerate(meters.values(), 1):
        found = shown(meter)
        assert found["service_external_requests_total"] == {
            (f"{PATH}Echo", "GRPC", "OK"): number,
            (f"{PATH}Fail", "GRPC", "UNAVAILABLE"): number,
        }
        assert found["service_external_duration_seconds_count"][f"{PATH}Echo", "GRPC"] == number


# --- the text -------------------------------------------------------------------------------------------------------


def _filled(meter: Metrics) -> Metrics:
    record = meter.served(OPERATION)
    for error in (None, NotFound()):
        call = Call(OPERATION, protocol="grpc")
        call.on_end(record)
        call.end(error)
    meter.gauge("service_requests_in_flight", 'Calls that "run"\nnow.', lambda: 3)
    meter.gauge("breaker_open", "Breakers.", lambda: {('a"\\\nb',): 1.0}, labels=("target",), merge="max")
    return meter


def test_the_format_is_the_one_asked_for(meter: Metrics) -> None:
    """OpenMetrics where the scraper names it, else the classic text; both parse, and say the same."""
    _filled(meter)
    accept = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    kind, body = meter.exposition(accept)
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body.endswith(b"# EOF\n")
    assert meter.exposition("*/*")[0] == "text/plain; version=0.0.4; charset=utf-8"
    classic, open_metrics = shown(meter), shown(meter, accept)
    moving = {name for name in classic if name.startswith("process_")}
    assert {k: v for k, v in classic.items() if k not in moving} == {
        k: v for k, v in open_metrics.items() if k not in moving
    }
    assert classic["breaker_open"] == {('a"\\\nb',): 1.0}


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=nonsense", "\x00", "," * 10_000, "q" * 9_999]
)
def test_no_accept_header_breaks_the_text(meter: Metrics, accept: str) -> None:
    """Whatever a scraper asks for, it gets one of the two formats."""
    assert meter.exposition(accept)[1]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: the text was only parsed")
def test_promtool_finds_nothing_to_say(meter: Metrics) -> None:
    """Names, types and help texts follow Prometheus' own conventions."""
    body = _filled(meter).exposition()[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_build_and_the_process_are_told(meter: Metrics) -> None:
    """A dashboard sees what runs, and how much CPU and memory it takes."""
    found = shown(meter)
    (labels,) = found["service_build_info"]
    assert "orders" in labels
    assert "1.2" in labels
    assert found["process_cpu_seconds_total"][()] > 0
    assert found["process_resident_memory_bytes"][()] > 1 << 20


def test_a_users_own_metrics_are_shown_beside_ours(meter: Metrics) -> None:
    """The registry is the app's, and takes what prometheus_client makes."""
    Counter("cakes_baked", "Cakes.", ["kind"], registry=meter.registry).labels("apple").inc(3)
    assert shown(meter)["cakes_baked_total"] == {("apple",): 3}
    assert "cakes_baked_total" not in shown(Metrics("another"))


def test_a_gauge_that_fails_hides_nothing_else(meter: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    """One number that can't be read is told in the log; the others are shown."""

    def broken() -> float:
        raise RuntimeError("no pool")

    meter.gauge("pool_size", "Connections.", broken)
    meter.gauge("queue_length", "What waits.", lambda: 7)
    found = shown(meter)
    assert "pool_size" not in found
    assert found["queue_length"] == {(): 7}
    assert "no pool" in caplog.text
