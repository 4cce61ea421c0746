"""What is measured beside requests: sizes, neighbours, circuits, databases, what waits; traces found from numbers."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from sqlalchemy import column, select, table

from interlock import App, Call, Code, Error, NotFound, Principal, Unavailable, before
from interlock.call import Direction, TraceContext
from interlock.data import Database
from interlock.observability.families import decode, encode, families, merged
from interlock.observability.measure import metrics
from interlock.observability.metrics import Metrics
from interlock.observability.readings import FRESH, Readings
from interlock.observability.statements import summary
from interlock.observability.tracing import Tracing
from interlock.resilience.circuit_breaker import BreakerPolicy
from interlock.resilience.retry import RetryPolicy
from interlock.server import serving
from tests.observability.receiver import collecting
from tests.observability.test_metrics import PATH, shown
from tests.sample.gen.sample.v1.sample_pb import CountUpRequest, FailRequest
from tests.sample.gen.sample.v1.sample_rpc import ECHO, FAIL, SAMPLE_SERVICE, SampleServiceClient
from tests.sample.handlers import Sample, make

OPERATION = SAMPLE_SERVICE.operation(ECHO)
OPENMETRICS = "application/openmetrics-text"


class Calling(Sample):
    """Calls a neighbour for each echo, and bears its failure."""

    def __init__(self, neighbour: SampleServiceClient) -> None:
        super().__init__()
        self.neighbour = neighbour

    async def echo(self, request: Any, _call: Call) -> Any:
        try:
            if request.text == "fail":
                await self.neighbour.call(FAIL, FailRequest(code=int(Code.UNAVAILABLE), message="busy"))
            return await self.neighbour.echo(text=request.text)
        except Unavailable:
            return ECHO.reply_type()


@pytest.mark.parametrize("over", ["grpc", "connect", "rest"])
async def test_sizes_are_those_of_the_messages(over: str) -> None:
    """Bytes of messages as they are encoded, whatever frames, envelopes or compression are around them."""
    meter = Metrics("orders")
    app = make(layers=[before("log", metrics(meter.served))])
    async with serving(app) as address:
        if over == "rest":
            async with httpx2.AsyncClient(base_url=address.url) as rest:
                reply = await rest.post("/v1/echo", json={"text": "x" * 1000})
                received, replied = len(reply.request.content), len(reply.content)
        else:
            async with SampleServiceClient(str(address) if over == "grpc" else address.url) as client:
                await client.echo(text="x" * 1000)
                async with client.count_up(CountUpRequest(count=3)) as numbers:
                    assert len([each async for each in numbers]) == 3
            received = replied = 1003
    found = shown(meter)
    endpoint = ("/v1/echo", "POST") if over == "rest" else (f"{PATH}Echo", "CONNECT" if over == "connect" else "GRPC")
    assert found["service_request_size_bytes_sum"][endpoint] == received
    assert found["service_reply_size_bytes_sum"][endpoint] == replied
    if over != "rest":
        assert found["service_reply_size_bytes_sum"][f"{PATH}CountUp", endpoint[1]] == 6


@pytest.mark.parametrize("over", ["grpc", "connect"])
async def test_calls_to_neighbours_tell_protocol_retries_and_circuits(over: str) -> None:
    """The method is the protocol's, an attempt after the first is a retry, an open circuit stands at 2."""
    meter = Metrics("caller")
    tracing = Tracing("caller", sent=meter.sent, breakers=meter.breakers)
    retries = RetryPolicy(retries=1, longest_pause=timedelta(seconds=1))
    async with serving(make()) as address:
        target = str(address) if over == "grpc" else address.url
        policy = BreakerPolicy(minimum_calls=0, consecutive_failures=3)
        async with SampleServiceClient(target, retries=retries, breaker=policy) as neighbour:
            async with make(Calling(neighbour), tracing=tracing) as app, SampleServiceClient(app) as client:
                await client.echo(text="x")
                assert shown(meter)["service_circuit_breaker_state"] == {(f"{PATH}Echo", target): 0}
                for _ in range(4):
                    await client.echo(text="fail")
            found = shown(meter)
            method = "CONNECT" if over == "connect" else "GRPC"
            assert found["service_external_requests_total"][f"{PATH}Echo", method, "OK"] == 1
            assert found["service_external_requests_total"][f"{PATH}Fail", method, "UNAVAILABLE"] == 4
            assert found["service_retries_total"][(f"{PATH}Echo",)] == 0
            assert found["service_circuit_breaker_state"] == {(f"{PATH}Echo", target): 0, (f"{PATH}Fail", target): 2}


async def test_events_tell_their_age_and_what_was_given_up() -> None:
    """From publication to the end here; a dead letter counts, and its series is there before."""

    class Arrived:
        published = datetime.now(UTC)
        buried = False

    meter = Metrics("orders")
    record = meter.consumed(OPERATION)
    assert shown(meter)["service_dead_letters_total"] == {("Echo",): 0}
    for buried in (False, True):
        arrived: Any = Arrived()
        arrived.buried = buried
        call = Call(OPERATION, direction=Direction.CONSUMED, incoming=arrived)
        call.on_end(record)
        call.end()
    found = shown(meter)
    assert found["service_dead_letters_total"] == {("Echo",): 1}
    assert found["service_event_age_seconds_count"] == {("Echo",): 2}
    assert 0 <= found["service_event_age_seconds_sum"]["Echo",] < 60


def test_ten_thousand_principals_and_error_texts_make_no_series() -> None:
    """Neither who asks nor what went wrong is a label."""
    meter = Metrics("orders")
    records = [meter.served(OPERATION), meter.sent(OPERATION), meter.consumed(OPERATION)]

    def series() -> int:
        return sum(len(each) for each in shown(meter).values())

    def once(number: int) -> None:
        for record in records:
            call = Call(OPERATION, protocol="grpc", principal=Principal(subject=f"user-{number}"))
            call.on_end(record)
            call.end(NotFound(f"no thing {number}", reason=f"REASON_{number}"))

    once(0)
    before_them = series()
    for number in range(1, 10_000):
        once(number)
    assert series() == before_them


# --- exemplars ------------------------------------------------------------------------------------------------------


def exemplars(meter: Metrics) -> dict[str, str]:
    """Return the trace ids of the exemplars of request durations, by bucket."""
    text = meter.exposition(OPENMETRICS)[1].decode()
    parse: Any = parse_openmetrics
    samples = [each for family in parse(text) for each in family.samples]
    return {
        each.labels["le"]: each.exemplar.labels["trace_id"]
        for each in samples
        if each.name == "service_request_duration_seconds_bucket" and each.exemplar is not None
    }


async def test_a_sampled_call_is_the_exemplar_of_its_bucket() -> None:
    """The trace of a slow call is found from the histogram; calls without a span are no exemplars."""
    meter = Metrics("orders")
    traces: list[str] = []

    class Told(Sample):
        async def echo(self, request: Any, call: Call) -> Any:
            assert call.trace is not None
            traces.append(call.trace.trace_id)
            return await super().echo(request, call)

    for ratio in (0.0, 1.0):
        layers = [before("log", metrics(meter.served))]
        app = make(Told(), tracing=Tracing("orders", ratio=ratio), layers=layers)
        async with app, SampleServiceClient(app) as client:
            await client.echo(text="x")
        assert set(exemplars(meter).values()) == (set() if not ratio else {traces[-1]})


def test_the_latest_exemplar_of_all_workers_is_shown() -> None:
    """They travel in snapshots, and merge by time."""
    parts = []
    for trace_id in ("a" * 32, "b" * 32):
        meter = Metrics("orders")
        meter.publish(0.3, "", TraceContext(trace_id, "c" * 16, True))
        parts.append(decode(encode(families(meter.registry, {}))))
    (found,) = (each for each in merged(parts) if each.name == "service_publish_duration_seconds")
    assert {each[0] for each in found.exemplars.values()} == {"b" * 32}


# --- databases ------------------------------------------------------------------------------------------------------


async def test_statements_are_timed_and_in_sampled_calls_spans(tmp_path: Path) -> None:
    """Each statement counts; in a sampled call it is a span with verb and table, and without its values."""
    with collecting() as collector:
        tracing = Tracing("orders", endpoint=collector.url, ratio=1.0, delay=0.05)
        database = Database(f"sqlite:///{tmp_path}/orders.db")

        class Storing(Sample):
            async def echo(self, request: Any, call: Call) -> Any:
                async with database.transaction() as tx:
                    await tx.execute("CREATE TABLE IF NOT EXISTS things (name TEXT)")
                    await tx.execute("INSERT INTO things VALUES (:name)", {"name": request.text})
                    await tx.execute(select(column("name")).select_from(table("things")))
                return await super().echo(request, call)

        async with make(Storing(), tracing=tracing, database=database) as app, SampleServiceClient(app) as client:
            await client.echo(text="a secret")
            found = shown(app.metrics)
            assert found["service_database_duration_seconds_count"][()] > 3
            assert found["service_database_connections"].keys() >= {("write", "idle"), ("write", "in_use")}
            assert sum(found["service_database_connections"].values()) >= 1
            await tracing.flush()
    names = [each.name for each in collector.spans if each.kind == "CLIENT"]
    assert [name for name in names if "things" in name] == ["CREATE things", "INSERT things", "SELECT things"]
    served = collector.one(kind="SERVER")
    for each in collector.spans:
        if each.kind == "CLIENT":
            assert each.parent_id == served.span_id
            assert each.attributes["db.system.name"] == "sqlite"
    assert b"a secret" not in b"".join(collector.bodies)


@pytest.mark.parametrize(
    "statement, wanted",
    [
        ("SELECT 1", ("SELECT", "")),
        ("  select * from orders where id = :id", ("SELECT", "orders")),
        ((("INSERT INTO a.b VALUES ($1)", (1,)), ("SELECT 1", ())), ("INSERT", "a.b")),
        (select(column("x")).select_from(table("t")), ("SELECT", "t")),
        ("COMMIT", ("COMMIT", "")),
        ("", ("", "")),
        ((), ("", "")),
        ("(((((" * 100_000, ("", "")),
    ],
)
def test_a_statement_is_told_in_few_words(statement: object, wanted: tuple[str, str]) -> None:
    """Verb and table, whatever it is."""
    assert summary(statement) == wanted


# --- readings -------------------------------------------------------------------------------------------------------


async def test_what_is_asked_for_elsewhere_is_asked_once_in_a_while() -> None:
    """Many scrapes at once are one question, and so are those of the next seconds."""
    now, asked = 100.0, 0

    async def ask() -> dict[tuple[str, ...], float]:
        nonlocal asked
        asked += 1
        return {("a",): float(asked)}

    readings = Readings(clock=lambda: now)
    readings.add("waiting", "What waits.", ask, ("group",))
    await asyncio.gather(*(readings.refresh() for _ in range(20)))
    await readings.refresh()
    assert asked == 1
    now += FRESH
    await readings.refresh()
    (family,) = families(readings, {})
    assert list(family.samples.values()) == [2.0]


async def test_what_can_not_be_asked_is_left_out() -> None:
    """A database that is away, or that hangs, costs its own number only."""
    meter = Metrics("orders")

    async def broken() -> dict[tuple[str, ...], float]:
        raise Error("away")

    async def hangs() -> dict[tuple[str, ...], float]:
        await asyncio.sleep(60)
        return {}

    async def sound() -> dict[tuple[str, ...], float]:
        return {(): 3.0}

    meter.reading("a", "…", broken)
    meter.reading("b", "…", hangs)
    meter.reading("c", "…", sound)
    await meter.refresh()
    found = shown(meter)
    assert found["c"] == {(): 3.0}
    assert not {"a", "b"} & found.keys()


async def test_a_users_metric_joins_with_one_line() -> None:
    """`registry=app.metrics.registry`, and it stands beside ours."""
    from prometheus_client import Counter

    app: App = make()
    placed = Counter("orders_placed", "Orders placed.", registry=app.metrics.registry)
    placed.inc(3)
    assert shown(app.metrics)["orders_placed_total"] == {(): 3.0}


async def test_what_one_worker_asked_for_the_others_take(tmp_path: Path) -> None:
    """However many workers are scraped, the database is asked once; a broken file is as good as none."""
    now, asked = 100.0, 0

    async def ask() -> dict[tuple[str, ...], float]:
        nonlocal asked
        asked += 1
        return {("a",): float(asked)}

    workers = [Readings(clock=lambda: now, shared=tmp_path / "asked.readings") for _ in range(3)]
    for each in workers:
        each.add("waiting", "What waits.", ask, ("group",), 30.0)
        await each.refresh()
    assert asked == 1
    assert [list(families(each, {})[0].samples.values()) for each in workers] == [[1.0]] * 3
    now += 29.0
    await asyncio.gather(*(each.refresh() for each in workers))
    assert asked == 1
    now += 1.0
    (tmp_path / "asked.readings").write_text("[{")
    for each in workers:
        await each.refresh()
    assert asked == 2
    assert [list(families(each, {})[0].samples.values()) for each in workers] == [[2.0]] * 3
