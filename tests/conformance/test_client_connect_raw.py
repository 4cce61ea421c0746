"""Conformance, client under test, Connect: replies that no sound server makes, byte by byte, by their case names."""

import gzip
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from interlock import Code, Error
from interlock.call import Call
from interlock.contract.stub import Rpc
from interlock.deadline import Deadline
from interlock.protocols.connect_client import ConnectTransport
from tests.conformance.gen.conformance.v1.conformance_pb import CallRequest, CallResponse
from tests.conformance.gen.conformance.v1.conformance_rpc import (
    BIDI_STREAM,
    CLIENT_STREAM,
    CONFORMANCE_SERVICE,
    SERVER_STREAM,
    UNARY,
)
from tests.conformance.raw_http import Fields, envelope, raw_http, response

PROTO, JSON = ("content-type", "application/proto"), ("content-type", "application/json")
STREAM = ("content-type", "application/connect+proto")
HEADER = ("x-custom-header", "foo")
MESSAGE = CallResponse(data=b"test response").to_binary()
DETAIL = {"type": "google.protobuf.FileDescriptorProto", "value": "Cgp0ZXN0LnByb3Rv"}
KINDS = {
    "unary": UNARY,
    "client-stream": CLIENT_STREAM,
    "server-stream": SERVER_STREAM,
    "bidi-stream/half-duplex": BIDI_STREAM,
}


@dataclass
class Outcome:
    """What the caller got: messages, headers and trailers, and the error if there was one."""

    messages: list[Any]
    headers: dict[str, str | bytes]
    trailers: dict[str, str | bytes]
    error: Error | None = None

    @property
    def code(self) -> Code:
        """The code of the outcome."""
        return self.error.code if self.error is not None else Code.OK


async def outcome(rpc: Rpc[Any, Any], answer: bytes) -> Outcome:
    """Call a server that answers so."""
    async with raw_http(answer) as peer:
        transport = ConnectTransport(peer.url)
        operation = CONFORMANCE_SERVICE.operation(rpc)
        call = Call(operation, deadline=Deadline.after(20), wants_metadata=True)
        call.request = _one() if rpc.kind.client_streams else CallRequest(data=b"x")
        came = Outcome([], {}, {})
        try:
            reply: Any = await transport.handler(operation)(call)
            if rpc.kind.server_streams:
                async for message in reply:
                    came.messages.append(message)
            else:
                came.messages.append(reply)
        except Error as error:
            came.error = error
        finally:
            await transport.close()
        assert came.error is None or came.error.received
        came.headers, came.trailers = dict(call.reply_headers.items()), dict(call.reply_trailers.items())
        return came


async def _one() -> AsyncIterator[CallRequest]:
    yield CallRequest(data=b"x")


def end(document: Any = None, flags: int = 2) -> bytes:
    """Return the envelope that ends a stream."""
    return envelope(json.dumps(document if document is not None else {}).encode(), flags)


HTTP_TO_RPC_CODE_MAPPING = {
    "bad-request": (400, Code.INTERNAL),
    "unauthorized": (401, Code.UNAUTHENTICATED),
    "forbidden": (403, Code.PERMISSION_DENIED),
    "not-found": (404, Code.UNIMPLEMENTED),
    "conflict": (409, Code.UNKNOWN),
    "precondition-failed": (412, Code.UNKNOWN),
    "payload-too-large": (413, Code.UNKNOWN),
    "unsupported-media-type": (415, Code.UNKNOWN),
    "too-many-requests": (429, Code.UNAVAILABLE),
    "request-header-fields-too-large": (431, Code.UNKNOWN),
    "bad-gateway": (502, Code.UNAVAILABLE),
    "service-unavailable": (503, Code.UNAVAILABLE),
    "gateway-timeout": (504, Code.UNAVAILABLE),
    "http-version-not-supported": (505, Code.UNKNOWN),
}
UNEXPECTED_RESPONSES = {
    "unmapped-http-status-code": (418, Code.UNKNOWN),
    "nonexistent-http-status-code": (800, Code.UNKNOWN),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [*HTTP_TO_RPC_CODE_MAPPING, *UNEXPECTED_RESPONSES])
async def test_http_to_rpc_code_mapping(case: str, kind: str) -> None:
    """HTTP to RPC Code Mapping, Unexpected Responses: a reply without a Connect error gets its code from its status."""
    status, code = (HTTP_TO_RPC_CODE_MAPPING | UNEXPECTED_RESPONSES)[case]
    assert (await outcome(KINDS[kind], response(status))).code is code


COMPRESSED = {
    "error/compressed": (
        UNARY,
        response(
            422,
            (JSON, ("content-encoding", "gzip")),
            gzip.compress(json.dumps({"code": "out_of_range", "message": "oops", "details": [DETAIL]}).encode()),
        ),
    ),
    "end-stream/compressed": (
        SERVER_STREAM,
        response(
            200,
            (STREAM, ("connect-content-encoding", "gzip")),
            envelope(
                gzip.compress(json.dumps({"error": {"code": "out_of_range", "message": "oops"}}).encode()), flags=3
            ),
        ),
    ),
}


@pytest.mark.parametrize("case", COMPRESSED)
async def test_connect_compressed_error_and_end_stream(case: str) -> None:
    """Connect Compressed Error and End-Stream: what tells of the error may be compressed."""
    came = await outcome(*COMPRESSED[case])
    assert came.error is not None
    assert (came.code, came.error.message) == (Code.OUT_OF_RANGE, "oops")


@pytest.mark.parametrize("case", [f"{kind}/empty-response" for kind in KINDS])
async def test_connect_empty_responses(case: str) -> None:
    """Connect Empty Responses: a message of no bytes is a message."""
    kind = case.removesuffix("/empty-response")
    if kind == "unary":
        answer = response(200, (PROTO, HEADER, ("trailer-x-custom-trailer", "bing")))
    else:
        body = envelope(b"") + end({"metadata": {"x-custom-trailer": ["bing"]}})
        answer = response(200, (STREAM, HEADER), body)
    came = await outcome(KINDS[kind], answer)
    assert (came.error, came.messages) == (None, [CallResponse()])
    assert (came.headers, came.trailers) == ({"x-custom-header": "foo"}, {"x-custom-trailer": "bing"})


ERRORS = {
    "error/null": (401, None, Code.UNAUTHENTICATED, None),
    "error/null-code": (401, {"code": None, "message": "oops"}, Code.UNAUTHENTICATED, "oops"),
    "error/missing-code": (401, {"message": "oops"}, Code.UNAUTHENTICATED, "oops"),
    "error/unrecognized-code": (429, {"code": "foobar", "message": "oops"}, Code.UNAVAILABLE, "oops"),
    "error/missing-message": (401, {"code": "unauthenticated"}, Code.UNAUTHENTICATED, ""),
    "error/allow-unrecognized-fields": (
        422,
        {"code": "out_of_range", "message": "oops", "foobar": "baz"},
        Code.OUT_OF_RANGE,
        "oops",
    ),
}
DETAILED = {
    "invalid-details-debug": {**DETAIL, "debug": "garbage"},
    "missing-details-debug": DETAIL,
    "allow-unrecognized-fields-in-details": {**DETAIL, "frob": "nitz", "debug": {"name": "test.proto", "foobar": True}},
}
REASON = {"type": "google.rpc.ErrorInfo", "value": "CgRPT1BT"}  # its reason is OOPS, unpadded as Connect has it


@pytest.mark.parametrize("case", ERRORS)
async def test_connect_error(case: str) -> None:
    """Connect Error and End-Stream, errors: what the JSON lacks comes from the status, what is too much is let be."""
    status, document, code, message = ERRORS[case]
    came = await outcome(UNARY, response(status, (JSON,), json.dumps(document).encode()))
    assert came.error is not None
    assert came.code is code
    assert message is None or came.error.message == message


@pytest.mark.parametrize("case", DETAILED)
async def test_connect_error_with_details(case: str) -> None:
    """Connect Error and End-Stream, error/…: details are read without their `debug`, those beside them too."""
    document = {"code": "out_of_range", "message": "oops", "details": [DETAILED[case], REASON]}
    came = await outcome(UNARY, response(422, (JSON,), json.dumps(document).encode()))
    assert came.error is not None
    assert (came.code, came.error.message, came.error.reason) == (Code.OUT_OF_RANGE, "oops", "OOPS")


ENDS: dict[str, tuple[Any, Code, str]] = {
    "end-stream/null-error": (None, Code.OK, ""),
    "end-stream/null-code": ({"code": None, "message": "oops"}, Code.UNKNOWN, "oops"),
    "end-stream/missing-code": ({"message": "oops"}, Code.UNKNOWN, "oops"),
    "end-stream/unrecognized-code": ({"code": "foobar", "message": "oops"}, Code.UNKNOWN, "oops"),
    "end-stream/missing-message": ({"code": "unauthenticated"}, Code.UNAUTHENTICATED, ""),
    "end-stream/allow-unrecognized-fields": (
        {"code": "out_of_range", "message": "oops", "foobar": "baz", "details": [{**DETAIL, "frob": "nitz"}]},
        Code.OUT_OF_RANGE,
        "oops",
    ),
    "end-stream/invalid-details-debug": (
        {"code": "out_of_range", "message": "oops", "details": [DETAILED["invalid-details-debug"]]},
        Code.OUT_OF_RANGE,
        "oops",
    ),
    "end-stream/missing-details-debug": (
        {"code": "out_of_range", "message": "oops", "details": [DETAIL]},
        Code.OUT_OF_RANGE,
        "oops",
    ),
}


@pytest.mark.parametrize("case", ENDS)
async def test_connect_end_stream(case: str) -> None:
    """Connect Error and End-Stream, end-stream/…: the same for the envelope that ends a stream; null is no error."""
    document, code, message = ENDS[case]
    came = await outcome(SERVER_STREAM, response(200, (STREAM,), end({"error": document})))
    assert came.code is code
    assert came.messages == []
    if came.error is not None:
        assert came.error.message == message


ODD_END = {"code": "out_of_range", "message": "oops"}
BROKEN_STREAM = (Code.INTERNAL, Code.UNKNOWN)
CONNECT_UNEXPECTED_RESPONSES: dict[str, tuple[Rpc[Any, Any], int, Fields, bytes, tuple[Code, ...]]] = {
    "unexpected-error-body": (UNARY, 403, (PROTO,), MESSAGE, (Code.PERMISSION_DENIED,)),
    "client-stream/ok-but-no-response": (CLIENT_STREAM, 200, (STREAM,), end(ODD_END), (Code.UNIMPLEMENTED,)),
    "client-stream/multiple-responses": (
        CLIENT_STREAM,
        200,
        (STREAM,),
        envelope(MESSAGE) * 2 + end(ODD_END),
        (Code.UNIMPLEMENTED,),
    ),
    "client-stream/no-end-stream": (CLIENT_STREAM, 200, (STREAM,), envelope(MESSAGE), BROKEN_STREAM),
    "server-stream/no-end-stream": (SERVER_STREAM, 200, (STREAM,), envelope(MESSAGE), BROKEN_STREAM),
    "bidi-stream/half-duplex/no-end-stream": (BIDI_STREAM, 200, (STREAM,), envelope(MESSAGE), BROKEN_STREAM),
    "unexpected-content-type": (UNARY, 200, (("Content-Type", "image/jpeg"),), b"", (Code.UNKNOWN,)),
    "unexpected-codec": (UNARY, 200, (JSON,), b'{"data": "dGVzdCByZXNwb25zZQ=="}', (Code.INTERNAL,)),
    "unexpected-stream-codec": (
        SERVER_STREAM,
        200,
        (("content-type", "application/connect+json"),),
        envelope(b'{"data": "dGVzdCByZXNwb25zZQ=="}') + end(),
        (Code.INTERNAL,),
    ),
    "unexpected-compression": (UNARY, 200, (PROTO, ("content-encoding", "foo")), MESSAGE, (Code.INTERNAL,)),
    "unexpected-compressed-message": (
        SERVER_STREAM,
        200,
        (STREAM, ("connect-content-encoding", "identity")),
        envelope(gzip.compress(MESSAGE), flags=1) + end(),
        (Code.INTERNAL,),
    ),
}


@pytest.mark.parametrize("case", CONNECT_UNEXPECTED_RESPONSES)
async def test_connect_unexpected_responses(case: str) -> None:
    """Connect Unexpected Responses: what breaks the protocol's form is an error, after the messages before it."""
    rpc, status, headers, body, codes = CONNECT_UNEXPECTED_RESPONSES[case]
    came = await outcome(rpc, response(status, headers, body))
    assert came.code in codes
    if case in ("server-stream/no-end-stream", "bidi-stream/half-duplex/no-end-stream"):
        assert [each.data for each in came.messages] == [b"test response"]
