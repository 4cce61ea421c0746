"""Connect's server side against hostile, broken and unusual requests, and what is told of those it refuses."""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from interlock import App
from interlock.observability.logging import AccessLog
from interlock.protocols.compression import KNOWN, Compression
from interlock.protocols.grpc_wire import frame
from tests.protocols.grpc_exchange import GRPC, Answer, Headers, ask
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse, GetThingRequest
from tests.sample.gen.sample.v1.sample_rpc import COUNT_UP, ECHO, GET_THING, SLOW
from tests.sample.handlers import make

JSON = (b"content-type", b"application/json")
PROTO = (b"content-type", b"application/proto")
STREAM = (b"content-type", b"application/connect+json")
LIMIT = 4 << 20
EVERY_COMPRESSION = pytest.mark.parametrize("compression", KNOWN.values(), ids=lambda each: each.name.decode())


@pytest.fixture
def lines() -> list[str]:
    """The access lines."""
    return []


@pytest.fixture
def app(lines: list[str]) -> App:
    """The app, as an ASGI server would call it."""
    return make(access_log=AccessLog(lines.append, batch=1))


@pytest.fixture(autouse=True)
def nothing_left(app: App) -> Iterator[None]:
    """Whatever was sent, no call stays counted in."""
    yield
    assert not app.in_flight.calls


def error_of(answer: Answer) -> tuple[int, str]:
    """Return HTTP status and code of a failure."""
    return answer.status, json.loads(answer.body)["code"]


async def get(app: App, query: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    """Ask for a slow reply that takes no time, with GET."""

    async def with_query(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "query_string": query}, receive, send)

    return await ask(with_query, SLOW.path, b"", method="GET", headers=list(headers))


@pytest.mark.parametrize("data", [b'{"text": "a", "bigNumber": 1}', b'{"text": "a"}', b' {"text":"a"} '])
async def test_json_is_read_and_written(app: App, data: bytes) -> None:
    """Names the contract does not know are left out, as from a binary message."""
    answer = await ask(app, ECHO.path, data, headers=[JSON])
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == {"text": "a"}


async def test_both_spellings_are_read_and_one_is_written(app: App) -> None:
    """Requests may name fields as the contract does or in lowerCamelCase; replies are in the latter."""
    made = await ask(app, "/sample.v1.SampleService/CreateThing", b'{"name": "x"}', headers=[JSON])
    assert json.loads(made.body)["thingId"] == "x"
    for name in ("thing_id", "thingId"):
        found = await ask(app, GET_THING.path, json.dumps({name: "x"}).encode(), headers=[JSON])
        assert json.loads(found.body)["thingId"] == "x"


@pytest.mark.parametrize(
    "body, headers, expected",
    [
        (b"", [JSON], (400, "invalid_argument")),
        (b"{", [JSON], (400, "invalid_argument")),
        (b"\xff", [JSON], (400, "invalid_argument")),
        (b"\xff", [PROTO], (400, "invalid_argument")),
        (b"[" * 100_000, [JSON], (400, "invalid_argument")),
        (b'{"text": 1}', [JSON], (400, "invalid_argument")),
        (bytes(LIMIT + 1), [PROTO], (429, "resource_exhausted")),
        (b"{}", [JSON, (b"connect-protocol-version", b"2")], (400, "invalid_argument")),
        (b"{}", [JSON, (b"connect-timeout-ms", b"-1")], (400, "invalid_argument")),
        (b"{}", [JSON, (b"connect-timeout-ms", b"12345678901")], (400, "invalid_argument")),
        (b"{}", [JSON, (b"connect-timeout-ms", b"0")], (504, "deadline_exceeded")),
        (b"{}", [JSON, (b"content-encoding", b"gzip")], (400, "invalid_argument")),
    ],
)
async def test_what_does_not_fit_is_refused(app: App, body: bytes, headers: Headers, expected: tuple[int, str]) -> None:
    """Each mistake has its code and its HTTP status."""
    assert error_of(await ask(app, ECHO.path, body, headers=headers)) == expected


async def test_json_in_a_stream_is_bounded_in_depth(app: App) -> None:
    """What is nested too deeply never reaches the parser, in an envelope neither."""
    answer = await ask(app, COUNT_UP.path, frame(b"[" * 100_000), headers=[STREAM])
    assert answer.status == 200
    assert json.loads(answer.body[5:])["error"]["code"] == "invalid_argument"


@EVERY_COMPRESSION
async def test_bodies_are_compressed_both_ways(app: App, compression: Compression) -> None:
    """A request may be compressed; a large reply is as the caller accepts, a small one is not."""
    large = EchoRequest(text="hello " * 1000)
    headers = [PROTO, (b"content-encoding", compression.name), (b"accept-encoding", compression.name)]
    answer = await ask(app, ECHO.path, compression.compress(large.to_binary()), headers=headers)
    assert answer.headers["content-encoding"] == compression.name.decode()
    assert EchoResponse.from_binary(compression.inflate(answer.body, LIMIT)).text == large.text
    small = await ask(app, ECHO.path, compression.compress(b""), headers=headers)
    assert "content-encoding" not in small.headers


@EVERY_COMPRESSION
async def test_a_bomb_is_refused(app: App, compression: Compression) -> None:
    """What would inflate beyond the limit is refused, alone and in an envelope."""
    bomb = compression.compress(bytes(100 << 20))
    assert len(bomb) < LIMIT
    headers = [PROTO, (b"content-encoding", compression.name)]
    assert error_of(await ask(app, ECHO.path, bomb, headers=headers)) == (429, "resource_exhausted")
    headers = [STREAM, (b"connect-content-encoding", compression.name)]
    answer = await ask(app, COUNT_UP.path, frame(bomb, compressed=True), headers=headers)
    assert json.loads(answer.body[5:])["error"]["code"] == "resource_exhausted"


@pytest.mark.parametrize(
    "query",
    [
        b"connect=v1&encoding=json&message=%7B%7D",
        b"encoding=json&message={}",
        b"encoding=proto&message=",
        b"encoding=json&base64=1&message=" + urlsafe_b64encode(b"{}"),
        b"encoding=json&base64=1&message=" + quote(b64encode(b'{"seconds":0.0}')).encode(),
        b"encoding=json&base64=1&compression=gzip&message=" + urlsafe_b64encode(KNOWN[b"gzip"].compress(b"{}")),
    ],
)
async def test_get_is_served(app: App, query: bytes) -> None:
    """The request of a GET stands in its query, in any of its forms."""
    answer = await get(app, query)
    assert answer.status == 200, answer.body
    assert answer.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    "query",
    [
        b"", b"encoding=json", b"message={}", b"encoding=xml&message={}", b"connect=v2&encoding=json&message={}",
        b"encoding=json&base64=1&message=%00", b"encoding=json&base64=1&message=a",
        b"encoding=json&message=" + b"[" * 9999,
        b"encoding=json&message=%FF",
    ],
)  # fmt: skip
async def test_a_wrong_query_is_refused(app: App, query: bytes) -> None:
    """A GET that is none is INVALID_ARGUMENT."""
    assert error_of(await get(app, query)) == (400, "invalid_argument")


async def test_an_error_tells_its_details(app: App) -> None:
    """Details come as type, value and, for people, as JSON; the field at fault is among them."""
    answer = await ask(app, ECHO.path, b'{"items": [{"sku": "a", "quantity": 0}]}', headers=[JSON])
    details = {each["type"]: each["debug"] for each in json.loads(answer.body)["details"]}
    assert details["google.rpc.ErrorInfo"]["reason"] == "VALIDATION_ERROR"
    assert details["google.rpc.BadRequest"]["fieldViolations"][0]["field"] == "items[0].quantity"
    assert GetThingRequest.desc().type_name not in details


@pytest.mark.parametrize(
    "path, headers, method, endpoint, label",
    [
        (ECHO.path, [GRPC, (b"grpc-timeout", b"soon")], "POST", ECHO.path, 'method="GRPC",status="INVALID_ARGUMENT"'),
        (ECHO.path, [GRPC, (b"grpc-encoding", b"x")], "POST", ECHO.path, 'method="GRPC",status="UNIMPLEMENTED"'),
        (ECHO.path, [JSON, (b"connect-timeout-ms", b"x")], "POST", ECHO.path,
         'method="CONNECT",status="INVALID_ARGUMENT"'),
        ("/no.Such/Path", [GRPC], "POST", "unmatched", 'method="GRPC",status="UNIMPLEMENTED"'),
        ("/no.Such/Path", [PROTO], "POST", "unmatched", 'method="CONNECT",status="UNIMPLEMENTED"'),
        (ECHO.path, [(b"content-type", b"text/plain")], "POST", "unmatched", 'method="POST",status="415"'),
        (ECHO.path, [GRPC], "DELETE", "unmatched", 'method="DELETE",status="405"'),
    ],
)  # fmt: skip
async def test_what_is_refused_is_told_of(
    app: App, lines: list[str], *, path: str, headers: Headers, method: str, endpoint: str, label: str
) -> None:
    """A request that reaches no handler leaves an access line under its id, and a number under few labels."""
    await ask(app, path, b"", headers=[*headers, (b"x-request-id", b"the-id")], method=method)
    (line,) = (json.loads(each) for each in lines)
    assert (line["request_id"], line["endpoint"]) == ("the-id", endpoint)
    text = app._parts.metrics.exposition()[1].decode()
    assert f'service_requests_total{{endpoint="{endpoint}",{label}}} 1.0' in text
