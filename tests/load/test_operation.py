"""Which operation, which requests, and what becomes of one arrival."""

from collections.abc import AsyncIterator

import pytest

from interlock import App, Call
from interlock.bench import Refused, find_operation, only_operation, requests_of, sender
from interlock.contract.declared import read
from interlock.contract.load import build
from interlock.metadata import Metadata
from interlock.protocols.grpc_client import GrpcTransport
from interlock.server import Address, serving
from tests.sample.gen.sample.v1.sample_pb import CreateThingRequest, EchoRequest, EchoResponse, Thing
from tests.sample.gen.sample.v1.sample_rpc import SampleService
from tests.sample.handlers import Sample, make

IMAGE = SampleService.service.image.path.read_bytes()
CONTRACT = build(read(IMAGE), IMAGE)
PATH = "/sample.v1.SampleService/"


class Heard(Sample):
    """Handlers that note what they were sent."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.keys: list[str | None] = []

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        self.texts.append(request.text + (call.metadata.get("x-test-who") or ""))
        return await super().echo(request, call)

    async def create_thing(self, request: CreateThingRequest, call: Call) -> Thing:
        self.keys.append(call.metadata.get("idempotency-key"))
        return await super().create_thing(request, call)


@pytest.fixture
def sample() -> Heard:
    return Heard()


@pytest.fixture
async def address(sample: Heard) -> AsyncIterator[Address]:
    app: App = make(sample)
    async with serving(app) as served:
        yield served


@pytest.mark.parametrize(
    "name",
    [PATH + "Echo", "sample.v1.SampleService/Echo", "sample.v1.SampleService.Echo", "SampleService/Echo", "Echo"],
)
def test_an_operation_is_found_by_as_much_of_its_name_as_is_clear(name: str) -> None:
    """In full, with a dot or a slash, or just the method."""
    assert find_operation(CONTRACT, name).path == PATH + "Echo"


def test_the_health_service_is_always_known() -> None:
    """Though it stands in no contract."""
    assert find_operation(CONTRACT, "Health/Check").path == "/grpc.health.v1.Health/Check"


@pytest.mark.parametrize("name,text", [("Ehco", "did you mean 'Echo'"), ("cho", "no operation"), ("", "no operation")])
def test_an_unknown_operation_is_refused_with_those_there_are(name: str, text: str) -> None:
    """A part of a word is not its name."""
    with pytest.raises(Refused, match=text):
        find_operation(CONTRACT, name)


def test_the_one_with_examples_needs_no_name() -> None:
    """It is the only one that says what to send."""
    assert only_operation(CONTRACT).name == "Echo"


def test_requests_are_what_is_given_else_the_examples() -> None:
    """As JSON of the message."""
    echo = find_operation(CONTRACT, "Echo")
    assert [str(each.to_json()) for each in requests_of(echo)] == ['{"text":"hello"}']
    (given,) = requests_of(echo, '{"tags": ["a"]}')
    assert given.to_json() == '{"tags":["a"]}'


@pytest.mark.parametrize(
    "name,text,told",
    [
        ("GetThing", None, "no example"),
        ("Sum", "{}", "stream of requests"),
        ("Echo", '{"items": [{"quantity": "many"}]}', r"items\[0\].quantity"),
        ("Echo", "{", "no sample.v1.EchoRequest"),
        ("Echo", '{"place":' * 200, "nested more than 100 deep"),
    ],
)
def test_what_can_t_be_sent_is_refused(name: str, text: str | None, told: str) -> None:
    """No example, a stream of requests, JSON that is no such message: the text says which."""
    with pytest.raises(Refused, match=told):
        requests_of(find_operation(CONTRACT, name), text)


async def outcomes(address: Address, name: str, *texts: str, count: int = 1, timeout: float = 10.0) -> list[str]:
    operation = find_operation(CONTRACT, name)
    transport = GrpcTransport(str(address))
    try:
        requests = [each for text in texts for each in requests_of(operation, text)]
        metadata = Metadata([("x-test-who", "!")])
        send = sender(operation, transport.handler(operation), requests, metadata=metadata, timeout=timeout)
        return [await send(index) for index in range(count)]
    finally:
        await transport.close()


async def test_requests_take_turns_and_carry_the_metadata(address: Address, sample: Heard) -> None:
    """One request after the other, and round again."""
    assert await outcomes(address, "Echo", '{"text": "a"}', '{"text": "b"}', count=3) == ["", "", ""]
    assert sample.texts == ["a!", "b!", "a!"]


async def test_a_failure_is_called_by_its_code_and_its_own_reason(address: Address) -> None:
    """The reason only where it says more than the code."""
    assert await outcomes(address, "Fail", '{"code": 5}') == ["NOT_FOUND"]
    assert await outcomes(address, "Fail", '{"code": 9, "reason": "OUT_OF_STOCK"}') == [
        "FAILED_PRECONDITION OUT_OF_STOCK"
    ]
    assert await outcomes(address, "Slow", '{"seconds": 30}', timeout=0.1) == ["DEADLINE_EXCEEDED"]


async def test_a_stream_is_read_to_its_end(address: Address, sample: Heard) -> None:
    """A failure behind its first messages is one."""
    assert await outcomes(address, "CountUp", '{"count": 3}', '{"count": 3, "fail_after": 2}', count=2) == [
        "",
        "NOT_FOUND",
    ]
    assert sample.finished == ["count_up"]


async def test_each_call_of_a_keyed_operation_has_a_key_of_its_own(address: Address, sample: Heard) -> None:
    """So that each has its effect, and the server stores each answer."""
    assert await outcomes(address, "CreateThing", '{"name": "a"}', count=3) == ["", "", ""]
    assert len(set(sample.keys)) == 3
    assert None not in sample.keys
