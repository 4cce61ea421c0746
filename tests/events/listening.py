"""A service that listens, whole: database, broker, publisher, relay and consumer, as an app puts them together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from protovalidate import Validator

from interlock.call import Call, Direction, Handler, Layer, compose
from interlock.contract.model import Operation
from interlock.data import Database, unit_of_work
from interlock.events.attempts import Redelivery, attempts
from interlock.events.broker import Broker, open_broker
from interlock.events.brokers.nats import NatsBroker
from interlock.events.consumer import Consumer
from interlock.events.dead_letters import dead_letter
from interlock.events.envelope import Envelope
from interlock.events.inbox import inbox
from interlock.events.publisher import Publisher
from interlock.events.subscriptions import subscriptions
from interlock.observability.measure import metrics
from interlock.protocols.decode import decode, validate
from interlock.protocols.serving import failure
from interlock.resilience.deadline import Wheel, deadline
from tests.events.broker_suite import event
from tests.sample.gen.sample.v1.sample_pb import EchoMade
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_LISTENER, SampleListener

CONTRACT = SAMPLE_LISTENER.image.contract
QUICK = Redelivery(attempts=3, first=0.01, longest=0.02)
Handle = Callable[[EchoMade, Call], Awaitable[None]]


def made(text: str, key: str = "") -> Envelope:
    return replace(event(key or text, type_="echo.made"), data=EchoMade(text=text).to_binary())


class Listener(SampleListener):
    """Does what a test hands it, and remembers every attempt."""

    def __init__(self, handle: Handle | None = None) -> None:
        self.attempts: list[str] = []
        self.calls: list[Call] = []
        self._handle = handle

    async def on_echo_made(self, event: EchoMade, call: Call) -> None:
        self.attempts.append(event.text)
        self.calls.append(call)
        if self._handle is not None:
            await self._handle(event, call)


class Outcomes:
    """A meter that keeps the code of every ended call."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def __call__(self, operation: Operation) -> Callable[[Any], None]:
        return lambda outcome: self.codes.append(outcome.code.name)


def consumer(
    broker: Broker,
    listener: SampleListener,
    *,
    database: Database | None = None,
    policy: Redelivery = QUICK,
    outcomes: Outcomes | None = None,
    timeout: timedelta | None = None,
    batch: int = 1,
    inner: Sequence[Layer] = (),
) -> Consumer:
    layers: list[Layer] = [
        metrics(outcomes or Outcomes()),
        deadline(Wheel()),
        attempts(policy, database),
        dead_letter(broker),
        decode,
        validate(Validator()),
        *([inbox(database)] if database is not None else []),
        *inner,
        unit_of_work(Direction.CONSUMED),
    ]
    service = CONTRACT.service(SAMPLE_LISTENER.name)
    found: Sequence[tuple[Operation, Handler]] = subscriptions(service, CONTRACT.events, listener)
    if timeout is not None:
        found = [(replace(each, timeout=timeout), handler) for each, handler in found]
    chains = [(each, compose(layers, each, handler)) for each, handler in found]
    return Consumer(broker, chains, failure=failure, batch=batch)


def publisher(broker: Broker | None = None) -> Publisher:
    return Publisher(CONTRACT.services, CONTRACT.events, layers=[validate(Validator())], broker=broker)


@asynccontextmanager
async def running(consumer: Consumer) -> AsyncIterator[Consumer]:
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.drain(2.0)
        await consumer.stop()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{path}")
    database.publisher = publisher()
    async with database:
        async with database.transaction() as tx:
            await tx.execute("CREATE TABLE IF NOT EXISTS effect (text TEXT NOT NULL)")
        yield database


async def effects(database: Database) -> list[str]:
    async with database.transaction(read_only=True) as tx:
        return [row.text for row in await tx.execute("SELECT text FROM effect ORDER BY rowid")]


def short_leased(url: str) -> Broker:
    """Return the broker, where what a dead process held need not be waited for long."""
    return NatsBroker(url, lease=2.0) if url.startswith("nats:") else open_broker(url)


async def nothing_waits(broker: Broker, limit: float = 10.0) -> None:
    async with asyncio.timeout(limit):
        while await broker.lag(SAMPLE_LISTENER.name, ["echo.made"]):  # noqa: ASYNC110 - nobody rings at the end
            await asyncio.sleep(0.02)
