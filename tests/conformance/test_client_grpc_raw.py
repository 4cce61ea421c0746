"""Conformance, client under test, gRPC: replies that no sound server makes, frame by frame, by their case names."""

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest

from interlock import Code, Error
from interlock.call import Call
from interlock.contract.stub import Rpc
from interlock.deadline import Deadline
from interlock.protocols.grpc_client import GrpcTransport
from interlock.protocols.grpc_wire import frame
from tests.conformance.gen.conformance.v1.conformance_pb import CallRequest, CallResponse
from tests.conformance.gen.conformance.v1.conformance_rpc import CLIENT_STREAM, CONFORMANCE_SERVICE, UNARY
from tests.conformance.raw_grpc import Frames, raw_grpc
from tests.conformance.raw_http import Fields
from tests.conformance.test_client_connect_raw import (
    HTTP_TO_RPC_CODE_MAPPING,
    KINDS,
    MESSAGE,
    UNEXPECTED_RESPONSES,
    Outcome,
)

PLAIN: Fields = (("content-type", "application/grpc"),)
PROTO: Fields = (("content-type", "application/grpc+proto"),)
OK: Fields = (("grpc-status", "0"),)
HEADER = ("x-custom-header", "foo")
FAILED: Fields = (("grpc-status", "9"), ("grpc-message", "error"))


async def outcome(rpc: Rpc[Any, Any], answer: Frames, *, timeout: float = 20) -> Outcome:
    """Call a server that answers so; `headers` and `trailers` of the outcome are those of the call."""
    async with raw_grpc(answer) as target:
        transport = GrpcTransport(target)
        operation = CONFORMANCE_SERVICE.operation(rpc)
        call = Call(operation, deadline=Deadline.after(timeout), wants_metadata=True)
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
        came.headers, came.trailers = _joined(call.reply_headers), _joined(call.reply_trailers)
        return came


async def _one() -> AsyncIterator[CallRequest]:
    yield CallRequest(data=b"x")


def _joined(metadata: Any) -> dict[str, Any]:
    return {name: ", ".join(metadata.get_all(name)) for name, _ in metadata.items()}


@pytest.mark.parametrize("case", [*HTTP_TO_RPC_CODE_MAPPING, *UNEXPECTED_RESPONSES])
async def test_http_to_rpc_code_mapping(case: str) -> None:
    """HTTP to RPC Code Mapping, Unexpected Responses: a reply without a gRPC status gets its code from HTTP's."""
    status, code = (HTTP_TO_RPC_CODE_MAPPING | UNEXPECTED_RESPONSES)[case]
    came = await outcome(UNARY, Frames(headers=(), status=status))
    assert came.code is code


@pytest.mark.parametrize("case", [f"{kind}/empty-response" for kind in KINDS])
async def test_grpc_empty_responses(case: str) -> None:
    """gRPC Empty Responses: a message of no bytes is a message."""
    rpc = KINDS[case.removesuffix("/empty-response")]
    came = await outcome(rpc, Frames((*PROTO, HEADER), frame(b""), (*OK, ("x-custom-trailer", "bing"))))
    assert (came.error, came.messages) == (None, [CallResponse()])
    assert (came.headers, came.trailers) == ({"x-custom-header": "foo"}, {"x-custom-trailer": "bing"})


SUB_FORMATS = {"with-proto-sub-format": PROTO, "without-proto-sub-format": PLAIN}


@pytest.mark.parametrize("case", SUB_FORMATS)
async def test_grpc_proto_sub_format_responses(case: str) -> None:
    """gRPC Proto Sub-Format Responses: protobuf is what `application/grpc` means."""
    came = await outcome(UNARY, Frames(SUB_FORMATS[case], frame(MESSAGE), OK))
    assert [each.data for each in came.messages] == [b"test response"]


TRAILERS = {
    "trailers-at-end/expected": ((HEADER,), (("x-custom-trailer", "bing"),)),
    "trailers-at-end/duplicate-metadata": (
        (HEADER, ("x-custom-header", "bar"), ("x-custom-header", "baz")),
        (("x-custom-trailer", "bing"), ("x-custom-trailer", "quuz")),
    ),
    "trailers-only/expected": ((), (("x-custom-trailer", "bing"),)),
    "trailers-only/duplicate-metadata": ((), (("x-custom-trailer", "bing"), ("x-custom-trailer", "quuz"))),
}


@pytest.mark.parametrize("case", TRAILERS)
async def test_grpc_trailers(case: str) -> None:
    """gRPC Trailers: headers and trailers come with the error, whether or not it has a head of its own."""
    headers, trailers = TRAILERS[case]
    if case.startswith("trailers-only"):
        answer = Frames((*PLAIN, *trailers, *FAILED))
    else:
        answer = Frames((*PLAIN, *headers), trailers=(*FAILED, *trailers))
    came = await outcome(UNARY, answer)
    assert came.error is not None
    assert (came.code, came.error.message) == (Code.FAILED_PRECONDITION, "error")
    assert list(came.error.metadata) == list(trailers)
    assert came.headers == ({"x-custom-header": ", ".join(value for _, value in headers)} if headers else {})
    assert came.trailers == {"x-custom-trailer": ", ".join(value for _, value in trailers)}


UNEXPECTED: dict[str, tuple[Rpc[Any, Any], Frames, tuple[Code, ...]]] = {
    "missing-status": (
        UNARY,
        Frames(PLAIN, trailers=(("grpc-message", "error"),)),
        (Code.UNKNOWN, Code.INTERNAL),
    ),
    "unary/ok-but-no-response": (UNARY, Frames(PLAIN, trailers=OK), (Code.UNIMPLEMENTED,)),
    "client-stream/ok-but-no-response": (CLIENT_STREAM, Frames(PLAIN, trailers=OK), (Code.UNIMPLEMENTED,)),
    "client-stream/multiple-responses": (CLIENT_STREAM, Frames(PLAIN, frame(MESSAGE) * 2, OK), (Code.UNIMPLEMENTED,)),
    "trailers-only/ignore-header-if-body-present": (
        UNARY,
        Frames((*PLAIN, ("grpc-status", "9")), frame(MESSAGE)),
        (Code.INTERNAL, Code.UNKNOWN),
    ),
    "trailers-only/ignore-header-if-trailer-present": (
        UNARY,
        Frames((*PLAIN, ("grpc-status", "8")), trailers=(("foo", "bar"), ("grpc-status", "9"))),
        (Code.FAILED_PRECONDITION,),
    ),
    "unexpected-content-type": (UNARY, Frames((("content-type", "image/jpeg"),), end_with_data=True), (Code.UNKNOWN,)),
    "unexpected-codec": (
        UNARY,
        Frames((("content-type", "application/grpc+json"),), frame(b'{"data": "dGVzdCByZXNwb25zZQ=="}'), OK),
        (Code.INTERNAL, Code.UNKNOWN, Code.UNIMPLEMENTED),
    ),
    "unexpected-compression": (
        UNARY,
        Frames((*PROTO, ("grpc-encoding", "foo")), frame(gzip.compress(MESSAGE), compressed=True), OK),
        (Code.INTERNAL,),
    ),
    "unexpected-compressed-message": (
        UNARY,
        Frames((*PROTO, ("grpc-encoding", "identity")), frame(gzip.compress(MESSAGE), compressed=True), OK),
        (Code.INTERNAL,),
    ),
}


@pytest.mark.parametrize("case", UNEXPECTED)
async def test_grpc_unexpected_responses(case: str) -> None:
    """gRPC Unexpected Responses: what breaks the protocol's form is an error with the code that says so."""
    rpc, answer, codes = UNEXPECTED[case]
    assert (await outcome(rpc, answer)).code in codes


async def test_two_replies_to_one_request_are_never_taken_for_one() -> None:
    """gRPC Unexpected Responses, unary/multiple-responses: an error, though grpcio finds out at the deadline only.

    The code should be UNIMPLEMENTED: docs/conformance.md says why it is not.
    """
    came = await outcome(UNARY, Frames(PLAIN, frame(MESSAGE) * 2, OK), timeout=0.5)
    assert came.code in (Code.UNIMPLEMENTED, Code.DEADLINE_EXCEEDED)
