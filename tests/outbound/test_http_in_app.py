"""Calls to third parties made while serving: what their caller is told, and what is seen of them."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from interlock import App, Call, Internal, NotFound, Unavailable
from interlock.outbound import HttpClient
from interlock.resilience.concurrency import BulkheadPolicy
from interlock.resilience.retry import RetryPolicy
from interlock.settings import Settings
from interlock.testing import until
from tests.observability.receiver import Collector, collecting
from tests.outbound.third_party import ThirdParty, reset, response, third_party
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample, make

SOON = RetryPolicy(retries=2, base=timedelta(milliseconds=1))


class Paying(Sample):
    """Asks a third party before it echoes."""

    def __init__(self, provider: HttpClient) -> None:
        super().__init__()
        self.provider = provider

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Echo what the third party says."""
        response = await self.provider.get(f"/charges/{request.text}")
        if response.status_code == 404:
            raise NotFound(f"no charge {request.text!r}")
        response.raise_for_status()
        return EchoResponse(text=response.text)


@pytest.fixture
async def party() -> AsyncIterator[ThirdParty]:
    """A third party on a real port."""
    async with third_party() as found:
        yield found


def paying(party: ThirdParty, settings: Settings | None = None) -> App:
    """Return an app that asks it, and closes the client with itself."""
    provider = HttpClient(party.url, name="provider", retries=SOON, bulkhead=BulkheadPolicy(calls=7))
    return make(Paying(provider), settings=settings or Settings(), on_stop=[provider.aclose])


def shown(app: App, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """Return the samples of a metric by their labels."""
    _, text = app.metrics.exposition()
    return {
        frozenset(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


async def test_what_a_handler_lets_through_is_answered_well(party: ThirdParty) -> None:
    """UNAVAILABLE keeps its code and asks for no retry; a status that nobody looked at is INTERNAL with an id."""
    party.script = [response(200, b"paid"), response(404)]
    app = paying(party)
    async with app, SampleServiceClient(app) as client:
        assert (await client.echo(text="c-1")).text == "paid"
        with pytest.raises(NotFound, match="no charge 'c-2'"):
            await client.echo(text="c-2")
        party.otherwise = reset
        with pytest.raises(Unavailable, match="a service behind this one failed") as raised:
            await client.echo(text="c-3")
        assert raised.value.final
        party.otherwise = response(500)
        with pytest.raises(Internal, match="under id"):
            await client.echo(text="c-4")


async def test_metrics_name_verb_and_target_alone(party: ThirdParty) -> None:
    """However many paths are called; retries, circuit and bulkhead of the target are there too."""
    party.script = [response(503), response(200), response(404)]
    app = paying(party)
    async with app, SampleServiceClient(app) as client:
        await client.echo(text="c-0")
        with pytest.raises(NotFound):
            await client.echo(text="c-1")
        for number in range(20):
            await client.echo(text=f"c-{number}")
        found = shown(app, "service_external_requests_total")
        labels = {"method": "GET", "endpoint": "provider"}
        assert found == {
            frozenset({**labels, "status": "200"}.items()): 21,
            frozenset({**labels, "status": "404"}.items()): 1,
        }
        assert shown(app, "service_external_duration_seconds_count") == {frozenset(labels.items()): 22}
        assert shown(app, "service_retries_total")[frozenset({("endpoint", "provider")})] == 1
        circuit = frozenset({("target", "provider"), ("endpoint", "/provider/GET")})
        assert shown(app, "service_circuit_breaker_state")[circuit] == 0
        places = shown(app, "service_bulkhead_calls")
        for state in ("running", "waiting"):
            assert places[frozenset({("target", "provider"), ("endpoint", "*"), ("state", state)})] == 0
        assert shown(app, "service_bulkhead_refused_total")[frozenset({("target", "provider"), ("endpoint", "*")})] == 0


async def test_a_trace_has_the_call_and_its_attempts(party: ThirdParty) -> None:
    """Client spans with verb, target and status, no path; the third party gets the attempt's traceparent."""
    party.script = [response(503)]
    with collecting() as collector:
        app = paying(party, Settings(otlp_endpoint=collector.url, trace_ratio=1.0))
        async with app, SampleServiceClient(app) as client:
            await client.echo(text="secret-path")
        await until(lambda: len(collector.spans) >= 4)
        _look(collector, party)


def _look(collector: Collector, party: ThirdParty) -> None:
    whole = collector.one(name="GET provider", kind="CLIENT")
    assert whole.attributes["http.response.status_code"] == 200
    assert whole.attributes["server.port"] == party.port
    assert (whole.attributes["interlock.target"], whole.failed) == ("provider", False)
    tried = [each for each in collector.spans if each.name == "GET provider attempt"]
    assert [each.attributes["http.response.status_code"] for each in tried] == [503, 200]
    assert [each.failed for each in tried] == [True, False]
    assert {each.parent_id for each in tried} == {whole.span_id}
    sent = [each.headers["traceparent"].split("-") for each in party.asked]
    assert [(each[1], each[2]) for each in sent] == [(each.trace_id, each.span_id) for each in tried]
    assert "secret-path" not in str([each.attributes for each in collector.spans if "GET" in each.name])
