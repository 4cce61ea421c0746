"""Events and lists: publishing, the outbox, the relay, consuming with an inbox, and a page far down a long list."""

import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any
from uuid import uuid4

import uvloop
from protovalidate import Validator
from sqlalchemy import Column, Integer, MetaData, String, Table, select

from bench.figures import Effort, Goal, Section
from interlock.call import Call, Direction, Layer, compose
from interlock.data import Database, unit_of_work
from interlock.data.keyset import Key
from interlock.data.outbox import OutboxRow, store, waiting
from interlock.data.pages import keyset_page
from interlock.events.attempts import Redelivery, attempts
from interlock.events.broker import Broker, open_broker
from interlock.events.consumer import Consumer
from interlock.events.dead_letters import dead_letter
from interlock.events.envelope import Envelope, to_attributes
from interlock.events.inbox import inbox
from interlock.events.publisher import Publisher
from interlock.events.relay import Relay
from interlock.events.subscriptions import subscriptions
from interlock.listing.orders import Sort
from interlock.listing.tokens import Position
from interlock.protocols.decode import decode, validate
from interlock.protocols.serving import failure
from interlock.resilience.deadline import Wheel, deadline
from interlock.stamps import uuid7
from interlock.testing.nats_server import nats_server
from interlock.testing.postgresql import postgresql_databases
from interlock.testing.servers import NoServer
from shop.gen.api.inventory.v1.inventory_rpc import INVENTORY_SERVICE
from shop.gen.api.order.v1.events_pb import OrderCreated
from shop.gen.api.order.v1.order_rpc import ORDER_SERVICE

CONSUMER = INVENTORY_SERVICE.name
TYPE = "order.created"
ROWS = 1_000_000
BATCH = 32
GOALS = {
    ("PostgreSQL + NATS", "publish, one at a time, P95"): Goal(2.0, at_most=True),
    ("PostgreSQL + NATS", "publish, batches of 500"): Goal(10_000),
    ("PostgreSQL + NATS", "commit to delivered, idle, P95"): Goal(20.0, at_most=True),
    ("PostgreSQL + NATS", "relay"): Goal(5_000),
    ("PostgreSQL + NATS", "consume with inbox, per core"): Goal(2_000),
    ("PostgreSQL + NATS", "page 20,000 / page 2"): Goal(1.5, at_most=True),
}

metadata = MetaData()
items = Table("item", metadata, Column("id", Integer, primary_key=True), Column("name", String(40), nullable=False))
effects = Table("effect", metadata, Column("id", Integer, primary_key=True), Column("name", String(40), nullable=False))


@dataclass(slots=True)
class Place:
    """A database and a broker to measure on, and what was measured there, a value a round."""

    database: Database
    broker: Broker
    found: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def note(self, quantity: str, unit: str, value: float) -> None:
        """Add a value."""
        self.found[quantity, unit].append(value)


def events(effort: Effort) -> Section:
    """Measure SQLite with the embedded broker, and PostgreSQL with NATS."""
    section = Section(
        "events",
        "Events and lists",
        "one process does all of it; P95 in wall time, the rate per core from this process's CPU time, of which the "
        "servers' is no part",
    )
    for name, place in (("SQLite + embedded", _embedded), ("PostgreSQL + NATS", _servers)):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                found = runner.run(_measure(place, effort))
            except NoServer as reason:
                section.missing[name] = str(reason)
                continue
        for (quantity, unit), values in found.items():
            section.add(f"{quantity}, {unit}", name, "", values, GOALS.get((name, quantity)))
    return section


@asynccontextmanager
async def _embedded() -> AsyncIterator[Place]:
    with tempfile.TemporaryDirectory() as directory:
        yield Place(
            Database(f"sqlite:///{directory}/bench.db", metadata=metadata), open_broker(f"embedded:{directory}/b.db")
        )


@asynccontextmanager
async def _servers() -> AsyncIterator[Place]:
    with nats_server() as nats:
        async with postgresql_databases() as url:
            yield Place(
                Database(url.format(name="test"), metadata=metadata),
                open_broker(f"{nats}?stream=bench{uuid4().hex[:8]}"),
            )


async def _measure(place: Callable[[], Any], effort: Effort) -> dict[tuple[str, str], list[float]]:
    async with AsyncExitStack() as stack:
        at: Place = await stack.enter_async_context(place())
        await at.broker.start()
        stack.push_async_callback(at.broker.stop)
        await stack.enter_async_context(at.database)
        contract = ORDER_SERVICE.image.contract
        at.database.publisher = Publisher(contract.services, contract.events, layers=[validate(Validator())])
        for _ in range(effort.rounds):
            await _publish(at, effort)
            await _consume(at, effort)
            await _outbox(at, effort)
            await _relay(at, effort)
        await _pages(at, effort)
        return at.found


async def _publish(at: Place, effort: Effort) -> None:
    times = []
    for _ in range(effort.of(400)):
        began = time.perf_counter()
        await at.broker.publish([_envelope("single")])
        times.append(time.perf_counter() - began)
    at.note("publish, one at a time, P95", "ms", _p95(times))
    batches = [[_envelope(f"k-{number % 97}") for number in range(500)] for _ in range(effort.of(10))]
    began = time.perf_counter()
    for batch in batches:
        await at.broker.publish(batch)
    at.note("publish, batches of 500", "events/s", 500 * len(batches) / (time.perf_counter() - began))


class _Listener:
    """Writes one row an event, and says when the last has come."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.left = 0
        self.done = asyncio.Event()
        self.heard: Callable[[], object] = int

    async def on_order_created(self, event: OrderCreated, call: Call) -> None:
        async with self.database.transaction() as tx:
            await tx.execute("INSERT INTO effect (name) VALUES (:name)", {"name": event.order_id})
        self.heard()
        self.left -= 1
        if self.left <= 0:
            self.done.set()

    async def on_order_cancelled(self, event: Any, call: Call) -> None:
        raise AssertionError


@asynccontextmanager
async def _consuming(at: Place, listener: _Listener) -> AsyncIterator[None]:
    layers: list[Layer] = [
        deadline(Wheel()),
        attempts(Redelivery(), at.database),
        dead_letter(at.broker),
        decode,
        validate(Validator()),
        inbox(at.database),
        unit_of_work(Direction.CONSUMED),
    ]
    contract = INVENTORY_SERVICE.image.contract
    found = subscriptions(contract.service(CONSUMER), contract.events, listener)
    chains = [(each, compose(layers, each, handler)) for each, handler in found]
    consumer = Consumer(at.broker, chains, failure=failure, batch=BATCH)
    await consumer.start()
    try:
        yield
    finally:
        await consumer.drain(5.0)
        await consumer.stop()


async def _consume(at: Place, effort: Effort) -> None:
    """Consume what was published so far, of which the first events are not counted: the leases are taken then."""
    listener = _Listener(at.database)
    await _await_lag(at, more_than=0)
    listener.left = await at.broker.lag(CONSUMER, [TYPE]) or effort.of(1000)
    warm, total = asyncio.Event(), listener.left
    listener.heard = lambda: warm.set() if listener.left < total - 50 else None
    async with _consuming(at, listener):
        await warm.wait()
        began, cpu, left = time.perf_counter(), time.process_time(), listener.left
        await listener.done.wait()
        at.note("consume with inbox", "events/s", left / (time.perf_counter() - began))
        at.note("consume with inbox, per core", "events/s", left / (time.process_time() - cpu))


async def _await_lag(at: Place, more_than: int) -> None:
    async with asyncio.timeout(30):
        while await at.broker.lag(CONSUMER, [TYPE]) <= more_than:  # noqa: ASYNC110 - nobody rings
            await asyncio.sleep(0.05)


async def _outbox(at: Place, effort: Effort) -> None:
    """Publish in a transaction while nothing else goes on, and wait until the handler has it."""
    times: list[float] = []
    listener, relay = _Listener(at.database), Relay(at.database, at.broker)
    heard = asyncio.Event()
    listener.heard, listener.left = heard.set, 1 << 30
    await relay.start()
    async with _consuming(at, listener):
        for number in range(effort.of(60) + 3):
            heard.clear()
            async with at.database.transaction() as tx:
                await tx.publish(OrderCreated(order_id=f"o-{number}", customer_id="c-1"))
            began = time.perf_counter()
            await heard.wait()
            if number >= 3:  # the leases are taken before
                times.append(time.perf_counter() - began)
            await asyncio.sleep(0.005)
    await relay.stop()
    at.note("commit to delivered, idle, P95", "ms", _p95(times))


async def _relay(at: Place, effort: Effort) -> None:
    """Fill the outbox, then have it sent; what comes out at the other end is settled by the round's consumer."""
    count = effort.of(10_000)
    for start in range(0, count, 500):
        async with at.database.transaction() as tx:
            await store(tx, [_row(f"k-{number % 97}") for number in range(start, min(start + 500, count))])
    relay = Relay(at.database, at.broker)
    began = time.perf_counter()
    await relay.start()
    while await waiting(at.database):  # noqa: ASYNC110 - nobody rings
        await asyncio.sleep(0.01)
    at.note("relay", "events/s", count / (time.perf_counter() - began))
    await relay.stop()


async def _pages(at: Place, effort: Effort) -> None:
    rows = effort.of(ROWS)
    numbers = (
        f"SELECT generate_series(1, {rows}) AS n"
        if at.database.is_postgresql
        else f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) SELECT n FROM s"
    )
    async with at.database.transaction() as tx:
        await tx.execute(f"INSERT INTO item (id, name) SELECT n, 'item ' || n FROM ({numbers}) AS numbers")
    for _ in range(effort.rounds):
        second, deep = [await _page(at, behind) for behind in (50, rows - 100)]
        at.note("page 2", "ms", second * 1000)
        at.note("page 20,000 / page 2", "ratio", deep / second)


async def _page(at: Place, behind: int) -> float:
    """Return the seconds of the page of 50 behind a row, the median of many."""
    order, times = [Key(sort=Sort("id"), column=items.c.id)], []
    for _ in range(60):
        async with at.database.transaction(read_only=True) as tx:
            began = time.perf_counter()
            found = await keyset_page(
                tx, select(items), columns={"id": items.c.id}, wanted=None, order=order,
                position=Position(values=(behind,), total_size=0), size=50,
            )  # fmt: skip
            times.append(time.perf_counter() - began)
        assert len(found) == 50
    return median(times)


def _envelope(key: str) -> Envelope:
    message = OrderCreated(order_id=key, customer_id="c-1")
    return Envelope(
        id=uuid7(), source=ORDER_SERVICE.name, type=TYPE, partition_key=key, subject=key, time=datetime.now(UTC),
        data_schema="proto:api.order.v1.OrderCreated", request_id=uuid7(), data=message.to_binary(),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    )  # fmt: skip


def _row(key: str) -> OutboxRow:
    event = _envelope(key)
    return OutboxRow(id=event.id, type=event.type, partition_key=key, data=event.data, attributes=to_attributes(event))


def _p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.95)] * 1000
