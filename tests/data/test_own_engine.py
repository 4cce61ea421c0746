"""A service with an engine, or sessions, of its own: events, inbox and answers go with its transactions."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from protovalidate import Validator
from sqlalchemy import String, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from interlock.data import Database, Transaction, inbox, join, outbox
from interlock.data.answer import Answer, Claim, Identity
from interlock.data.idempotency import StoredAnswers
from interlock.data.tables import chassis
from interlock.errors import Aborted
from interlock.events.publisher import Publisher
from interlock.protocols.decode import validate
from tests.sample.gen.sample.v1.sample_pb import EchoMade
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_LISTENER


class Base(DeclarativeBase):
    """The service's own tables, with the chassis' among them, as a migration tool would see them."""


class Note(Base):
    __tablename__ = "note"

    text: Mapped[str] = mapped_column(String(100), primary_key=True)


join(Base.metadata)


@pytest.fixture
async def engine(database_url: str, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    (tmp_path / "var").mkdir()
    engine = create_async_engine(
        database_url.replace("postgresql:", "postgresql+asyncpg:").replace("sqlite:", "sqlite+aiosqlite:")
    )
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture
async def own(engine: AsyncEngine) -> AsyncIterator[Database]:
    """A database over the service's engine."""
    contract = SAMPLE_LISTENER.image.contract
    async with Database(engine) as database:
        database.publisher = Publisher(contract.services, contract.events, layers=[validate(Validator())])
        yield database


async def counts(engine: AsyncEngine) -> tuple[int, int]:
    """Return how many notes and how many events there are."""
    async with AsyncSession(engine) as session:
        notes = await session.scalar(select(func.count()).select_from(Note))
        events = await session.scalar(select(func.count()).select_from(Base.metadata.tables["interlock_outbox"]))
    assert notes is not None
    assert events is not None
    return notes, events


def test_a_migration_tool_sees_every_table() -> None:
    """The service's metadata holds all tables of the chassis, columns, keys and indexes included."""
    for table in chassis.sorted_tables:
        joined = Base.metadata.tables[table.name]
        assert joined.columns.keys() == table.columns.keys()
        assert {each.name for each in joined.indexes} == {each.name for each in table.indexes}


async def test_events_go_with_a_session_s_own_transaction(own: Database, engine: AsyncEngine) -> None:
    """What is published in a joined block is committed with the session's rows, and undone with them."""
    heard = own.outbox_bell.heard
    async with AsyncSession(engine) as session, session.begin():
        session.add(Note(text="kept"))
        async with own.joined(session) as tx:
            await tx.publish(EchoMade(text="kept"))
            async with own.transaction() as inner:  # joins it as well
                await inner.publish(EchoMade(text="kept too"))
    assert await counts(engine) == (1, 2)
    assert await own.outbox_bell.wait(heard, timeout=5)

    async def undone() -> None:
        async with AsyncSession(engine) as session, session.begin():
            session.add(Note(text="undone"))
            async with own.joined(session) as tx:
                await tx.publish(EchoMade(text="undone"))
            raise KeyError

    with pytest.raises(KeyError):
        await undone()
    assert await counts(engine) == (1, 2)


async def test_a_joined_block_that_fails_stores_nothing(own: Database, engine: AsyncEngine) -> None:
    """The session may go on without what its block published."""

    async def failing(session: AsyncSession) -> None:
        async with own.joined(session) as tx:
            await tx.publish(EchoMade(text="not"))
            raise KeyError

    async with AsyncSession(engine) as session, session.begin():
        session.add(Note(text="kept"))
        with pytest.raises(KeyError):
            await failing(session)
    assert await counts(engine) == (1, 0)


async def test_sessions_work_inside_our_transactions(own: Database, engine: AsyncEngine) -> None:
    """A session of a transaction commits with it; its own rollback undoes its own part."""
    async with own.transaction() as tx:
        async with tx.session() as session:
            session.add(Note(text="a"))
            await session.commit()
        async with tx.session() as session:
            session.add(Note(text="b"))
            await session.flush()
            await session.rollback()
        await tx.publish(EchoMade(text="a"))
    assert await counts(engine) == (1, 1)

    async def undone(tx: Transaction) -> None:
        async with tx.session() as session:
            session.add(Note(text="c"))
            await session.commit()
        raise KeyError

    with pytest.raises(KeyError):
        await own.run(undone)
    assert await counts(engine) == (1, 1)


async def test_a_rollback_behind_our_back_is_not_taken_for_a_commit(own: Database, engine: AsyncEngine) -> None:
    """Who rolls back the connection itself is told at the commit, and nothing is committed."""

    async def rolled_back(tx: Transaction) -> None:
        await tx.execute("INSERT INTO note VALUES ('gone')")
        await tx.connection.rollback()

    with pytest.raises(Aborted, match="undone"):
        await own.run(rolled_back)
    assert await counts(engine) == (0, 0)


async def test_inbox_and_answers_work_over_the_engine(own: Database, engine: AsyncEngine) -> None:
    """Duplicates and repetitions are known on an engine of the service's own, and it stays open for the service."""
    async with own.transaction() as tx:
        assert await inbox.note(tx, "c", "e-1", "lease", 1) == (True, True)
    async with own.transaction() as tx:
        assert await inbox.note(tx, "c", "e-1", "lease", 1) == (True, False)
    answers = StoredAnswers(own)
    identity = Identity(operation="o", caller="a", key="k")
    claim = await answers.claim(identity, b"f", 10)
    assert isinstance(claim, Claim)
    async with own.transaction() as tx:
        await answers.keep(tx, claim, Answer(reply=b"r"))
    stored = await answers.claim(identity, b"f", 10)
    assert isinstance(stored, Answer)
    assert stored.reply == b"r"
    assert await outbox.waiting(own) == 0
    await own.stop()
    assert await counts(engine) == (0, 0)


def test_an_engine_of_another_driver_is_refused() -> None:
    """The message says which drivers there are."""
    engine = create_async_engine("sqlite+aiosqlite:///:memory:")
    engine.sync_engine.url = engine.url.set(drivername="postgresql+psycopg")
    with pytest.raises(ValueError, match="asyncpg or sqlite"):
        Database(engine)
