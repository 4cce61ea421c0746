"""The layers that read and check the request."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protobuf import Message
from protovalidate import Validator

from interlock import Call, InvalidArgument, Reply
from interlock.contract.stub import Rpc
from interlock.protocols.decode import decode, field_path, has_rules, validate
from interlock.protocols.status import MAX_VIOLATIONS
from tests.sample.gen.sample.v1.sample_pb import (
    BlobRequest,
    CreateThingRequest,
    EchoRequest,
    EchoResponse,
    GetThingRequest,
    Item,
    SumRequest,
)
from tests.sample.gen.sample.v1.sample_rpc import BLOB, ECHO, GET_THING, SAMPLE_SERVICE, SUM

VALIDATOR = Validator()


class Given:
    """What a front would read: these messages."""

    def __init__(self, *messages: Message[Any]) -> None:
        self._messages = messages
        self.read = 0

    async def message(self) -> Message[Any]:
        self.read += 1
        return self._messages[0]

    async def messages(self) -> AsyncIterator[Message[Any]]:
        for message in self._messages:
            self.read += 1
            yield message


async def passed(rpc: Rpc[Any, Any], *messages: Message[Any]) -> Any:
    """Send messages through both layers and return the request as a handler sees it."""
    operation = SAMPLE_SERVICE.operation(rpc)
    call = Call(operation, incoming=Given(*messages))
    check = validate(VALIDATOR)(operation)

    async def handler(call: Call) -> Reply:
        return call.request  # type: ignore[no-any-return]  # to look at it

    async def checked(call: Call) -> Reply:
        return await (check(call, handler) if check is not None else handler(call))

    return await decode(operation)(call, checked)


async def test_the_request_is_read_and_handed_on() -> None:
    """A message that keeps its rules reaches the handler as it came."""
    request = EchoRequest(text="x", items=[Item(quantity=1)])
    assert await passed(ECHO, request) is request


async def test_a_stream_is_read_as_it_is_taken() -> None:
    """A stream of requests is handed on unread, and read one by one."""
    operation = SAMPLE_SERVICE.operation(SUM)
    given_ = Given(*(SumRequest(number=number) for number in range(3)))
    call = Call(operation, incoming=given_)

    async def handler(call: Call) -> Reply:
        return EchoResponse()

    await decode(operation)(call, handler)
    assert given_.read == 0
    assert (await anext(call.request)).number == 0
    assert given_.read == 1


@pytest.mark.parametrize(
    "rpc, request_, fields",
    [
        (BLOB, BlobRequest(size=-1), ["size"]),
        (
            ECHO,
            EchoRequest(items=[Item(quantity=1), Item(), Item(quantity=-1)]),
            ["items[1].quantity", "items[2].quantity"],
        ),
        (ECHO, EchoRequest(stock={"a": Item(), "b": Item(quantity=1)}), ['stock["a"].quantity']),
        (ECHO, EchoRequest(stock={'"]\n': Item()}), ['stock["\\"]\\n"].quantity']),
    ],
)
async def test_broken_rules_name_their_fields(rpc: Rpc[Any, Any], request_: Message[Any], fields: list[str]) -> None:
    """Every field at fault is named with its whole path, wherever it stands, and with what is wrong."""
    with pytest.raises(InvalidArgument) as raised:
        await passed(rpc, request_)
    assert [each.field for each in raised.value.violations] == fields
    assert all(each.description for each in raised.value.violations)
    assert fields[0] in raised.value.message


async def test_no_more_violations_are_told_than_can_be_sent() -> None:
    """Of hundreds of violations the first thirty-two are told."""
    with pytest.raises(InvalidArgument) as raised:
        await passed(ECHO, EchoRequest(items=[Item()] * 500))
    assert [each.field for each in raised.value.violations] == [f"items[{n}].quantity" for n in range(MAX_VIOLATIONS)]


async def test_a_large_request_is_told_its_first_violation() -> None:
    """Looking for all of them would block everybody else, so a large request learns of one."""
    with pytest.raises(InvalidArgument) as raised:
        await passed(ECHO, EchoRequest(data=bytes(100_000), items=[Item(quantity=1), Item(), Item()]))
    assert [each.field for each in raised.value.violations] == ["items[1].quantity"]
    assert await passed(ECHO, EchoRequest(data=bytes(100_000), items=[Item(quantity=1)]))


@given(st.lists(st.integers(-2, 2), max_size=40), st.integers(0, 20_000))
async def test_a_request_passes_exactly_if_it_keeps_its_rules(quantities: list[int], size: int) -> None:
    """Large or small, the decision is that of the rules."""
    request = EchoRequest(data=bytes(size), items=[Item(quantity=quantity) for quantity in quantities])
    if all(quantity > 0 for quantity in quantities):
        assert await passed(ECHO, request) is request
    else:
        with pytest.raises(InvalidArgument):
            await passed(ECHO, request)


def test_messages_without_rules_are_not_checked() -> None:
    """Where no rule can apply the layer is left out."""
    assert validate(VALIDATOR)(SAMPLE_SERVICE.operation(GET_THING)) is None
    assert validate(VALIDATOR)(SAMPLE_SERVICE.operation(SUM)) is None
    assert validate(VALIDATOR)(SAMPLE_SERVICE.operation(ECHO)) is not None


def test_rules_are_found_wherever_they_stand() -> None:
    """Fields, and fields of messages in lists and maps, are looked at; messages that hold themselves end."""
    assert has_rules(CreateThingRequest.desc())
    assert has_rules(EchoRequest.desc())
    assert not has_rules(GetThingRequest.desc())


def test_no_path_is_an_empty_text() -> None:
    """A violation of the whole message names no field."""
    assert field_path(None) == ""
