"""Every parser of ours takes any bytes: it reads them, or refuses them as the caller's mistake, and nothing else."""

import contextlib
import http.client
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock import Error
from interlock.contract.path_template import PathTemplate
from interlock.metadata import MalformedMetadata, Metadata
from interlock.observability.tracing import parse
from interlock.protocols.compression import KNOWN, accepted
from interlock.protocols.connect_envelopes import Envelopes
from interlock.protocols.connect_head import timeout_of
from interlock.protocols.connect_unary import parse_query
from interlock.protocols.rest_body import compression_of, media_type
from tests.hostile import frames
from tests.hostile.target import Target
from tests.sample.gen.sample.v1.sample_pb import EchoRequest

LIMIT = 1000
HEADER = st.binary(max_size=80)
PIECES = st.sampled_from(
    [b"\x00\x00\x00\x00\x02{}", b"\x02\x00\x00\x00\x02{}", b"\x01", b"\x00\x00", b"{", b"\xff" * 5]
)
calmly = settings(max_examples=200, deadline=None)


@calmly
@given(st.lists(st.one_of(PIECES, st.binary(max_size=12)), max_size=8))
def test_envelopes(pieces: list[bytes]) -> None:
    """A stream of Connect is messages and an end, or an error; no message is over the limit."""
    envelopes = Envelopes(LIMIT, KNOWN[b"gzip"])
    try:
        for piece in pieces:
            envelopes.feed(piece)
            while (message := envelopes.next()) is not None:
                assert len(message) <= LIMIT
        envelopes.finish()
    except Error:
        pass


@calmly
@given(st.one_of(HEADER, st.text("0123456789-+ e.", max_size=15).map(str.encode)))
def test_connect_timeouts(value: bytes) -> None:
    """A timeout is a number of seconds that is not negative, or an error."""
    try:
        found = timeout_of(Metadata.from_raw([(b"connect-timeout-ms", value)]))
    except Error:
        return
    assert found is not None
    assert 0 <= found < float("inf")


@calmly
@given(st.one_of(st.text(max_size=60), st.text("/{}=*:a.b_", max_size=30)))
def test_path_templates(text: str) -> None:
    """A template is read, or refused with a ValueError."""
    with contextlib.suppress(ValueError):
        PathTemplate.parse(text)


@calmly
@given(st.one_of(HEADER, st.text("a=&%+1bG", max_size=60).map(str.encode)))
def test_connect_queries(raw: bytes) -> None:
    """A query string is names and values."""
    assert all(isinstance(value, bytes) for value in parse_query(raw).values())


@calmly
@given(HEADER)
def test_binary_metadata(value: bytes) -> None:
    """A `-bin` value is base64, or malformed."""
    with contextlib.suppress(MalformedMetadata):
        assert all(isinstance(each, bytes) for _, each in Metadata.from_raw([(b"x-bin", value)]).items())


@calmly
@given(st.one_of(HEADER, st.text("0123456789abcdef-", max_size=70).map(str.encode)))
def test_traceparents(value: bytes) -> None:
    """A traceparent is read or passed over; zero ids are none (W3C Trace Context §3.2.2)."""
    parse(value)
    assert parse(b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01") is None


@calmly
@given(HEADER)
def test_names_of_types_and_codings(value: bytes) -> None:
    """Content-Type, Content-Encoding and Accept-Encoding are read or refused."""
    try:
        media_type(value)
        compression_of(Metadata.from_raw([(b"content-encoding", value)]))
    except Error:
        pass
    accepted(value)


NAMES = [each.json_name for each in EchoRequest.desc().fields]
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20),
        st.sampled_from(["NaN", "Infinity", "-1s", "2026-01-01T00:00:00Z", "VOLUME_HIGH", "AP8=", "1e400"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=12,
)  # fmt: skip
DOCUMENTS = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6).map(lambda each: json.dumps(each).encode()),
    st.tuples(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3), st.integers(0, 60)).map(
        lambda each: json.dumps(each[0]).encode()[: each[1]]
    ),
    st.binary(max_size=60),
    st.text('{}[]":,\\ud8e0123456789.-+nultrefas ', max_size=60).map(str.encode),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
        for name in (
            "accept", "if-match", "if-none-match", "prefer", "traceparent", "tracestate", "baggage", "accept-encoding",
            "idempotency-key", "x-request-id", "connect-timeout-ms", "grpc-timeout", "x-test-bin", "authorization",
        )
    },
)  # fmt: skip
DOORS = [("/v1/echo", "application/json"), (frames.ECHO, "application/json"), (frames.ECHO, "application/proto")]


@pytest.mark.parametrize("path, content_type", DOORS)
def test_the_doors_of_another_process(target: Target, path: str, content_type: str) -> None:
    """Any body under any header fields gets an answer that is no fault of the server, from a process that lives on."""
    connection = http.client.HTTPConnection("127.0.0.1", target.process.port, timeout=20)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(DOCUMENTS, FIELDS)
    def ask(body: bytes, fields: dict[str, str]) -> None:
        status, said = _post(connection, path, body, {"content-type": content_type, **fields})
        assert status < 500 or status in (501, 503, 504), said
        if status == 200 and path == "/v1/echo":
            json.loads(said)

    worker = _worker(connection)
    ask()
    assert _worker(connection) == worker
    connection.close()
    assert "Traceback" not in target.process.output


def _post(connection: http.client.HTTPConnection, path: str, body: bytes, fields: dict[str, Any]) -> tuple[int, bytes]:
    connection.request("POST", path, body, fields)
    answer = connection.getresponse()
    return answer.status, answer.read()


def _worker(connection: http.client.HTTPConnection) -> str:
    status, said = _post(connection, "/v1/echo", b'{"text": "pid"}', {"content-type": "application/json"})
    assert status == 200
    return str(json.loads(said)["data"]["text"])
