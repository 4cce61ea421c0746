"""Reflection as Google's library and `buf curl` use it, in both versions."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_database import DescriptorDatabase
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from interlock import Code
from interlock.server import Address, serving
from tests.sample.handlers import make

SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "sample.v1.SampleService",
]
BUF = Path(sys.executable).with_name("buf")
Question = reflection_pb2.ServerReflectionRequest


@pytest.fixture
async def address() -> AsyncIterator[Address]:
    """The sample app."""
    async with serving(make()) as served:
        yield served


@pytest.fixture(params=["v1", "v1alpha"])
async def talk(request: pytest.FixtureRequest, address: Address) -> AsyncIterator[Any]:
    """The stream of questions, in each version: they differ in their package only."""
    async with aio.insecure_channel(str(address)) as channel:
        yield channel.stream_stream(
            f"/grpc.reflection.{request.param}.ServerReflection/ServerReflectionInfo",
            request_serializer=Question.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )


async def ask(talk: Any, *questions: Any) -> list[Any]:
    """Ask in one stream and return the answers."""
    return [answer async for answer in talk(iter(questions))]


async def test_services_are_listed(talk: Any) -> None:
    """Every service that the app answers is named, in order, and the question is given back."""
    (answer,) = await ask(talk, Question(host="here", list_services=""))
    assert [each.name for each in answer.list_services_response.service] == SERVICES
    assert (answer.valid_host, answer.original_request.host) == ("here", "here")


@pytest.mark.parametrize(
    "symbol, file",
    [
        ("sample.v1.SampleService", "sample/v1/sample.proto"),
        ("sample.v1.SampleService.Echo", "sample/v1/sample.proto"),
        ("sample.v1.EchoRequest", "sample/v1/sample.proto"),
        ("sample.v1.EchoRequest.text", "sample/v1/sample.proto"),
        ("sample.v1.EchoRequest.target", "sample/v1/sample.proto"),
        ("sample.v1.EchoRequest.LabelsEntry", "sample/v1/sample.proto"),
        ("sample.v1.FailRequest.Violation", "sample/v1/sample.proto"),
        ("sample.v1.Volume", "sample/v1/sample.proto"),
        ("sample.v1.VOLUME_HIGH", "sample/v1/sample.proto"),
        ("google.protobuf.Timestamp", "google/protobuf/timestamp.proto"),
        ("interlock.v1.method", "interlock/v1/options.proto"),
        ("grpc.health.v1.HealthCheckResponse.SERVING", "grpc/health/v1/health.proto"),
    ],
)
async def test_a_symbol_leads_to_its_file(talk: Any, symbol: str, file: str) -> None:
    """Whatever has a full name in a `.proto` file is found, its own file first, all it imports behind it."""
    (answer,) = await ask(talk, Question(file_containing_symbol=symbol))
    files = [FileDescriptorProto.FromString(each) for each in answer.file_descriptor_response.file_descriptor_proto]
    assert files[0].name == file
    database = DescriptorDatabase()
    for each in files:
        database.Add(each)
    assert DescriptorPool(database).FindFileByName(file).name == file
    assert len(files) == len({each.name for each in files})


@pytest.mark.parametrize(
    "question",
    [
        Question(file_by_filename="nobody.proto"),
        Question(file_by_filename=""),
        Question(file_by_filename="../../etc/passwd"),
        Question(file_containing_symbol="sample.v1.Nobody"),
        Question(file_containing_symbol=".sample.v1.EchoRequest"),
        Question(file_containing_symbol=""),
        Question(all_extension_numbers_of_type="sample.v1.Nobody"),
        Question(file_containing_extension={"containing_type": "google.protobuf.MethodOptions", "extension_number": 1}),
        Question(file_containing_extension={"containing_type": "nobody", "extension_number": -1}),
        Question(file_containing_symbol="x" * 1_000_000),
    ],
    ids=lambda each: str(each)[:40].strip(),
)
async def test_what_is_not_known_is_not_found_and_the_stream_goes_on(talk: Any, question: Any) -> None:
    """A question about nothing known is answered in the stream, briefly, and the next one as any other."""
    unknown, known = await ask(talk, question, Question(file_by_filename="sample/v1/sample.proto"))
    assert unknown.error_response.error_code == Code.NOT_FOUND
    assert len(unknown.error_response.error_message) <= 1024
    assert known.WhichOneof("message_response") == "file_descriptor_response"


async def test_a_question_about_nothing_is_the_askers_mistake(talk: Any) -> None:
    """An empty question is INVALID_ARGUMENT, in the stream."""
    (answer,) = await ask(talk, Question())
    assert answer.error_response.error_code == Code.INVALID_ARGUMENT


async def test_extensions_are_found_by_number(talk: Any) -> None:
    """The options of a method are listed by number, and each leads to its file."""
    options = "google.protobuf.MethodOptions"
    (numbers,) = await ask(talk, Question(all_extension_numbers_of_type=options))
    found = list(numbers.all_extension_numbers_response.extension_number)
    assert 72295728 in found  # google.api.http
    wanted = {"containing_type": options, "extension_number": 72295728}
    (answer,) = await ask(talk, Question(file_containing_extension=wanted))
    assert b"google/api/annotations.proto" in answer.file_descriptor_response.file_descriptor_proto[0]
    (none,) = await ask(talk, Question(all_extension_numbers_of_type="sample.v1.EchoRequest"))
    assert list(none.all_extension_numbers_response.extension_number) == []


async def test_googles_database_builds_classes_of_it(address: Address) -> None:
    """A client that knows nothing but the address makes the messages, and calls with them."""

    def call() -> str:
        with grpc.insecure_channel(str(address)) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert sorted(database.get_services()) == SERVICES
            pool = DescriptorPool(database)
            method = pool.FindServiceByName("sample.v1.SampleService").FindMethodByName("Echo")
            request, reply = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
            echo = channel.unary_unary(
                "/sample.v1.SampleService/Echo",
                request_serializer=request.SerializeToString,
                response_deserializer=reply.FromString,
            )
            return str(echo(request(text="found by reflection")).text)

    assert await asyncio.to_thread(call) == "found by reflection"


async def buf_curl(*arguments: str) -> str:
    """Run `buf curl` and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        BUF, "curl", "--http2-prior-knowledge", "--protocol", "grpc", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return printed.decode()


@pytest.mark.parametrize("version", ["grpc-v1", "grpc-v1alpha"])
async def test_buf_curl_needs_no_proto(address: Address, version: str) -> None:
    """`buf curl` lists the services and calls unary and streaming methods by reflection alone."""
    by_reflection = ("--reflect-protocol", version)
    assert (await buf_curl(*by_reflection, "--list-services", address.url)).split() == SERVICES
    echo = await buf_curl(*by_reflection, "-d", '{"text": "curled"}', f"{address.url}/sample.v1.SampleService/Echo")
    assert json.loads(echo) == {"text": "curled"}
    counted = await buf_curl(*by_reflection, "-d", '{"count": 2}', f"{address.url}/sample.v1.SampleService/CountUp")
    assert "".join(counted.split()) == '{"number":1}{"number":2}'
