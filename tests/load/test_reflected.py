"""A target's contract, from the target."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc import aio
from grpc_reflection.v1alpha import reflection
from protobuf import Oneof

from interlock import Code, Error, Unavailable, Unimplemented
from interlock.bench import find_operation, reflected, requests_of
from interlock.call import Call, Handler
from interlock.contract.gen.grpc.reflection.v1 import reflection_pb as v1
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Kind, Operation
from interlock.protocols.grpc_client import GrpcTransport
from interlock.protocols.json_codec import to_json
from interlock.server import serving
from tests.sample.handlers import make


async def test_a_served_app_tells_its_whole_contract() -> None:
    """Operations with their rules and examples: what the image holds."""
    async with serving(make()) as address:
        transport = GrpcTransport(str(address))
        contract = await reflected(transport)
        await transport.close()
    assert contract.service("sample.v1.SampleService").owner == "tests"
    echo, create = (contract.operations[f"/sample.v1.SampleService/{name}"] for name in ("Echo", "CreateThing"))
    assert [each.request for each in echo.examples] == ['{"text": "hello"}']
    assert create.idempotency is Idempotency.KEYED
    assert contract.operations["/sample.v1.SampleService/Chat"].kind is Kind.BIDI_STREAM


@asynccontextmanager
async def stranger() -> AsyncIterator[str]:
    """A server that knows nothing of Interlock, with the reflection that comes with grpcio."""
    file = descriptor_pb2.FileDescriptorProto(name="strange.proto", package="strange", syntax="proto3")
    file.message_type.add(name="Word").field.add(name="camelCase", number=1, type=9, label=1)
    file.service.add(name="Strange").method.add(name="Say", input_type=".strange.Word", output_type=".strange.Word")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    server = aio.server()
    reflection.enable_server_reflection(["strange.Strange"], server, pool)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_a_target_without_reflection_v1_says_so() -> None:
    """grpcio's own has v1alpha only."""
    async with stranger() as address:
        transport = GrpcTransport(address)
        with pytest.raises(Unimplemented, match=r"no gRPC reflection \(grpc.reflection.v1\)"):
            await reflected(transport)
        await transport.close()


async def test_nobody_there_is_unavailable() -> None:
    """The error is the call's own."""
    transport = GrpcTransport("127.0.0.1:1")
    with pytest.raises(Unavailable):
        await reflected(transport)
    await transport.close()


class Answers:
    """A transport whose other end answers each question of reflection as it is told."""

    def __init__(self, *answers: object) -> None:
        self._answers = answers
        self.ended = False

    def handler(self, operation: Operation) -> Handler:
        async def send(call: Call) -> AsyncIterator[object]:
            return self._replies(call)

        return send  # type: ignore[return-value]  # the answers are messages

    async def _replies(self, call: Call) -> AsyncIterator[object]:
        answers = iter(self._answers)
        async for _ in call.request:
            answer = next(answers, None)
            if answer is None:
                return
            yield answer
        self.ended = True


def reply(field: Any, value: Any) -> v1.ServerReflectionResponse:
    return v1.ServerReflectionResponse(message_response=Oneof(field=field, value=value))


def listed(*names: str) -> v1.ServerReflectionResponse:
    services = v1.ListServiceResponse(service=[v1.ServiceResponse(name=each) for each in names])
    return reply("list_services_response", services)


def files(*given: descriptor_pb2.FileDescriptorProto) -> v1.ServerReflectionResponse:
    found = v1.FileDescriptorResponse(file_descriptor_proto=[each.SerializeToString() for each in given])
    return reply("file_descriptor_response", found)


def unknown() -> v1.ServerReflectionResponse:
    error = v1.ErrorResponse(error_code=int(Code.NOT_FOUND), error_message="not here")
    return reply("error_response", error)


def strange(*imported: str, name: str = "strange.proto") -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=name, package="strange", syntax="proto3", dependency=imported)
    file.message_type.add(name="Word").field.add(name="a_word", number=1, type=9, label=1)
    file.service.add(name="Strange").method.add(name="Say", input_type=".strange.Word", output_type=".strange.Word")
    return file


async def test_a_stranger_s_contract_need_not_keep_our_rules() -> None:
    """Without permissions and options it can be called all the same; the stream ends in order."""
    target = Answers(listed("strange.Strange"), files(strange()))
    operation = find_operation(await reflected(target), "Say")
    (request,) = requests_of(operation, '{"a_word": "x"}')
    assert to_json(request) == '{"a_word":"x"}'
    assert target.ended


async def test_files_are_asked_for_that_did_not_come_along() -> None:
    """What everybody has is taken from here where the target keeps it to itself."""
    imported = descriptor_pb2.FileDescriptorProto(name="other.proto", package="other", syntax="proto3")
    needs = strange("google/protobuf/timestamp.proto", "other.proto")
    target = Answers(listed("strange.Strange"), files(needs), unknown(), files(imported))
    assert "/strange.Strange/Say" in (await reflected(target)).operations


@pytest.mark.parametrize(
    "answers,told",
    [
        ([], "ended its reflection without an answer"),
        ([v1.ServerReflectionResponse()], "answered nothing"),
        ([listed("a.B"), unknown()], "a.B: not here"),
        ([listed("strange.Strange"), files(strange("strange.proto"))], "in a circle: strange.proto"),
        ([listed("strange.Strange"), files(strange("gone.proto")), unknown()], "gone.proto: not here"),
    ],
)
async def test_a_target_that_tells_nonsense_is_an_error(answers: list[object], told: str) -> None:
    """It is told what, and nothing hangs."""
    with pytest.raises(Error, match=told):
        await reflected(Answers(*answers))
