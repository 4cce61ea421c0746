"""Traces as a collector gets them: whole, sampled as asked, and no burden to the calls."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as opentelemetry_trace

from interlock import App, Call, Code, Error, Metadata, NotFound, Unavailable, current_call
from interlock.call import Direction, TraceContext, compose
from interlock.client import Transport
from interlock.defaults import after
from interlock.observability.spans import LATE
from interlock.observability.tracing import Tracing, attempt, parse, trace
from interlock.protocols.grpc_client import GrpcTransport
from interlock.resilience.circuit_breaker import BreakerPolicy
from interlock.resilience.retry import RetryPolicy
from interlock.server import serving
from tests.observability.receiver import Collector, collecting
from tests.sample.gen.sample.v1.sample_pb import CountUpRequest, EchoRequest, EchoResponse, FailRequest
from tests.sample.gen.sample.v1.sample_rpc import ECHO, FAIL, SAMPLE_SERVICE, SampleServiceClient
from tests.sample.handlers import Sample, make
from tests.server.processes import free_port
from tests.waiting import until

OPERATION = SAMPLE_SERVICE.operation(ECHO)


def once(target: "App | str") -> SampleServiceClient:
    """Return a client that neither repeats calls nor opens a circuit: these tests are about single calls."""
    never_open = BreakerPolicy(minimum_calls=1_000_000)
    return SampleServiceClient(target, retries=RetryPolicy(retries=0), breaker=never_open)


TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01"


class Relay(Sample):
    """Passes each echo on to a neighbour, and remembers where its calls stood."""

    def __init__(self, neighbour: SampleServiceClient | None = None) -> None:
        super().__init__()
        self.neighbour = neighbour
        self.traces: list[TraceContext | None] = []

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        self.traces.append(call.trace)
        assert call is current_call.get()
        if self.neighbour is None:
            return EchoResponse(text=request.text)
        return await self.neighbour.echo(text=request.text)


@dataclass
class Traced:
    """An app that is traced."""

    app: App
    tracing: Tracing
    handlers: Relay = field(default_factory=Relay)


def traced(name: str, collector: Collector | str | None, neighbour: Any = None, **options: Any) -> Traced:
    """Make the sample app with its own tracing."""
    endpoint = collector.url if isinstance(collector, Collector) else collector
    tracing = Tracing(name, endpoint=endpoint, **{"delay": 0.05, **options})
    handlers = Relay(neighbour)
    app = make(handlers, tracing=tracing)
    return Traced(app, tracing, handlers)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that takes everything."""
    with collecting() as running:
        yield running


@pytest.fixture
async def served(collector: Collector) -> AsyncIterator[Traced]:
    """A started app, every call of which is sampled."""
    made = traced("orders", collector)
    async with made.app:
        yield made


def arrived(tracing: Tracing, *headers: str) -> TraceContext:
    """Return where a call stands that came with these `traceparent` headers."""
    call = Call(OPERATION, Metadata([("traceparent", header) for header in headers]))
    tracing.arrived(call)
    assert call.trace is not None
    return call.trace


# --- one trace ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["in process", "grpc"])
async def test_one_trace_over_client_app_client_app(collector: Collector, over: str) -> None:
    """A call through two services is one trace of four spans, each the child of the one that caused it."""
    second = traced("second", collector)
    async with AsyncExitStack() as stack:

        async def transport(app: App) -> Transport:
            if over == "in process":
                await stack.enter_async_context(app)
                return app.in_process()
            return GrpcTransport(str(await stack.enter_async_context(serving(app))))

        # the inner client is told nothing: its spans belong to the service that makes the call
        inner = await stack.enter_async_context(SampleServiceClient(await transport(second.app)))
        first = traced("first", collector, inner)
        caller = Tracing("caller", endpoint=collector.url, delay=0.05)
        await caller.start()
        stack.push_async_callback(caller.stop)
        outer = await stack.enter_async_context(
            SampleServiceClient(await transport(first.app), layers=[after("trace", trace(caller))])
        )
        assert (await outer.echo(text="hello")).text == "hello"
        for each in (caller, first.tracing, second.tracing):
            await each.flush()
    children = {each.parent_id: each for each in collector.spans}
    spans = [children.pop("")]
    while spans[-1].span_id in children:
        spans.append(children.pop(spans[-1].span_id))
    # a call and its one attempt are a span each
    assert [(each.service, each.kind) for each in spans] == [
        ("caller", "CLIENT"),
        ("caller", "CLIENT"),
        ("first", "SERVER"),
        ("first", "CLIENT"),
        ("first", "CLIENT"),
        ("second", "SERVER"),
    ]
    assert not children
    assert len({each.trace_id for each in spans}) == 1
    assert all(0 < inner.seconds <= outer.seconds for outer, inner in pairwise(spans))
    assert {each.name.removesuffix(" attempt") for each in spans} == {"sample.v1.SampleService/Echo"}


async def test_an_event_goes_on_with_the_trace(collector: Collector) -> None:
    """What a call publishes and who consumes it stand in the call's trace, as producer and consumer."""
    tracing = Tracing("orders", endpoint=collector.url)
    await tracing.start()
    chain = compose([trace(tracing)], OPERATION, _answer)
    served = Call(OPERATION, Metadata([("traceparent", SAMPLED)]), protocol="grpc")
    await chain(served)
    current_call.set(served)
    published = Call(OPERATION, direction=Direction.PUBLISHED, protocol="nats")
    await chain(published)
    consumed = Call(OPERATION, published.metadata.copy(), direction=Direction.CONSUMED, protocol="nats")
    await chain(consumed)
    for call in (consumed, published, served):
        call.end()
    await tracing.stop()
    producer, consumer = collector.one(kind="PRODUCER"), collector.one(kind="CONSUMER")
    assert {each.trace_id for each in collector.spans} == {TRACE_ID}
    assert collector.one(kind="SERVER").parent_id == SPAN_ID
    assert producer.parent_id == collector.one(kind="SERVER").span_id
    assert consumer.parent_id == producer.span_id
    assert (producer.name, consumer.name) == ("publish Echo", "process Echo")
    assert consumer.attributes["messaging.system"] == "nats"
    assert consumer.attributes["messaging.operation.type"] == "process"


async def _answer(_call: Call) -> Any:
    return EchoResponse()


async def test_each_attempt_is_a_span_and_the_next_hop_its_child(collector: Collector) -> None:
    """Attempts stand below their call, and what they reach below them."""
    tracing = Tracing("caller", endpoint=collector.url)
    await tracing.start()
    sent: list[str] = []

    async def fail_once(call: Call) -> Any:
        attempts: list[Error | None] = [Unavailable("not now"), None]
        for error in attempts:
            fork = call.fork()
            await compose([attempt(tracing)], OPERATION, _answer)(fork)
            sent.append(fork.metadata.get("traceparent") or "")
            fork.end(error)
        return EchoResponse()

    call = Call(OPERATION, direction=Direction.SENT)
    await compose([trace(tracing)], OPERATION, fail_once)(call)
    call.end()
    await tracing.stop()
    logical = collector.one(name="sample.v1.SampleService/Echo")
    attempts = [each for each in collector.spans if each is not logical]
    assert [each.failed for each in attempts] == [True, False]
    assert {each.parent_id for each in attempts} == {logical.span_id}
    assert sent == [f"00-{logical.trace_id}-{each.span_id}-01" for each in attempts]


async def test_without_a_collector_ids_travel_on() -> None:
    """No endpoint, no export: but neighbours stay in one trace and the caller's id reaches them."""
    second = traced("second", None)
    async with second.app, once(second.app) as inner:
        first = traced("first", None, inner)
        async with first.app, SampleServiceClient(first.app) as outer:
            await outer.using(metadata={"traceparent": SAMPLED}).echo(text="x")
    here, there = first.handlers.traces[0], second.handlers.traces[0]
    assert here is not None
    assert there is not None
    assert here.trace_id == there.trace_id == TRACE_ID
    assert here.sampled
    assert there.sampled
    assert len({SPAN_ID, here.span_id, there.span_id}) == 3


async def test_a_client_outside_any_call_hands_on_what_it_was_given() -> None:
    """A traceparent that a script sends is followed, not doubled; with nobody to trace and none given, none is sent."""
    handled: list[list[str]] = []

    async def handle(call: Call) -> Any:
        handled.append(call.metadata.get_all("traceparent"))
        return EchoResponse()

    chain = compose([trace()], OPERATION, handle)
    await chain(Call(OPERATION, direction=Direction.SENT))
    await chain(Call(OPERATION, Metadata([("traceparent", SAMPLED)]), direction=Direction.SENT))
    none, (one,) = handled
    assert none == []
    assert one.startswith(f"00-{TRACE_ID}-")
    assert SPAN_ID not in one


async def test_no_provider_is_made_global(served: Traced) -> None:
    """Another library's traces in the same process are its own affair."""
    assert isinstance(opentelemetry_trace.get_tracer_provider(), opentelemetry_trace.ProxyTracerProvider)


# --- traceparent ----------------------------------------------------------------------------------------------------

SOUND = [
    (SAMPLED, True),
    (f"00-{TRACE_ID}-{SPAN_ID}-00", False),
    (f"00-{TRACE_ID}-{SPAN_ID}-ff", True),
    (f"00-{TRACE_ID}-{SPAN_ID}-02", False),
    (f"cc-{TRACE_ID}-{SPAN_ID}-01", True),
    (f"01-{TRACE_ID}-{SPAN_ID}-01-what-the-future-brings", True),
]
HOSTILE = [
    "",
    "-",
    "00",
    SAMPLED.upper(),
    SAMPLED[:-1],
    SAMPLED + "0",
    SAMPLED + "-more",
    SAMPLED + "\n",
    f"ff-{TRACE_ID}-{SPAN_ID}-01",
    f"0-{TRACE_ID}-{SPAN_ID}-01",
    f"00-{'0' * 32}-{SPAN_ID}-01",
    f"00-{TRACE_ID}-{'0' * 16}-01",
    f"00-{TRACE_ID}-{SPAN_ID}-0x",
    f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
    f"00_{TRACE_ID}_{SPAN_ID}_01",
    f"01-{TRACE_ID}-{SPAN_ID}-01more",
    f"cc-{TRACE_ID}-{SPAN_ID}-01-\xff",
    f" {SAMPLED}",
    f"{SAMPLED}, {SAMPLED}",
    "00-" + "\x00" * 52,
    "00-" * 5_000,
    "\u0660\u0660-" + SAMPLED[3:],  # digits, but not ours
]


@pytest.mark.parametrize("header, sampled", SOUND)
def test_a_sound_traceparent_is_followed(header: str, sampled: bool) -> None:
    """Version 00 to the letter, later versions in their common part (W3C Trace Context §3.2)."""
    assert parse(header.encode()) == TraceContext(TRACE_ID, SPAN_ID, sampled)
    found = arrived(Tracing("orders", ratio=0.0), header)
    assert (found.trace_id, found.sampled) == (TRACE_ID, sampled)
    assert found.span_id != SPAN_ID


@pytest.mark.parametrize("header", HOSTILE)
def test_a_hostile_traceparent_begins_a_new_trace(header: str) -> None:
    """What is not wholly sound is not followed in any part."""
    raw = header.encode()
    assert parse(raw) is None
    call = Call(OPERATION, Metadata.from_raw([(b"traceparent", raw)]))
    Tracing("orders", ratio=0.0).arrived(call)
    assert call.trace is not None
    assert call.trace.trace_id != TRACE_ID
    assert not call.trace.sampled
    assert parse(call.trace.traceparent.encode()) == TraceContext(call.trace.trace_id, call.trace.span_id, False)


@given(st.binary(max_size=80))
def test_no_header_breaks_the_parser(header: bytes) -> None:
    """Any bytes are a context or none."""
    found = parse(header)
    assert found is None or len(found.traceparent) == 55


def test_two_traceparents_mean_nothing() -> None:
    """Which of two is meant can't be told, so neither is."""
    other = SAMPLED.replace("1", "2")
    assert arrived(Tracing("orders"), SAMPLED, other).trace_id not in (TRACE_ID, other[3:35])


# --- sampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.25, 1.0])
def test_the_ratio_of_new_traces_is_sampled(ratio: float) -> None:
    """Of many new traces the share asked for is sampled, none at 0 and all at 1, each with ids of its own."""
    tracing = Tracing("orders", ratio=ratio)
    found = [arrived(tracing) for _ in range(20_000)]
    share = sum(each.sampled for each in found) / len(found)
    assert abs(share - ratio) <= 6 * (ratio * (1 - ratio) / len(found)) ** 0.5  # a chance of one in 500 million
    assert len({each.trace_id for each in found}) == len({each.span_id for each in found}) == len(found)


def test_the_callers_decision_is_kept_unless_callers_are_not_heeded() -> None:
    """A trace is sampled whole; at an edge the bits of its id decide alone, the same on every edge."""
    inside, edge = Tracing("a", ratio=0.5), Tracing("b", ratio=0.5, heeds_callers=False)
    low, high = f"{'a' * 18}{'0' * 13}1", f"{'a' * 18}{'f' * 14}"
    for flags, kept in (("01", True), ("00", False)):
        assert arrived(inside, f"00-{low}-{SPAN_ID}-{flags}").sampled is kept
        assert not arrived(edge, f"00-{low}-{SPAN_ID}-{flags}").sampled
        assert arrived(edge, f"00-{high}-{SPAN_ID}-{flags}").sampled


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_out_of_range_is_refused(ratio: float) -> None:
    """A share lies between nothing and everything."""
    with pytest.raises(ValueError, match="ratio"):
        Tracing("orders", ratio=ratio)


async def test_only_sampled_calls_are_exported(collector: Collector) -> None:
    """A call that is not sampled leaves no span, one that its caller sampled does."""
    made = traced("orders", collector, ratio=0.0)
    async with made.app, once(made.app) as client:
        for _ in range(20):
            await client.echo(text="x")
        await client.using(metadata={"traceparent": SAMPLED}).echo(text="x")
        with pytest.raises(NotFound):
            await client.call(FAIL, FailRequest(code=int(Code.NOT_FOUND)))
    assert collector.one(service="orders").trace_id == TRACE_ID


async def test_a_failure_of_the_service_is_recorded_though_not_sampled(collector: Collector) -> None:
    """A call that failed by the server's fault leaves a late span; a storm of them leaves few."""
    made = traced("orders", collector, ratio=0.0)
    began = time.monotonic()
    async with made.app, once(made.app) as client:
        for _ in range(10 * LATE):
            with pytest.raises(Error):
                await client.call(FAIL, FailRequest(code=int(Code.UNAVAILABLE), message="busy"))
    assert LATE <= len(collector.spans) <= LATE * (2 + int(time.monotonic() - began))
    assert all(each.failed for each in collector.spans)


# --- what a span tells ----------------------------------------------------------------------------------------------


async def test_an_rpc_tells_its_method_and_status(collector: Collector) -> None:
    """The attributes are those of the RPC conventions; success leaves the status unset."""
    served = traced("orders", collector)
    async with serving(served.app) as address, once(str(address)) as client:
        await client.using(metadata={"x-request-id": "r-1"}).echo(text="x")
        await served.tracing.flush()
    span = collector.one(kind="SERVER")
    assert not span.failed
    assert span.attributes["rpc.system.name"] == "grpc"
    assert span.attributes["rpc.method"] == "sample.v1.SampleService/Echo"
    assert span.attributes["rpc.response.status_code"] == "OK"
    assert span.attributes["interlock.request_id"] == "r-1"
    assert span.attributes["client.address"] == "127.0.0.1"
    assert span.attributes["client.port"] > 0


async def test_a_rest_request_tells_its_route(collector: Collector) -> None:
    """The attributes are those of the HTTP conventions, with the template, never the path."""
    served = traced("orders", collector)
    async with serving(served.app) as address, httpx2.AsyncClient(base_url=address.url) as client:
        assert (await client.get("/v1/echo/secret-7")).status_code == 200
        assert (await client.post("/v1/things", json={"name": "x"})).status_code == 201
        assert (await client.post("/v1/fail", json={"code": int(Code.NOT_FOUND)})).status_code == 404
        assert (await client.post("/v1/fail", json={"code": int(Code.INTERNAL)})).status_code == 500
        await served.tracing.flush()
    span = collector.one(name="GET /v1/echo/{text}")
    assert span.attributes["http.request.method"] == "GET"
    assert span.attributes["http.route"] == "/v1/echo/{text}"
    assert span.attributes["http.response.status_code"] == 200
    assert collector.one(name="POST /v1/things").attributes["http.response.status_code"] == 201
    failed = {each.attributes["http.response.status_code"]: each for each in collector.spans}
    assert not failed[404].failed
    assert failed[500].failed
    assert failed[500].attributes["error.type"] == "500"
    assert not any(b"secret-7" in body for body in collector.bodies)


@pytest.mark.parametrize("code, blamed", [(Code.NOT_FOUND, False), (Code.INTERNAL, True), (Code.UNAVAILABLE, True)])
async def test_an_error_is_recorded_with_its_status(
    served: Traced, collector: Collector, code: Code, blamed: bool
) -> None:
    """Every error is an event; the span fails where the server is to blame."""
    async with once(served.app) as client:
        with pytest.raises(Error):
            await client.call(FAIL, FailRequest(code=int(code), message="because", reason="OUT_OF_STOCK"))
        await served.tracing.flush()
    span = collector.one(kind="SERVER")
    assert span.failed is blamed
    assert span.status == ("OUT_OF_STOCK: because" if blamed else "")
    assert span.attributes["error.type"] == span.attributes["rpc.response.status_code"] == code.name
    assert span.events[0]["name"] == "exception"
    assert span.events[0]["exception.message"] == "because"


async def test_an_unexpected_exception_keeps_its_text(
    served: Traced, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """What a caller must not see, a collector does not get either."""
    async with once(served.app) as client:
        with pytest.raises(Error):
            await client.call(FAIL, FailRequest(unexpected=True, message="hunter2"))
        await served.tracing.flush()
    assert collector.one(kind="SERVER").failed
    assert "hunter2" in caplog.text
    assert not any(b"hunter2" in body for body in collector.bodies)


async def test_the_span_of_a_stream_lasts_as_long_as_the_stream(served: Traced, collector: Collector) -> None:
    """A stream is over when its last message was sent."""
    async with once(served.app) as client:
        async with client.count_up(CountUpRequest(count=2)) as numbers:
            assert (await anext(numbers)).number == 1
            await served.tracing.flush()
            assert collector.spans == []
            assert [each.number async for each in numbers] == [2]
        await served.tracing.flush()
    assert collector.one(name="sample.v1.SampleService/CountUp").attributes["rpc.response.status_code"] == "OK"


# --- the collector --------------------------------------------------------------------------------------------------


async def test_what_the_collectors_url_holds_is_shown_to_it(collector: Collector) -> None:
    """User and password as Basic (RFC 7617), and the query; a header of the settings goes first."""
    url = collector.url.replace("//", "//shop:p%40ss@") + "/otlp?key=k"
    for headers in ({}, {"authorization": "Bearer t"}):
        made = traced("orders", url, headers=headers)
        async with made.app:
            await once(made.app).echo(text="x")
        await made.tracing.flush()
    first, *_, last = collector.requests
    assert (first["path"], first["authorization"]) == ("/otlp/v1/traces?key=k", "Basic c2hvcDpwQHNz")
    assert last["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    "path, wanted", [("", "/v1/traces"), ("/", "/v1/traces"), ("/v1/traces", "/v1/traces"), ("/a", "/a/v1/traces")]
)
async def test_headers_and_path_are_as_the_collector_wants(
    collector: Collector, path: str, wanted: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The base URL is completed, a full one kept; credentials go along and are told nowhere."""
    caplog.set_level(logging.DEBUG)
    made = traced("orders", collector.url + path, headers={"authorization": "Bearer hunter2"})
    async with made.app, once(made.app) as client:
        await client.echo(text="x")
    (request,) = collector.requests
    assert request["path"] == wanted
    assert request["authorization"] == "Bearer hunter2"
    assert request["content-type"] == "application/x-protobuf"
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://localhost", "http://", "grpc://localhost:4317"])
async def test_a_wrong_endpoint_is_refused_at_the_start(endpoint: str) -> None:
    """What can't be a collector's URL is told before anything is served."""
    with pytest.raises(ValueError, match="OTLP endpoint"):
        await Tracing("orders", endpoint=endpoint).start()


async def test_calls_do_not_notice_that_the_collector_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """With nobody at the endpoint calls go on, one line tells of it, and the end comes soon."""
    made = traced("orders", f"http://127.0.0.1:{free_port()}")
    await made.app.start()
    async with once(made.app) as client:
        for _ in range(200):
            await client.echo(text="x")
    began = time.monotonic()
    await made.app.stop()
    assert time.monotonic() - began < 3
    lines = [each for each in caplog.records if each.levelno >= logging.WARNING and each.name != "interlock.security"]
    assert len(lines) == 1
    assert "can't be exported" in lines[0].getMessage()


async def test_calls_do_not_wait_for_a_slow_collector(collector: Collector) -> None:
    """While the collector does not answer calls go on, what waits is bounded, and the end does not wait for it."""
    collector.held.set()
    made = traced("orders", collector, queue=100)
    await made.app.start()
    async with once(made.app) as client, asyncio.timeout(20):
        for _ in range(500):
            await client.echo(text="x")
    began = time.monotonic()
    await made.tracing.stop(limit=0.5)
    assert time.monotonic() - began < 2
    await made.app.stop()
    collector.released.set()
    await until(lambda: bool(collector.spans), 10)
    assert len(collector.spans) <= 200  # the batch on its way, and the queue


async def test_spans_survive_a_collector_that_restarts(collector: Collector) -> None:
    """A batch that is not taken for a moment is sent again."""
    collector.status = 503
    made = traced("orders", collector)
    async with made.app, once(made.app) as client:
        await client.echo(text="x")
        await until(lambda: len(collector.requests) >= 1)
        collector.status = 200
        await until(lambda: len(collector.spans) == 1)
    assert collector.one(service="orders").kind == "SERVER"


async def test_a_batch_that_the_collector_refuses_is_not_repeated(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """What is refused for good is dropped at once and told, without its content."""
    collector.status = 400
    made = traced("orders", collector)
    async with made.app, once(made.app) as client:
        await client.echo(text="x")
        await made.tracing.flush()
    assert len(collector.requests) == 1
    assert "HTTP 400" in caplog.text


async def test_a_kept_connection_that_was_closed_is_opened_again(collector: Collector) -> None:
    """A collector that was replaced between two batches gets the second one."""
    with collecting() as first:
        port = int(first.url.rpartition(":")[2])
        made = traced("orders", first)
        await made.app.start()
        async with once(made.app) as client:
            await client.echo(text="x")
            await made.tracing.flush()
    assert len(first.spans) == 1
    with collecting(port) as second:
        async with once(made.app) as client:
            await client.echo(text="x")
        await made.tracing.flush()
        assert len(second.spans) == 1
        await made.app.stop()


async def test_tracing_starts_again_after_it_stopped(collector: Collector) -> None:
    """An app that is started twice is traced twice."""
    made = traced("orders", collector)
    for number in (1, 2):
        async with made.app, once(made.app) as client:
            await client.echo(text="x")
        assert len(collector.spans) == number


async def test_more_spans_than_the_collector_takes_are_counted_and_told_once(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """What finds no room is lost before it is made; the number is a metric, and one line says what to do."""
    collector.held.set()
    made = traced("orders", collector, queue=5, delay=30.0)
    await made.app.start()
    async with once(made.app) as client:
        for _ in range(40):
            await client.echo(text="x")
        lost = made.tracing.lost
        assert lost >= 30  # but for a batch on its way, and the queue
        collector.held.clear()
        collector.released.set()
        for _ in range(2):
            await made.tracing.flush()
            await client.echo(text="x")
        await made.tracing.flush()
    await made.app.stop()
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len([each for each in lines if "trace_ratio" in each]) == 1
    assert len(collector.spans) + lost == 42
