from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from interlock.call import Call, TraceContext, current_call
from interlock.contract.model import Kind, Operation
from interlock.data import Database, outbox
from interlock.events.brokers.memory import MemoryBroker
from interlock.events.envelope import EventTooLarge, from_attributes
from interlock.events.publisher import InvalidEvent, Publisher
from interlock.metadata import Metadata
from interlock.observability.measure import metrics
from tests.events.listening import CONTRACT, Outcomes, opened, publisher
from tests.sample.gen.sample.v1.sample_pb import EchoMade, EchoRequest

TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened(tmp_path / "sample.db") as database:
        yield database


async def test_an_event_is_stamped_and_waits_in_the_outbox(database: Database) -> None:
    """What is published in a call carries its trace and request id, and stands in the outbox as a CloudEvent."""
    operation = Operation(
        service="s.S", name="Do", python_name="do", kind=Kind.UNARY, request_type=EchoMade, reply_type=EchoMade
    )
    token = current_call.set(Call(operation, metadata=Metadata([("x-request-id", "r-1")]), trace=TRACE))
    try:
        async with database.transaction() as tx:
            id_ = await tx.publish(EchoMade(text="hello"))
    finally:
        current_call.reset(token)
    (row,) = await outbox.pending(database, 10)
    envelope = from_attributes(row.attributes, row.data)
    assert (row.id, row.type, row.partition_key) == (id_, "echo.made", "hello")
    assert envelope.id == id_
    assert envelope.source == "sample.v1.SampleService"
    assert (envelope.partition_key, envelope.subject) == ("hello", "hello")
    assert envelope.data_schema == "proto:sample.v1.EchoMade"
    assert (envelope.traceparent, envelope.request_id) == (TRACE.traceparent, "r-1")
    assert abs(datetime.now(UTC) - envelope.time) < timedelta(minutes=1)
    assert EchoMade.from_binary(envelope.data) == EchoMade(text="hello")


async def test_what_is_rolled_back_is_not_published(database: Database) -> None:
    """A transaction that fails takes its events with it."""

    async def fail() -> None:
        async with database.transaction() as tx:
            await tx.publish(EchoMade(text="hello"))
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await fail()
    assert await outbox.pending(database, 10) == []


async def test_what_is_no_event_is_refused() -> None:
    """A message that the services do not publish is refused by name."""
    with pytest.raises(InvalidEvent, match=r"sample\.v1\.EchoRequest is no event .*sample\.v1\.EchoMade"):
        await publisher(MemoryBroker()).publish(EchoRequest())


async def test_an_event_without_its_key_is_refused() -> None:
    """An event whose key is empty would have no order."""
    with pytest.raises(InvalidEvent, match="no text, which is its key"):
        await publisher(MemoryBroker()).publish(EchoMade())


async def test_an_event_is_bounded() -> None:
    """An event above the limit is refused before it is stored."""
    with pytest.raises(EventTooLarge, match=r"echo\.made"):
        await publisher(MemoryBroker()).publish(EchoMade(text="x" * (1 << 20)))


async def test_a_publication_is_measured() -> None:
    """Each publication is a PUBLISHED call of its own, ended with its outcome."""
    broker, outcomes = MemoryBroker(), Outcomes()
    measured = Publisher(CONTRACT.services, CONTRACT.events, layers=[metrics(outcomes)], broker=broker)
    await measured.publish(EchoMade(text="hello"))
    with pytest.raises(InvalidEvent):
        await measured.publish(EchoMade())
    assert outcomes.codes == ["OK", "INTERNAL"]


async def test_direct_publishing_needs_a_broker() -> None:
    """Without a broker, what is published outside a transaction is refused, and how to go on is told."""
    with pytest.raises(RuntimeError, match="hand it one"):
        await publisher().publish(EchoMade(text="hello"))


async def test_only_the_service_that_publishes_is_the_source() -> None:
    """A service that does not declare an event can't publish it."""
    services = [replace(each, publishes=()) for each in CONTRACT.services]
    with pytest.raises(InvalidEvent):
        await Publisher(services, CONTRACT.events, broker=MemoryBroker()).publish(EchoMade(text="hello"))
