"""Requests that no sound client sends, by the suite's names: each is refused as its protocol says."""

from collections.abc import Iterable, Sequence

import pytest

from interlock import Code
from tests.conformance.calling import CONNECT, DIALECTS, GRPC, GRPC_WEB, REPLY, SERVICE, Caller, answer
from tests.conformance.dialects import TYPE_OF, Dialect, frame
from tests.conformance.gen.conformance.v1.conformance_pb import CallRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROTO_CONNECT = [each for each in CONNECT if each.codec == "proto"]
EITHER = {Code.UNKNOWN, Code.INTERNAL, Code.UNIMPLEMENTED}
VERSION = ("connect-protocol-version", "1")
EMPTY = frame(b"", 0)


def suite(name: str, cases: Iterable[str], dialects: Sequence[Dialect]) -> pytest.MarkDecorator:
    """Parametrize a test by the cases of one suite, each in every dialect."""
    params = [pytest.param(case, dialect, id=f"{name}/{case}/{dialect}") for case in cases for dialect in dialects]
    return pytest.mark.parametrize("case, dialect", params)


def grpc_head(dialect: Dialect, sub_format: str = "", **more: str) -> list[tuple[str, str]]:
    """Return the head of a request in gRPC or gRPC-Web; `_` in a name stands for `-`."""
    fields = [("content-type", TYPE_OF[dialect.protocol] + sub_format)]
    if dialect.protocol == "grpc":
        fields.append(("te", "trailers"))
    return [*fields, *((name.replace("_", "-"), value) for name, value in more.items())]


def grpc_suites(cases: Sequence[str], name: str) -> pytest.MarkDecorator:
    """Parametrize by the same cases for gRPC and gRPC-Web, each under its suite's name."""
    params = [
        pytest.param(case, dialect, id=f"{prefix} {name}/{case}/{dialect}")
        for prefix, dialects in (("gRPC", GRPC), ("gRPC-Web", GRPC_WEB))
        for case in cases
        for dialect in dialects
    ]
    return pytest.mark.parametrize("case, dialect", params)


@grpc_suites(["with-proto-sub-format", "without-proto-sub-format"], "Proto Sub-Format Requests")
async def test_sub_format(caller: Caller, case: str, dialect: Dialect) -> None:
    """`+proto` may stand behind the content type or be left out."""
    head = grpc_head(dialect, "+proto" if case.startswith("with-") else "")
    body = frame(CallRequest(answer=answer(REPLY)).to_binary(), 0)
    came = await caller.raw(dialect, f"{SERVICE}Unary", head, body)
    assert (came.http_status, came.code, [each.data for each in came.messages]) == (200, Code.OK, [REPLY])


CARDINALITY = [
    "unary/no-request",
    "unary/multiple-requests",
    "server-stream/no-request",
    "server-stream/multiple-requests",
]


@grpc_suites(CARDINALITY, "Unexpected Requests")
async def test_cardinality(caller: Caller, case: str, dialect: Dialect) -> None:
    """Where one request is due, none and two are UNIMPLEMENTED."""
    method = "Unary" if case.startswith("unary") else "ServerStream"
    body = EMPTY * 2 if "multiple" in case else b""
    came = await caller.raw(dialect, f"{SERVICE}{method}", grpc_head(dialect, "+proto"), body)
    assert (came.http_status, came.code, came.messages) == (200, Code.UNIMPLEMENTED, [])


@grpc_suites(["unexpected-verb"], "Unexpected Requests")
async def test_verb(caller: Caller, case: str, dialect: Dialect) -> None:
    """DELETE is no call: plain HTTP 405."""
    came = await caller.raw(dialect, f"{SERVICE}Unary", grpc_head(dialect), b"", method="DELETE")
    assert (came.http_status, came.headers["allow"]) == (405, ["POST"])
    assert came.code in EITHER


@grpc_suites(["unexpected-uri"], "Unexpected Requests")
async def test_uri(caller: Caller, case: str, dialect: Dialect) -> None:
    """An unknown path is UNIMPLEMENTED."""
    came = await caller.raw(dialect, "/conformance.v1.UnknownService/UnknownMethod", grpc_head(dialect), EMPTY)
    assert (came.http_status, came.code) == (200, Code.UNIMPLEMENTED)


@grpc_suites(["unexpected-codec"], "Unexpected Requests")
async def test_codec(caller: Caller, case: str, dialect: Dialect) -> None:
    """An unknown sub-format is plain HTTP 415."""
    came = await caller.raw(dialect, f"{SERVICE}Unary", grpc_head(dialect, "+foo"), EMPTY)
    assert came.http_status == 415
    assert TYPE_OF[dialect.protocol] in came.headers["accept-post"]
    assert came.code in EITHER


@grpc_suites(["unexpected-compression"], "Unexpected Requests")
async def test_compression(caller: Caller, case: str, dialect: Dialect) -> None:
    """An unknown encoding is UNIMPLEMENTED, with those that are known."""
    head = grpc_head(dialect, grpc_encoding="foo")
    came = await caller.raw(dialect, f"{SERVICE}Unary", head, frame(b"anything", 1))
    assert (came.http_status, came.code) == (200, Code.UNIMPLEMENTED)
    assert "gzip" in came.message


@grpc_suites(["unexpected-compressed-message"], "Unexpected Requests")
async def test_compressed_message(caller: Caller, case: str, dialect: Dialect) -> None:
    """A compressed message where none was announced is INTERNAL."""
    head = grpc_head(dialect, "+proto", grpc_encoding="identity")
    came = await caller.raw(dialect, f"{SERVICE}Unary", head, frame(b"", 1))
    assert (came.http_status, came.code) == (200, Code.INTERNAL)


# --- Connect --------------------------------------------------------------------------------------------------------

STREAM = [("content-type", "application/connect+proto"), VERSION]
UNARY = [("content-type", "application/proto"), VERSION]


@suite("Connect Unexpected Requests", CARDINALITY[2:], PROTO_CONNECT)
async def test_connect_cardinality(caller: Caller, case: str, dialect: Dialect) -> None:
    """Where one request is due, none and two are UNIMPLEMENTED."""
    body = EMPTY * 2 if "multiple" in case else b""
    came = await caller.raw(dialect, f"{SERVICE}ServerStream", STREAM, body, streams=True)
    assert (came.http_status, came.code, came.messages) == (200, Code.UNIMPLEMENTED, [])


@suite("Connect Unexpected Requests", ["unexpected-verb"], PROTO_CONNECT)
async def test_connect_verb(caller: Caller, case: str, dialect: Dialect) -> None:
    """DELETE is 405, and so is GET where repeating is not known to do nothing."""
    for method in ("DELETE", "GET"):
        came = await caller.raw(dialect, f"{SERVICE}Unary", UNARY, b"", method=method)
        assert (came.http_status, came.code, came.headers["allow"]) == (405, Code.UNKNOWN, ["POST"])
    came = await caller.raw(dialect, f"{SERVICE}IdempotentUnary", UNARY, b"", method="DELETE")
    assert (came.http_status, came.headers["allow"]) == (405, ["GET", "POST"])


@suite("Connect Unexpected Requests", ["unexpected-uri"], PROTO_CONNECT)
async def test_connect_uri(caller: Caller, case: str, dialect: Dialect) -> None:
    """An unknown path is 404 and UNIMPLEMENTED."""
    came = await caller.raw(dialect, "/conformance.v1.UnknownService/UnknownMethod", UNARY, b"")
    assert (came.http_status, came.code) == (404, Code.UNIMPLEMENTED)


@suite("Connect Unexpected Requests", ["unexpected-codec"], PROTO_CONNECT)
async def test_connect_codec(caller: Caller, case: str, dialect: Dialect) -> None:
    """An unknown codec is 415, with those that are known."""
    came = await caller.raw(dialect, f"{SERVICE}Unary", [("content-type", "application/foo"), VERSION], b"x")
    assert (came.http_status, came.code) == (415, Code.UNKNOWN)
    assert {"application/proto", "application/json"} <= set(came.headers["accept-post"])


@suite("Connect Unexpected Requests", ["unexpected-compression"], PROTO_CONNECT)
async def test_connect_compression(caller: Caller, case: str, dialect: Dialect) -> None:
    """An unknown encoding is UNIMPLEMENTED, with those that are known."""
    came = await caller.raw(dialect, f"{SERVICE}Unary", [*UNARY, ("content-encoding", "foo")], b"anything")
    assert came.code is Code.UNIMPLEMENTED
    assert "gzip" in came.headers["accept-encoding"]
    head = [*STREAM, ("connect-content-encoding", "foo")]
    came = await caller.raw(dialect, f"{SERVICE}ServerStream", head, frame(b"anything", 1), streams=True)
    assert (came.http_status, came.code) == (200, Code.UNIMPLEMENTED)


@suite("Connect Unexpected Requests", ["unexpected-compressed-message"], PROTO_CONNECT)
async def test_connect_compressed_message(caller: Caller, case: str, dialect: Dialect) -> None:
    """A compressed message where none was announced is INTERNAL."""
    head = [*STREAM, ("connect-content-encoding", "identity")]
    came = await caller.raw(dialect, f"{SERVICE}ServerStream", head, frame(b"", 1), streams=True)
    assert (came.http_status, came.code) == (200, Code.INTERNAL)


@suite("Unexpected Requests", ["unexpected-content-type"], [each for each in DIALECTS if each.codec == "proto"])
async def test_content_type(caller: Caller, case: str, dialect: Dialect) -> None:
    """What is no message of any protocol is 415."""
    came = await caller.raw(dialect, f"{SERVICE}Unary", [("content-type", "image/jpeg")], b"12345678")
    assert (came.http_status, came.code) == (415, Code.UNKNOWN)
