"""Unary calls behave the same through every door."""

import asyncio
from datetime import UTC, datetime
from typing import Literal

import pytest
from protobuf import Oneof
from protobuf.wkt.google.protobuf.duration_pb import Duration
from protobuf.wkt.google.protobuf.timestamp_pb import Timestamp

from interlock import Code
from tests.sample.gen.sample.v1.sample_pb import (
    BlobRequest,
    CreateThingRequest,
    EchoRequest,
    FailRequest,
    GetThingRequest,
    Item,
    ListThingsRequest,
    Place,
    SlowRequest,
    Volume,
)
from tests.sample.gen.sample.v1.sample_rpc import (
    BLOB,
    CREATE_THING,
    ECHO,
    ECHO_FORMERLY,
    FAIL,
    GET_THING,
    LIST_THINGS,
    SLOW,
)
from tests.sample.handlers import Sample
from tests.scenarios.conftest import BINARY_DOORS, RPC_DOORS
from tests.scenarios.doors import Door, Failed
from tests.waiting import until

LIMIT = 4 * 1024 * 1024
ROOM: Oneof[Literal["room"], int] = Oneof(field="room", value=7)
CODES = [code for code in Code if code is not Code.OK]


def full_request() -> EchoRequest:
    """Return a request with every kind of field set."""
    return EchoRequest(
        text="grüße, 世界 🌍",
        items=[Item(sku="a", quantity=1), Item(sku="b", quantity=2)],
        labels={"ключ": "значение"},
        data=bytes(range(256)),
        volume=Volume.HIGH,
        place=Place(street="1 Main", city="Bergen"),
        number=0,
        at=Timestamp.from_datetime(datetime(2026, 1, 31, 10, 0, 0, 123000, tzinfo=UTC)),
        tags=["x", "y"],
        target=ROOM,
        ratio=0.1,
        loud=True,
        pause=Duration(seconds=1, nanos=500_000_000),
        stock={"s": Item(sku="s", quantity=9)},
        big=2**64 - 1,
    )


async def test_every_kind_of_field_travels(door: Door) -> None:
    """What goes in comes out, field for field."""
    request = full_request()
    came = await door.call(ECHO, request)
    assert came.message.to_json() == request.to_json()


async def test_an_empty_message_travels(door: Door) -> None:
    """A request without any field set is a request."""
    came = await door.call(ECHO, EchoRequest())
    assert came.message.text == ""


async def test_a_large_text_travels(door: Door) -> None:
    """Text far above what is worth compressing comes back as it was, however it travelled."""
    text = "grüße, 世界 🌍 " * 20_000
    came = await door.call(ECHO, EchoRequest(text=text))
    assert came.message.text == text


@pytest.mark.filterwarnings("ignore::interlock.protocols.deprecation_notice.DeprecatedOperation")
async def test_a_deprecated_method_says_so(door: Door) -> None:
    """Since when, until when and what to use instead stand in the head of the reply."""
    came = await door.call(ECHO_FORMERLY, EchoRequest(text="x"))
    assert came.message.text == "x"
    assert came.headers["deprecation"] == "@1735689600"
    assert str(came.headers["sunset"]).startswith("Thu, 31 Dec 2099")
    assert 'rel="successor-version"' in str(came.headers["link"])


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_every_code_arrives_with_its_details(door: Door, code: Code) -> None:
    """An error keeps code, message, reason, violations, delay and metadata."""
    request = FailRequest(
        code=int(code),
        message="so geht's nicht: 10 % zu viel 🌧",
        reason="OUT_OF_STOCK",
        violations=[FailRequest.Violation(field="items[0].sku", description="gibt es nicht")],
        retry_after=Duration(seconds=2),
    )
    with pytest.raises(Failed) as raised:
        await door.call(FAIL, request)
    failed = raised.value
    assert code in failed.codes
    assert failed.message == "so geht's nicht: 10 % zu viel 🌧"
    assert failed.reason == "OUT_OF_STOCK"
    assert failed.violations == [("items[0].sku", "gibt es nicht")]
    assert failed.retry_after == 2.0
    assert failed.metadata["x-test-error"] == "yes"


async def test_an_unexpected_exception_tells_nothing(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets INTERNAL and an id; text and traceback stand in the log under that id."""
    with pytest.raises(Failed) as raised:
        await door.call(FAIL, FailRequest(unexpected=True, message="password is hunter2"))
    assert Code.INTERNAL in raised.value.codes
    assert "hunter2" not in raised.value.message
    error_id = raised.value.message.rpartition(" ")[2]
    assert error_id in caplog.text
    assert "hunter2" in caplog.text


async def test_a_broken_rule_names_the_field(door: Door) -> None:
    """Validation runs before the handler and names the field with its whole path."""
    request = EchoRequest(items=[Item(sku="a", quantity=1), Item(sku="b", quantity=0)])
    with pytest.raises(Failed) as raised:
        await door.call(ECHO, request)
    assert Code.INVALID_ARGUMENT in raised.value.codes
    assert [name for name, _ in raised.value.violations] == ["items[1].quantity"]


async def test_metadata_travels_both_ways(door: Door) -> None:
    """Text and binary metadata reach the handler, and come back as headers and trailers."""
    came = await door.call(ECHO, EchoRequest(), metadata=[("x-test-text", "a b"), ("x-test-raw-bin", b"\x00\xff")])
    assert came.headers["reply-x-test-text"] == "a b"
    raw = came.headers["reply-x-test-raw-bin"]
    assert raw in (b"\x00\xff", "AP8")
    if door.name != "rest":
        assert came.trailers["trailer-x-test-text"] == "a b"


async def test_a_deadline_ends_the_call_and_its_handler(door: Door, sample: Sample) -> None:
    """The caller gets DEADLINE_EXCEEDED in time, and the handler is told why."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(Failed) as raised:
        await door.call(SLOW, SlowRequest(seconds=30), timeout=0.2)
    assert raised.value.codes == {Code.DEADLINE_EXCEEDED}
    assert asyncio.get_running_loop().time() - began < 5
    await until(lambda: sample.cancelled in (["DEADLINE"], ["CLIENT_GONE"]))


@pytest.mark.parametrize("door", RPC_DOORS, indirect=True)
async def test_a_caller_that_leaves_cancels_the_handler(door: Door, sample: Sample) -> None:
    """Cancelling a call reaches the handler, with its reason."""
    calling = asyncio.create_task(door.call(SLOW, SlowRequest(seconds=30)))
    await asyncio.sleep(0.2)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await until(lambda: bool(sample.cancelled))
    assert not sample.finished


async def test_a_missing_thing_is_not_found(door: Door) -> None:
    """NOT_FOUND names what is missing."""
    with pytest.raises(Failed) as raised:
        await door.call(GET_THING, GetThingRequest(thing_id="nobody"))
    assert raised.value.codes == {Code.NOT_FOUND}
    assert "nobody" in raised.value.message


async def test_a_list_has_pages(door: Door) -> None:
    """A page carries its items, the token of the next and the count."""
    for number in range(3):
        await door.call(CREATE_THING, CreateThingRequest(name=f"t{number}"))
    first = (await door.call(LIST_THINGS, ListThingsRequest(page_size=2))).message
    assert [each.name for each in first.things] == ["t0", "t1"]
    assert first.total_size == 3
    rest = (await door.call(LIST_THINGS, ListThingsRequest(page_size=2, page_token=first.next_page_token))).message
    assert [each.name for each in rest.things] == ["t2"]
    assert rest.next_page_token == ""


@pytest.mark.parametrize("door", BINARY_DOORS, indirect=True)
async def test_a_message_at_the_limit_passes_and_one_byte_more_does_not(door: Door) -> None:
    """The limit holds to the byte, both ways."""
    overhead = len(EchoRequest(data=bytes(LIMIT // 2)).to_binary()) - LIMIT // 2
    assert len(EchoRequest(data=bytes(LIMIT - overhead)).to_binary()) == LIMIT
    came = await door.call(ECHO, EchoRequest(data=bytes(LIMIT - overhead)))
    assert len(came.message.data) == LIMIT - overhead
    for oversized in (
        door.call(ECHO, EchoRequest(data=bytes(LIMIT - overhead + 1))),
        door.call(BLOB, BlobRequest(size=LIMIT - overhead + 1)),
    ):
        with pytest.raises(Failed) as raised:
            await oversized
        assert raised.value.codes == {Code.RESOURCE_EXHAUSTED}
    assert (await door.call(ECHO, EchoRequest(text="still there"))).message.text == "still there"
