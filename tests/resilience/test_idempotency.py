"""Idempotency keys: one effect, one answer, whatever happens in between; on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from dataclasses import replace
from datetime import timedelta

import pytest
from protobuf.wkt.google.protobuf.timestamp_pb import Timestamp
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from interlock.call import Call, Cancellation, Direction, Peer, Reply, compose, current_call
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Kind
from interlock.data import Conflict, Database, Transaction
from interlock.data.fingerprint import fingerprint
from interlock.data.idempotency import StoredAnswers
from interlock.data.unit import current_unit, delist, enlist
from interlock.errors import (
    Aborted,
    AlreadyExists,
    Error,
    EtagMismatch,
    FailedPrecondition,
    InvalidArgument,
    KeyReused,
    NotFound,
    Unavailable,
    Violation,
)
from interlock.resilience.idempotency import idempotency, idempotency_key
from tests.data.calls import KEYED, new_call, run
from tests.data.databases import Clock, clock, database_url
from tests.sample.gen.sample.v1.sample_pb import CreateThingRequest, EchoRequest, Item, Thing, Volume

__all__ = ["clock", "database_url"]

metadata = MetaData()
effects = Table(
    "effects", metadata, Column("id", Integer, primary_key=True), Column("name", String(50), nullable=False)
)


@pytest.fixture
async def database(database_url: str, clock: Clock) -> AsyncIterator[Database]:
    async with Database(database_url, metadata=metadata, clock=clock) as started:
        yield started


@pytest.fixture
def store(database: Database) -> StoredAnswers:
    return StoredAnswers(database)


class Shop:
    """A handler that makes things, and does on the way what a test wants."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.runs = 0
        self.before: Callable[[Call], object] = _nothing
        self.after: Callable[[Call], object] = _nothing

    async def create(self, call: Call) -> Reply:
        self.runs += 1
        await _maybe(self.before(call))
        call.reply_headers.add("x-run", str(self.runs))
        async with self.database.transaction() as tx:
            await tx.execute(insert(effects).values(name=call.request.name))
        await _maybe(self.after(call))
        return Thing(thing_id=str(self.runs), name=call.request.name)

    async def effects(self) -> list[str]:
        async with self.database.transaction(read_only=True) as tx:
            return [row.name for row in await tx.execute(select(effects.c.name))]


def _nothing(_call: Call) -> None:
    return


async def _maybe(result: object) -> None:
    if asyncio.iscoroutine(result):
        await result


@pytest.fixture
def shop(database: Database) -> Shop:
    return Shop(database)


async def ask(shop: Shop, store: StoredAnswers, call: Call) -> Thing:
    reply = await run(shop.create, call, [idempotency(store)])
    assert isinstance(reply, Thing)
    return reply


async def test_the_second_gets_the_first_one_s_answer(shop: Shop, store: StoredAnswers) -> None:
    """A call repeated with its key has one effect, and the same reply with the same headers, marked as replayed."""
    first, second = new_call(key="k-1"), new_call(key='"k-1"')
    assert await ask(shop, store, first) == await ask(shop, store, second)
    assert shop.runs == 1
    assert await shop.effects() == ["a"]
    assert "idempotency-replayed" not in first.reply_headers
    assert second.reply_headers.get("idempotency-replayed") == "true"
    assert second.reply_headers.get("x-run") == "1"


async def test_keys_callers_and_operations_are_apart(shop: Shop, store: StoredAnswers) -> None:
    """Another key, another principal and another operation make another call."""
    other = replace(KEYED, name="MakeThing")
    await ask(shop, store, new_call(key="k-1"))
    await ask(shop, store, new_call(key="k-2"))
    await ask(shop, store, new_call(key="k-1", subject="bob"))
    call = new_call(key="k-1")
    call.operation = other
    await ask(shop, store, call)
    assert shop.runs == 4


async def test_an_anonymous_caller_is_its_host(shop: Shop, store: StoredAnswers) -> None:
    """Without a principal the caller is told by its address, whose port changes with each connection."""
    for host, port in (("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.2", 1)):
        call = new_call(key="k-1", peer=Peer({"client": (host, port)}))
        call.principal = None
        await ask(shop, store, call)
    assert shop.runs == 2


async def test_a_key_is_for_one_request(shop: Shop, store: StoredAnswers) -> None:
    """The key of one request does not pass for another."""
    await ask(shop, store, new_call("a", key="k-1"))
    with pytest.raises(KeyReused):
        await ask(shop, store, new_call("b", key="k-1"))
    assert await shop.effects() == ["a"]


@pytest.mark.parametrize("key", [None, "", " ", '""', "x" * 256, "é", "a\tb"])
async def test_a_key_must_be_there_and_sound(shop: Shop, store: StoredAnswers, key: str | None) -> None:
    """No key, or one that is no key, is the caller's mistake, and names the header."""
    call = new_call()
    if key is not None:
        call.metadata.raw.append((b"idempotency-key", key.encode("latin-1")))
    with pytest.raises(InvalidArgument, match="idempotency-key") as error:
        await ask(shop, store, call)
    assert error.value.violations[0].field == "idempotency-key"
    assert shop.runs == 0


@pytest.mark.parametrize("key", ["x" * 255, '"with \\"quotes\\" and spaces"', "8e03978e-40d5-43e8-bc93-6894a57f9324"])
async def test_sound_keys_are_taken(shop: Shop, store: StoredAnswers, key: str) -> None:
    """A key is up to 255 printable characters, quoted or bare."""
    await ask(shop, store, new_call(key=key))
    await ask(shop, store, new_call(key=key))
    assert shop.runs == 1


async def test_a_second_while_the_first_runs_is_aborted(shop: Shop, store: StoredAnswers) -> None:
    """Of two at the same time one runs and the other is told to wait; afterwards it gets the answer."""
    running, proceed = asyncio.Event(), asyncio.Event()

    async def wait(_call: Call) -> None:
        running.set()
        await proceed.wait()

    shop.before = wait
    first = asyncio.create_task(ask(shop, store, new_call(key="k-1")))
    await running.wait()
    with pytest.raises(Aborted, match="not ended"):
        await ask(shop, store, new_call(key="k-1"))
    with pytest.raises(KeyReused):
        await ask(shop, store, new_call("other", key="k-1"))
    proceed.set()
    assert await first == await ask(shop, store, new_call(key="k-1"))
    assert await shop.effects() == ["a"]


async def test_many_at_once_have_one_effect(shop: Shop, store: StoredAnswers) -> None:
    """Of many at the same time one has its effect, and nobody gets a different answer."""
    results = await asyncio.gather(*(ask(shop, store, new_call(key="k-1")) for _ in range(10)), return_exceptions=True)
    assert await shop.effects() == ["a"]
    assert {each.thing_id for each in results if isinstance(each, Thing)} == {"1"}
    assert all(isinstance(each, Thing | Aborted) for each in results)


LASTING = [
    NotFound("gone", metadata=[("x-why", "text"), ("x-why-bin", b"\0\1")]),
    AlreadyExists("there"),
    FailedPrecondition("no stock", reason="OUT_OF_STOCK", retry_after=timedelta(seconds=2)),
    InvalidArgument("bad", violations=[Violation(field="name", description="rude")]),
]


@pytest.mark.parametrize("error", LASTING, ids=lambda each: type(each).__name__)
async def test_lasting_errors_are_answers(shop: Shop, store: StoredAnswers, error: Error) -> None:
    """The handler's own lasting error is stored, without any effect, and replayed as it was."""

    def fail(_call: Call) -> None:
        raise error

    shop.after = fail
    with pytest.raises(type(error)):
        await ask(shop, store, new_call(key="k-1"))
    shop.after = _nothing
    again = new_call(key="k-1")
    with pytest.raises(type(error)) as replayed:
        await ask(shop, store, again)
    for name in ("message", "reason", "violations", "retry_after", "metadata"):
        assert getattr(replayed.value, name) == getattr(error, name)
    assert again.reply_headers.get("idempotency-replayed") == "true"
    assert shop.runs == 1
    assert await shop.effects() == []


def _received() -> Error:
    error = NotFound("of another service")
    error.received = True
    return error


# Where a call is struck, by what, and what its caller sees: in every case a repetition runs and has its effect once.
FAULTS: dict[str, tuple[str, Callable[[], BaseException], type[BaseException]]] = {
    "error before the block": ("before", lambda: Unavailable("later"), Unavailable),
    "error after the block": ("after", lambda: Unavailable("later"), Unavailable),
    "mismatch after the block": ("after", lambda: EtagMismatch("changed"), EtagMismatch),
    "an error of a called service": ("after", _received, NotFound),
    "a bug after the block": ("after", lambda: RuntimeError("bug"), RuntimeError),
    "cancel before the block": ("before", asyncio.CancelledError, asyncio.CancelledError),
    "cancel after the block": ("after", asyncio.CancelledError, asyncio.CancelledError),
    "endless conflicts": ("after", lambda: Conflict("again"), Aborted),
    "error at the commit": ("commit", lambda: Unavailable("later"), Unavailable),
    "cancel at the commit": ("commit", asyncio.CancelledError, asyncio.CancelledError),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_leaves_all_or_nothing(shop: Shop, store: StoredAnswers, fault: str) -> None:
    """Wherever a call is struck, nothing of it remains, and the repetition has its effect once."""
    where, make, seen = FAULTS[fault]

    async def strike(_given: object) -> None:
        raise make()

    async def at_commit(_call: Call) -> None:
        async with shop.database.transaction() as tx:
            tx.before_commit(strike)

    if where == "before":
        shop.before = strike
    else:
        shop.after = strike if where == "after" else at_commit
    with pytest.raises(seen):
        await asyncio.create_task(ask(shop, store, new_call(key="k-1")))
    assert await shop.effects() == []
    shop.before = shop.after = _nothing
    assert await ask(shop, store, new_call(key="k-1")) == await ask(shop, store, new_call(key="k-1"))
    assert await shop.effects() == ["a"]


async def test_a_conflict_runs_again_and_is_answered_once(shop: Shop, store: StoredAnswers) -> None:
    """A handler that ran twice because of a conflict has one effect, and the last run's headers only."""

    def collide(_call: Call) -> None:
        if shop.runs == 1:
            raise Conflict("again")

    shop.after = collide
    call = new_call(key="k-1")
    assert (await ask(shop, store, call)).thing_id == "2"
    assert call.reply_headers.get_all("x-run") == ["2"]
    assert (await ask(shop, store, new_call(key="k-1"))).thing_id == "2"
    assert await shop.effects() == ["a"]


async def test_a_deadline_during_the_commit_still_answers_the_next(shop: Shop, store: StoredAnswers) -> None:
    """A call whose caller left while it committed has its effect, and the repetition gets its answer."""
    call = new_call(key="k-1")

    async def leave(_tx: Transaction) -> None:
        call.cancel(Cancellation.DEADLINE)
        await asyncio.sleep(0)

    async def at_commit(_call: Call) -> None:
        async with shop.database.transaction() as tx:
            tx.before_commit(leave)

    async def as_front() -> Thing:
        call.task = asyncio.current_task()
        return await ask(shop, store, call)

    shop.after = at_commit
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(as_front())
    assert await shop.effects() == ["a"]
    assert (await ask(shop, store, new_call(key="k-1"))).thing_id == "1"
    assert await shop.effects() == ["a"]


async def test_a_claim_outlives_a_crash_only_for_its_lease(shop: Shop, store: StoredAnswers, clock: Clock) -> None:
    """A process that died leaves its key claimed until the lease is over, and can't write any more after that."""
    running, proceed = asyncio.Event(), asyncio.Event()

    async def hang(_call: Call) -> None:
        if shop.runs == 1:
            running.set()
            await proceed.wait()

    shop.before = hang
    dead = asyncio.create_task(ask(shop, store, new_call(key="k-1")))
    await running.wait()
    clock.now += 31  # past the timeout, within the margin for its commit
    with pytest.raises(Aborted):
        await ask(shop, store, new_call(key="k-1"))
    clock.now += 15
    assert (await ask(shop, store, new_call(key="k-1"))).thing_id == "2"
    proceed.set()  # it was not dead after all
    with pytest.raises(Aborted, match="so long"):
        await dead
    assert await shop.effects() == ["a"]
    assert (await ask(shop, store, new_call(key="k-1"))).thing_id == "2"


async def test_answers_expire_and_are_purged(shop: Shop, store: StoredAnswers, clock: Clock) -> None:
    """After a day a key is new again, and what has expired can be removed."""
    await ask(shop, store, new_call(key="k-1"))
    await ask(shop, store, new_call(key="k-2"))
    clock.now += 86_399
    await ask(shop, store, new_call(key="k-1"))
    assert shop.runs == 1 + 1
    assert await store.purge() == 0
    clock.now += 2
    await ask(shop, store, new_call(key="k-1"))
    assert shop.runs == 3
    assert await store.purge() == 1
    assert await store.purge() == 0


def test_only_keyed_unary_operations_have_it() -> None:
    """Other operations, and apps without a database, do without the layer."""
    store = StoredAnswers(Database("sqlite:///unused.db"))
    safe, stream = replace(KEYED, idempotency=Idempotency.SAFE), replace(KEYED, kind=Kind.SERVER_STREAM)
    assert idempotency(store)(KEYED) is not None
    assert [idempotency(store)(safe), idempotency(store)(stream), idempotency(None)(KEYED)] == [None, None, None]
    assert [idempotency_key()(safe), idempotency_key()(stream)] == [None, None]


# --- sending ----------------------------------------------------------------------------------------------------------


async def _send(name: str = "a", key: str | None = None) -> str:
    """Send a call as a client does, and return the key that every attempt of it carried."""
    sent: list[str | None] = []

    async def transport(call: Call) -> Reply:
        sent.append(call.metadata.get("idempotency-key"))
        return Thing()

    async def twice(call: Call, proceed: Callable[[Call], object]) -> Reply:
        await transport(call.fork())
        return await transport(call.fork())

    chain = compose([idempotency_key(), lambda _: twice], KEYED, transport)
    await chain(new_call(name, key=key, direction=Direction.SENT))
    assert len(set(sent)) == 1
    assert sent[0] is not None
    return sent[0]


async def test_a_sent_call_has_one_key_for_all_attempts() -> None:
    """Each call has a key of its own, its attempts share it, and one that the caller gave stays."""
    assert await _send() != await _send()
    assert await _send(key="mine") == "mine"


async def test_calls_of_a_repeated_call_have_the_same_keys(shop: Shop, store: StoredAnswers) -> None:
    """What a handler sends on is repeated under the same keys when it is run again, each of two equal calls its own."""
    keys: list[list[str]] = []

    async def send(call: Call) -> None:
        keys.append([await _send("x"), await _send("x"), await _send("y")])
        if len(keys) == 1:
            raise Conflict("again")
        if len(keys) == 2:
            raise Unavailable("try later")

    shop.after = send
    with pytest.raises(Unavailable):
        await ask(shop, store, new_call(key="k-1"))
    await ask(shop, store, new_call(key="k-1"))
    await ask(shop, store, new_call(key="k-2"))
    assert keys[0] == keys[1] == keys[2]
    assert len({*keys[0], *keys[3]}) == 6


async def test_consumed_events_name_their_calls_too(database: Database) -> None:
    """A call sent while an event is consumed has its key from the event's origin; outside of any it is random."""

    async def note(_tx: Transaction, _reply: Reply) -> None:
        return

    keys = []

    async def consume(_call: Call) -> Reply:
        unit = current_unit()
        assert unit is not None
        assert unit.origin == "consumer/e-1"
        keys.append(await _send())
        return Thing()

    for _ in range(2):
        token = enlist(database, note, origin="consumer/e-1")
        await run(consume, new_call(direction=Direction.CONSUMED))
        delist(token)
    assert keys[0] == keys[1] != await asyncio.create_task(_send(), context=Context())
    assert current_call.get() is None


# --- fingerprints -----------------------------------------------------------------------------------------------------


def test_equal_messages_have_equal_fingerprints() -> None:
    """A fingerprint does not hang on how a message was built or encoded."""
    labels = {f"l-{n}": str(n) for n in range(20)}
    one = EchoRequest(text="a", labels=labels, items=[Item(sku="x", quantity=1)], at=Timestamp(seconds=1))
    other = EchoRequest(
        at=Timestamp(seconds=1), items=[Item(quantity=1, sku="x")], labels=dict(reversed(labels.items())), text="a"
    )
    assert fingerprint(one) == fingerprint(other) == fingerprint(EchoRequest.from_binary(one.to_binary()))


def test_different_messages_have_different_fingerprints() -> None:
    """Any difference in what a message says is one of its fingerprint."""
    messages = [
        EchoRequest(),
        EchoRequest(text="a"),
        EchoRequest(data=b"a"),
        EchoRequest(tags=["a"]),
        EchoRequest(tags=["a", ""]),
        EchoRequest(tags=["", "a"]),
        EchoRequest(labels={"a": ""}),
        EchoRequest(labels={"": "a"}),
        EchoRequest(labels={"a": "b", "c": "d"}),
        EchoRequest(items=[Item(sku="a")]),
        EchoRequest(items=[Item(sku="a"), Item()]),
        EchoRequest(items=[Item(sku="a", quantity=1)]),
        EchoRequest(items=[Item(sku="a"), Item(quantity=1)]),
        EchoRequest(number=1),
        EchoRequest(ratio=1.0),
        EchoRequest(loud=True),
        EchoRequest(volume=Volume.LOW),
        EchoRequest(at=Timestamp()),
        EchoRequest(at=Timestamp(seconds=1)),
        EchoRequest(text="1:a"),
    ]
    assert len({fingerprint(each) for each in messages}) == len(messages)
    assert fingerprint(EchoRequest(text="a"), without=("text",)) == fingerprint(EchoRequest())
    assert fingerprint(CreateThingRequest(name="a")) != fingerprint(CreateThingRequest(name="b"))
