"""Pages of a list: whatever is written in between, what stays comes exactly once; filters mean the same in SQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, delete, insert, select

from interlock.call import Call, Principal, current_call
from interlock.contract.model import Kind, Operation
from interlock.data import Database, Page
from interlock.data.predicates import predicate
from interlock.errors import InvalidArgument
from interlock.listing import And, Comparison, Field, Filter, Not, Or
from interlock.listing import Kind as FieldKind
from tests.data.databases import Clock
from tests.sample.gen.sample.v1.sample_pb import ListThingsRequest, ListThingsResponse, Thing

metadata = MetaData()
things = Table(
    "things",
    metadata,
    Column("list", Integer, primary_key=True),
    Column("id", Integer, primary_key=True),
    Column("name", String(50)),
    Column("size", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("created_ns", BigInteger),
)
COLUMNS = {"id": things.c.id, "name": things.c.name, "size": things.c.size, "created_at": things.c.created_at}
START = datetime(2026, 1, 1, tzinfo=UTC)
LISTS = count(1)

quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking by way of a database outlasts the time limit
)


@pytest.fixture
async def database(database_url: str, clock: Clock) -> AsyncIterator[Database]:
    async with Database(database_url, metadata=metadata, clock=clock) as started:
        yield started


async def put(database: Database, number: int, rows: dict[int, tuple[str | None, int]]) -> None:
    if not rows:
        return
    async with database.transaction(durable=False) as tx:
        values = [
            {"list": number, "id": key, "name": name, "size": size, "created_at": START + timedelta(days=size)}
            for key, (name, size) in rows.items()
        ]
        await tx.execute(insert(things), values)


async def page_of(database: Database, number: int, request: ListThingsRequest, **options: Any) -> Page:
    query = select(things.c.id, things.c.size).where(things.c.list == number)
    given: dict[str, Any] = {"columns": COLUMNS, "key": "id", "item": Thing, **options}
    async with database.transaction(read_only=True) as tx:
        return await tx.page(query, request, **given)


_rows = st.dictionaries(
    st.integers(0, 60), st.tuples(st.one_of(st.none(), st.sampled_from("abc")), st.integers(0, 3)), max_size=25
)
_orders = st.sampled_from(
    ["", "size", "size desc", "name", "name desc", "size desc, name", "name, size desc", "created_at desc, size"]
)


@quick
@given(rows=_rows, order=_orders, size=st.integers(1, 7), data=st.data())
async def test_what_stays_comes_exactly_once(
    database: Database, rows: dict[int, tuple[str | None, int]], order: str, size: int, data: st.DataObject
) -> None:
    """Through any inserts and deletes between the pages, a row that is there all the while comes exactly once."""
    number = next(LISTS)
    await put(database, number, rows)
    stay, there, used, seen = set(rows), set(rows), set(rows), []
    request = ListThingsRequest(page_size=size, order_by=order)
    while True:
        page = await page_of(database, number, request)
        seen += [row.id for row in page.rows]
        assert len(page.rows) <= size
        assert page.total_size == len(rows)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        gone = data.draw(st.sets(st.sampled_from(sorted(there)), max_size=3)) if there else set()
        new = {key: row for key, row in data.draw(_rows).items() if key not in used}
        used |= set(new)
        await put(database, number, new)
        async with database.transaction(durable=False) as tx:
            await tx.execute(delete(things).where(things.c.list == number, things.c.id.in_(gone)))
        stay -= gone
        there = (there | set(new)) - gone
    assert [seen.count(each) for each in sorted(stay)] == [1] * len(stay)
    assert len(seen) == len(set(seen))


@quick
@given(rows=_rows, order=_orders)
async def test_pages_are_in_order(database: Database, rows: dict[int, tuple[str | None, int]], order: str) -> None:
    """All pages together are the list in its order, nulls last, the key deciding between equals."""
    number = next(LISTS)
    await put(database, number, rows)
    seen: list[int] = []
    request = ListThingsRequest(page_size=3, order_by=order)
    while not seen or request.page_token:
        page = await page_of(database, number, request)
        seen += [row.id for row in page.rows]
        request.page_token = page.next_page_token
        if not rows:
            break
    parts = [(part.split()[0], "desc" in part) for part in order.split(",") if part]
    expected = sorted(rows, reverse=bool(parts) and parts[-1][1])
    for name, descending in reversed(parts):
        of = 0 if name == "name" else 1
        ranks: dict[int, Any] = {key: row[of] for key, row in rows.items()}
        some = [key for key in expected if ranks[key] is not None]
        expected = [
            *sorted(some, key=ranks.__getitem__, reverse=descending),
            *(key for key in expected if ranks[key] is None),
        ]
    assert seen == expected


async def test_a_token_is_for_its_list(database: Database) -> None:
    """A token does not open another filter, order, caller, or size-only changes aside, another request."""
    number = next(LISTS)
    await put(database, number, {key: ("a", key) for key in range(10)})
    first = ListThingsRequest(page_size=2, filter="size > 1", order_by="size desc")
    token = (await page_of(database, number, first)).next_page_token
    wider = ListThingsRequest(page_size=5, filter="size > 1", order_by="size desc", page_token=token)
    assert [row.size for row in (await page_of(database, number, wider)).rows] == [7, 6, 5, 4, 3]
    wrong: list[tuple[ListThingsRequest, dict[str, Any]]] = [
        (ListThingsRequest(filter="size > 2", order_by="size desc", page_token=token), {}),
        (ListThingsRequest(filter="size > 1", order_by="size", page_token=token), {}),
        (ListThingsRequest(filter="size > 1", page_token=token), {}),
        (ListThingsRequest(filter="size > 1", order_by="size desc", page_token=token + "x"), {}),
        (wider, {"caller": "mallory"}),
    ]
    for request, options in wrong:
        with pytest.raises(InvalidArgument) as error:
            await page_of(database, number, request, **options)
        assert error.value.violations[0].field == "page_token"


async def test_other_workers_open_the_token(database: Database, database_url: str, clock: Clock) -> None:
    """A token opens on another worker, also one started before its key was made, for as long as the key is kept."""
    number = next(LISTS)
    await put(database, number, {key: ("a", key) for key in range(10)})
    request = ListThingsRequest(page_size=2)
    async with Database(database_url, clock=clock) as other:
        await page_of(other, number, request)
        clock.now += 31 * 86_400
        await database.page_keys.rotate()
        request.page_token = (await page_of(database, number, request)).next_page_token
        for _ in range(2):
            assert [row.id for row in (await page_of(other, number, request)).rows] == [2, 3]
            clock.now += 31 * 86_400
            await database.page_keys.rotate()
    for _ in range(3):
        clock.now += 31 * 86_400
        await database.page_keys.rotate()
    with pytest.raises(InvalidArgument):
        await page_of(database, number, request)


async def test_sizes(database: Database) -> None:
    """No size means fifty, a large one a thousand, a negative one is the caller's mistake."""
    number = next(LISTS)
    await put(database, number, dict.fromkeys(range(1002), ("a", 0)))
    assert len((await page_of(database, number, ListThingsRequest())).rows) == 50
    assert len((await page_of(database, number, ListThingsRequest(page_size=5_000))).rows) == 1_000
    with pytest.raises(InvalidArgument) as error:
        await page_of(database, number, ListThingsRequest(page_size=-1))
    assert error.value.violations[0].field == "page_size"


async def test_in_a_call_item_and_caller_are_known(database: Database) -> None:
    """Inside a call the item's message is the reply's list, and the token is bound to the principal."""
    number = next(LISTS)
    await put(database, number, {key: ("a", key) for key in range(4)})
    operation = Operation(
        service="sample.v1.SampleService",
        name="ListThings",
        python_name="list_things",
        kind=Kind.UNARY,
        request_type=ListThingsRequest,
        reply_type=ListThingsResponse,
    )

    async def ask(subject: str, token: str) -> Page:
        current_call.set(Call(operation, principal=Principal(subject=subject)))
        return await page_of(database, number, ListThingsRequest(page_size=2, page_token=token), item=None)

    first = await asyncio.create_task(ask("alice", ""))
    second = await asyncio.create_task(ask("alice", first.next_page_token))
    assert [row.id for row in second.rows] == [2, 3]
    assert second.next_page_token == ""
    with pytest.raises(InvalidArgument):
        await asyncio.create_task(ask("bob", first.next_page_token))


async def test_a_declared_field_needs_a_column(database: Database) -> None:
    """What the contract declares and the service does not offer is told when the list is first asked for."""
    with pytest.raises(TypeError, match="created_at, name"):
        await page_of(database, 1, ListThingsRequest(), columns={"id": things.c.id, "size": things.c.size})


# --- filters in SQL ---------------------------------------------------------------------------------------------------

NAME = Field(path="name", kind=FieldKind.STRING, filterable=True, sortable=True)
SIZE = Field(path="size", kind=FieldKind.INTEGER, filterable=True, sortable=True)
AT = Field(path="created_at", kind=FieldKind.TIMESTAMP, filterable=True, sortable=True)

_comparisons = st.one_of(
    st.builds(Comparison, st.just(NAME), st.sampled_from(["=", "!=", "<", ">="]), st.sampled_from("abc")),
    st.builds(Comparison, st.just(NAME), st.just(":"), st.sampled_from(["", "a", "b", "A", "%", "_", None])),
    st.builds(Comparison, st.just(SIZE), st.sampled_from(["=", "!=", "<=", ">"]), st.integers(0, 3)),
    st.builds(
        Comparison,
        st.just(AT),
        st.sampled_from(["=", "!=", "<", ">"]),
        st.integers(0, 3).map(lambda days: START + timedelta(days=days)),
    ),
)
_filters = st.recursive(
    _comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.tuples(inner, inner)),
        st.builds(Or, st.tuples(inner, inner)),
    ),
    max_leaves=6,
)


def holds(wanted: Filter, row: Any) -> bool:
    """Say what a filter means, in Python."""
    match wanted:
        case And(terms):
            return all(holds(each, row) for each in terms)
        case Or(terms):
            return any(holds(each, row) for each in terms)
        case Not(term):
            return not holds(term, row)
        case Comparison(field, operator, value):
            has = row[field.path]
            if has is None:
                return operator == "!="
            if operator == ":":
                return value is None or str(value) in has
            return bool(
                {
                    "=": has == value,
                    "!=": has != value,
                    "<": has < value,
                    "<=": has <= value,
                    ">": has > value,
                    ">=": has >= value,
                }[operator]
            )


@quick
@given(rows=_rows, wanted=_filters)
async def test_a_filter_means_the_same_in_sql(
    database: Database, rows: dict[int, tuple[str | None, int]], wanted: Filter
) -> None:
    """A filter lets the same rows through in the database as in Python; a field without a value equals nothing."""
    number = next(LISTS)
    await put(database, number, rows)
    query = select(things.c.id).where(things.c.list == number, predicate(wanted, COLUMNS))
    async with database.transaction(read_only=True) as tx:
        found = {row.id for row in await tx.execute(query)}
    as_rows = {
        key: {"name": name, "size": size, "created_at": START + timedelta(days=size)}
        for key, (name, size) in rows.items()
    }
    assert found == {key for key, row in as_rows.items() if holds(wanted, row)}
