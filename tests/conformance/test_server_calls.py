"""Calls that keep to their protocol, by the suite's names: what is asked arrives, what is answered comes back."""

import asyncio
from collections.abc import Iterable, Sequence

import pytest
from protobuf.wkt.google.protobuf.duration_pb import Duration

from interlock import Code
from tests.conformance.calling import (
    CONNECT,
    DIALECTS,
    KINDS,
    REPLY,
    SENT,
    Caller,
    answer,
    carries,
    failing,
    requests_of,
)
from tests.conformance.conftest import LIMIT
from tests.conformance.dialects import Came, Dialect
from tests.conformance.gen.conformance.v1.conformance_pb import Answer, CallRequest, Failure, Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL_COMPRESSIONS = ("identity", "gzip", "br", "zstd")
COMPRESSIONS = ("identity", "gzip")
CODES = [code for code in Code if code is not Code.OK]
MANY, BINGS = ["foo", "bar", "baz"], ["bing", "quux"]


def suite(name: str, cases: Iterable[str], dialects: Sequence[Dialect] = DIALECTS) -> pytest.MarkDecorator:
    """Parametrize a test by the cases of one suite, each in every dialect that carries it."""
    params = [
        pytest.param(case, dialect, id=f"{name}/{case}/{dialect}")
        for case in cases
        for dialect in dialects
        if carries(dialect, kind_of(case))
    ]
    return pytest.mark.parametrize("case, dialect", params)


def kind_of(case: str) -> str:
    """Return the kind of RPC that a case's name begins with."""
    if case.startswith("bidi-stream/error"):
        return "bidi-stream/half-duplex"
    return next((kind for kind in KINDS if case.startswith(kind)), "unary")


def code_named(case: str) -> Code:
    """Return the code that a case's name ends with."""
    name = case.rpartition("/")[2].removesuffix("-mapping").replace("-", "_").upper()
    return Code.CANCELLED if name == "CANCELED" else Code[name]


def expect_reply(came: Came, requests: Sequence[CallRequest], replies: int, headers: Sequence[str]) -> Seen:
    """Check a success, and return what the service saw of the call."""
    assert (came.http_status, came.code, came.message) == (200, Code.OK, "")
    assert [each.data for each in came.messages] == [REPLY] * replies
    assert came.headers.get("x-custom-header", []) == list(headers)
    seen = [each.seen for each in came.messages if each.seen is not None]
    if not seen:
        return Seen()
    assert seen[-1].data == [each.data for each in requests]
    values = next((each.values for each in seen[0].headers if each.name == "x-conformance-test"), [])
    assert ", ".join(values) == "Value1, Value2"
    return seen[0]


# --- Basic ----------------------------------------------------------------------------------------------------------


@suite(
    "Basic",
    [
        "unary/success",
        "client-stream/success",
        "server-stream/success",
        "server-stream/no-responses",
        "bidi-stream/full-duplex/success",
        "bidi-stream/half-duplex/success",
        "bidi-stream/half-duplex/no-responses",
    ],
)
async def test_basic(caller: Caller, case: str, dialect: Dialect) -> None:
    """A call of every kind succeeds with headers and trailers, in every compression."""
    kind = kind_of(case)
    replies = 0 if case.endswith("no-responses") else 1 if kind in ("unary", "client-stream") else 2
    asked = requests_of(kind, answer(*[REPLY] * replies, headers=["foo"], trailers=["bing"]))
    for compression in ALL_COMPRESSIONS:
        came = await caller.call(dialect, kind, asked, compression=compression, headers=SENT)
        expect_reply(came, asked, replies, ["foo"])
        assert came.trailers["x-custom-trailer"] == ["bing"]


@suite("Basic", ["unimplemented"])
async def test_unimplemented(caller: Caller, case: str, dialect: Dialect) -> None:
    """An operation that is not offered is UNIMPLEMENTED."""
    came = await caller.call(dialect, "unary", [CallRequest()], method="Unimplemented", headers=SENT)
    assert came.code is Code.UNIMPLEMENTED


@suite("Connect with GET", ["success"], CONNECT)
async def test_get(caller: Caller, case: str, dialect: Dialect) -> None:
    """An operation without side effects may be asked with GET."""
    request = CallRequest(answer=answer(REPLY, headers=["foo"], trailers=["bing"]))
    came = await caller.get(dialect, request, SENT)
    expect_reply(came, [request], 1, ["foo"])
    assert came.trailers == {"x-custom-trailer": ["bing"]}


@suite(
    "Server Empty Requests",
    [f"{kind}/empty-request" for kind in KINDS if not kind.endswith("full-duplex")],
    [each for each in DIALECTS if each.codec == "proto"],
)
async def test_empty_requests(caller: Caller, case: str, dialect: Dialect) -> None:
    """A message without any field set is a message."""
    kind = kind_of(case)
    came = await caller.call(dialect, kind, [CallRequest()], headers=SENT)
    assert came.code is Code.OK
    assert [each.data for each in came.messages] == ([b""] if kind in ("unary", "client-stream") else [])


# --- deadlines ------------------------------------------------------------------------------------------------------


@suite("Deadline Propagation", [f"{kind}/success" for kind in KINDS if not kind.endswith("half-duplex")])
async def test_deadline_propagation(caller: Caller, case: str, dialect: Dialect) -> None:
    """The handler knows how long the caller waits."""
    kind = kind_of(case)
    replies = 1 if kind in ("unary", "client-stream") else 2
    asked = requests_of(kind, answer(*[REPLY] * replies))
    for compression in COMPRESSIONS:
        came = await caller.call(dialect, kind, asked, compression=compression, headers=SENT, timeout=20_000)
        seen = expect_reply(came, asked, replies, [])
        assert seen.timeout_ms is not None
        assert 0 < seen.timeout_ms <= 20_000


@suite("Timeouts", KINDS)
async def test_timeouts(caller: Caller, case: str, dialect: Dialect) -> None:
    """Who waits 200 ms for what takes longer is told DEADLINE_EXCEEDED."""
    replies = 1 if case in ("unary", "client-stream") else 2
    given = answer(*[REPLY] * replies, delay=Duration(seconds=30))
    asked = requests_of(case, given)
    calls = [caller.call(dialect, case, asked, compression=each, timeout=200) for each in COMPRESSIONS]
    for came in await asyncio.gather(*calls):
        assert (came.code, came.messages) == (Code.DEADLINE_EXCEEDED, [])


# --- metadata -------------------------------------------------------------------------------------------------------


@suite(
    "Duplicate Metadata",
    [
        "unary/success", "unary/error", "client-stream/success", "client-stream/error", "server-stream/success",
        "server-stream/no-response", "server-stream/error-with-responses", "server-stream/error-with-no-responses",
        "bidi-stream/full-duplex/success", "bidi-stream/full-duplex/error-with-responses",
        "bidi-stream/full-duplex/error-no-responses", "bidi-stream/half-duplex/success",
        "bidi-stream/half-duplex/error-with-responses", "bidi-stream/half-duplex/error-with-no-responses",
    ],
)  # fmt: skip
async def test_duplicate_metadata(caller: Caller, case: str, dialect: Dialect) -> None:
    """Several values of a name stay several, in order, on success and on failure."""
    await metadata_returns(caller, case, dialect, headers=MANY, trailers=BINGS)


@suite(
    "Errors",
    [
        "unary/error-with-metadata", "server-stream/error-with-metadata", "client-stream/error-with-metadata",
        "bidi-stream/error-with-metadata",
    ],
)  # fmt: skip
async def test_error_with_metadata(caller: Caller, case: str, dialect: Dialect) -> None:
    """A failure carries headers and trailers."""
    await metadata_returns(caller, case, dialect, headers=["foo"], trailers=["bing"])


async def metadata_returns(
    caller: Caller, case: str, dialect: Dialect, *, headers: list[str], trailers: list[str]
) -> None:
    """Check one case about metadata, in every compression."""
    kind = kind_of(case)
    one = kind in ("unary", "client-stream")
    fails = "error" in case
    replies = 0 if "no-response" in case or (one and fails) or "error-with-metadata" in case else 1 if one else 2
    failure = failing(Code.INTERNAL, "it failed") if fails else None
    asked = requests_of(kind, answer(*[REPLY] * replies, failure=failure, headers=headers, trailers=trailers))
    for compression in COMPRESSIONS:
        came = await caller.call(dialect, kind, asked, compression=compression, headers=SENT)
        assert [each.data for each in came.messages] == [REPLY] * replies
        assert (came.code, came.message) == ((Code.INTERNAL, "it failed") if fails else (Code.OK, ""))
        assert came.headers["x-custom-header"] == headers
        assert came.trailers["x-custom-trailer"] == trailers


# --- errors ---------------------------------------------------------------------------------------------------------

EVERY_CODE = [name.name.lower().replace("_", "-").replace("cancelled", "canceled") for name in CODES]


@suite("Errors", [f"{kind}/{code}" for kind in ("unary", "server-stream") for code in EVERY_CODE])
async def test_error_codes(caller: Caller, case: str, dialect: Dialect) -> None:
    """Every code arrives with its message and its reason."""
    code = code_named(case)
    failure = Failure(code=int(code), message="it failed", reason="OUT_OF_STOCK")
    for compression in COMPRESSIONS:
        asked = requests_of(kind_of(case), Answer(failure=failure))
        came = await caller.call(dialect, kind_of(case), asked, compression=compression)
        assert (came.code, came.message, came.reason) == (code, "it failed", "OUT_OF_STOCK")
        assert came.messages == []


@suite(
    "Connect to HTTP Code Mapping",
    [f"unary/{code}{'-mapping' if code == 'failed-precondition' else ''}" for code in EVERY_CODE],
    CONNECT,
)
async def test_code_mapping(caller: Caller, case: str, dialect: Dialect) -> None:
    """The HTTP status of a unary failure is what the Connect protocol says for its code."""
    code = code_named(case)
    came = await caller.call(dialect, "unary", requests_of("unary", Answer(failure=failing(code))))
    by_code = {
        Code.CANCELLED: 499, Code.UNKNOWN: 500, Code.INVALID_ARGUMENT: 400, Code.DEADLINE_EXCEEDED: 504,
        Code.NOT_FOUND: 404, Code.ALREADY_EXISTS: 409, Code.PERMISSION_DENIED: 403, Code.RESOURCE_EXHAUSTED: 429,
        Code.FAILED_PRECONDITION: 400, Code.ABORTED: 409, Code.OUT_OF_RANGE: 400, Code.UNIMPLEMENTED: 501,
        Code.INTERNAL: 500, Code.UNAVAILABLE: 503, Code.DATA_LOSS: 500, Code.UNAUTHENTICATED: 401,
    }  # fmt: skip
    assert (came.code, came.http_status) == (code, by_code[code])


@suite(
    "Connect to HTTP Code Mapping",
    [
        "server-stream/error-returns-success-http-code", "client-stream/error-returns-success-http-code",
        "bidi-stream/full-duplex/stream-error-returns-success-http-code",
        "bidi-stream/half-duplex/stream-error-returns-success-http-code",
    ],
    CONNECT,
)  # fmt: skip
async def test_stream_code_mapping(caller: Caller, case: str, dialect: Dialect) -> None:
    """A stream that fails is HTTP 200."""
    kind = kind_of(case)
    came = await caller.call(dialect, kind, requests_of(kind, Answer(failure=failing(Code.NOT_FOUND))))
    assert (came.code, came.http_status) == (Code.NOT_FOUND, 200)


@suite("Errors", ["unary/unicode-error-message"])
async def test_unicode_message(caller: Caller, case: str, dialect: Dialect) -> None:
    """A message may be in any script."""
    message = "ошибка 錯誤 🌧 100 %"
    came = await caller.call(dialect, "unary", requests_of("unary", Answer(failure=failing(Code.INTERNAL, message))))
    assert (came.code, came.message) == (Code.INTERNAL, message)


@suite(
    "Errors",
    [
        "server-stream/error-with-responses", "server-stream/error-with-no-responses",
        "client-stream/error-one-request", "client-stream/error-multiple-requests",
        "bidi-stream/full-duplex/error-with-responses", "bidi-stream/full-duplex/error-no-responses",
        "bidi-stream/half-duplex/error-with-responses", "bidi-stream/half-duplex/error-with-no-responses",
    ],
)  # fmt: skip
async def test_stream_errors(caller: Caller, case: str, dialect: Dialect) -> None:
    """A stream fails before its replies or behind them."""
    kind = kind_of(case)
    replies = 2 if case.endswith("error-with-responses") else 0
    given = answer(*[REPLY] * replies, failure=failing(Code.INTERNAL, "it failed"), headers=["foo"], trailers=["bing"])
    asked = requests_of(kind, given, count=1 if case.endswith("one-request") else 2)
    for compression in COMPRESSIONS:
        came = await caller.call(dialect, kind, asked, compression=compression)
        assert (came.code, came.message) == (Code.INTERNAL, "it failed")
        assert [each.data for each in came.messages] == [REPLY] * replies
        assert (came.headers["x-custom-header"], came.trailers["x-custom-trailer"]) == (["foo"], ["bing"])


# --- Server Message Size --------------------------------------------------------------------------------------------


def sized(request: CallRequest, size: int) -> CallRequest:
    """Return the request with so much data that its binary form has `size` bytes."""
    given = request.answer
    spare = size - len(CallRequest(answer=given, full_duplex=request.full_duplex, data=bytes(size)).to_binary()) + size
    made = CallRequest(answer=given, full_duplex=request.full_duplex, data=bytes(spare))
    assert len(made.to_binary()) == size
    return made


@suite(
    "Server Message Size",
    [
        "unary/request-equal-to-server-limit", "unary/request-exceeds-server-limit",
        "client-stream/all-requests-equal-to-server-limit", "client-stream/first-request-exceeds-server-limit",
        "client-stream/subsequent-request-exceeds-server-limit", "server-stream/request-equal-to-server-limit",
        "server-stream/request-exceeds-server-limit", "bidi-stream/half-duplex/all-requests-equal-to-server-limit",
        "bidi-stream/half-duplex/first-request-exceeds-server-limit",
        "bidi-stream/half-duplex/subsequent-request-exceeds-server-limit",
        "bidi-stream/full-duplex/all-requests-equal-to-server-limit",
        "bidi-stream/full-duplex/first-request-exceeds-server-limit",
    ],
    [each for each in DIALECTS if each.codec == "proto"],
)  # fmt: skip
async def test_message_size(caller: Caller, case: str, dialect: Dialect) -> None:
    """A request at the limit passes; one of ten bytes more is RESOURCE_EXHAUSTED, compressed or not."""
    kind = kind_of(case)
    replies = 1 if kind in ("unary", "client-stream") else 2
    first, *more = requests_of(kind, answer(*[REPLY] * replies))
    for compression in COMPRESSIONS:
        asked = [sized(first, LIMIT + (10 if "/first-" in case or "/request-exceeds" in case else 0))]
        asked += [sized(each, LIMIT + (10 if "subsequent" in case else 0)) for each in more]
        came = await caller.call(dialect, kind, asked, compression=compression)
        if "equal" in case:
            assert (came.code, [each.data for each in came.messages]) == (Code.OK, [REPLY] * replies)
        else:
            assert (came.code, came.messages) == (Code.RESOURCE_EXHAUSTED, [])
