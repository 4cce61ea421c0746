"""Lists out of a service's own SELECT: filter, order and keyset pages in one call.

    async with self.database.transaction(read_only=True) as tx:
        page = await tx.page(
            select(orders.c.body).where(orders.c.customer_id == request.customer_id),
            request,                                       # page_size, page_token, filter, order_by are read from it
            columns={"id": orders.c.id, "status": orders.c.status, "created_at": orders.c.created_at},
            key="id",
            order_by="created_at desc",                    # unless the request says otherwise
        )
    return ListOrdersResponse(
        orders=[Order.from_binary(row.body) for row in page.rows],
        next_page_token=page.next_page_token,
        total_size=page.total_size,
    )

What callers may filter and order by is what the contract declares `filterable` and `sortable` on the item; `columns`
says where each of those fields stands in the SELECT. A page starts behind the last row of the one before, so it costs
the same at any depth, and a row that is there all the while comes exactly once, whatever is written in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from protobuf import DescFieldValueList, DescMessage, Message
from sqlalchemy import ColumnElement, Row, Select, func, select

from interlock.call import current_call
from interlock.data.fingerprint import fingerprint
from interlock.data.keyset import Key, behind, ordered
from interlock.data.predicates import predicate
from interlock.data.transaction import Transaction
from interlock.errors import InvalidArgument, Violation
from interlock.listing.fields import Fields, declared
from interlock.listing.filters import Filter, parse_filter
from interlock.listing.orders import Sort, parse_order
from interlock.listing.tokens import Position, key_of

DEFAULT_SIZE, LARGEST_SIZE = 50, 1000

Columns = Mapping[str, ColumnElement[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list; `next_page_token` is empty on the last, `total_size` is as of the first."""

    rows: Sequence[Row[Any]]
    next_page_token: str
    total_size: int


async def page(
    tx: Transaction,
    query: Select[Any],
    request: Message[Any],
    *,
    columns: Columns,
    key: str,
    order_by: str = "",
    item: type[Message[Any]] | None = None,
    caller: str | None = None,
) -> Page:
    """Return the page of `query` that `request` asks for; see the module's docstring, and `Transaction.page`.

    `key` names the column that tells rows apart and ends every order. A `page_size` of 0 means 50, more than 1,000
    means 1,000. `item` and `caller` are taken from the current call: the message of its reply's list, and its
    principal. Raises InvalidArgument naming `page_size`, `page_token`, `filter` or `order_by`, and TypeError where the
    contract declares a field that `columns` lacks.
    """
    asked: Any = request
    size = _size(asked.page_size)
    fields = _declared(item.desc() if item is not None else _item_of_call())
    if missing := sorted(fields.by_path.keys() - columns.keys()):
        raise TypeError(f"columns lacks what the contract declares filterable or sortable: {', '.join(missing)}")
    given = parse_order(getattr(asked, "order_by", ""), fields) or parse_order(order_by)
    wanted = parse_filter(getattr(asked, "filter", ""), fields)
    order = keys(given, columns, key)
    caller = _caller() if caller is None else caller
    bound = fingerprint(request, without=("page_size", "page_token")) + repr([each.sort for each in order]).encode()

    tokens = await tx.database.page_keys.tokens(tx, key_of(asked.page_token) if asked.page_token else None)
    position = tokens.open(asked.page_token, query=bound, caller=caller) if asked.page_token else None
    if position is None:
        position = Position(values=(), total_size=await _count(tx, query, wanted, columns))
    rows = await keyset_page(tx, query, columns=columns, wanted=wanted, order=order, position=position, size=size + 1)
    if len(rows) <= size:
        return Page(rows=rows, next_page_token="", total_size=position.total_size)
    rows = rows[:size]
    last = Position(values=tuple(each.read(rows[-1]) for each in order), total_size=position.total_size)
    return Page(
        rows=rows, next_page_token=tokens.seal(last, query=bound, caller=caller), total_size=position.total_size
    )


async def keyset_page(
    tx: Transaction,
    query: Select[Any],
    *,
    columns: Columns,
    wanted: Filter | None,
    order: Sequence[Key],
    position: Position,
    size: int,
) -> Sequence[Row[Any]]:
    """Return up to `size` rows of `query` that `wanted` lets through, in `order`, behind `position`.

    Columns of the order that the SELECT lacks stand at the end of the rows.
    """
    selected = query.selected_columns
    lacking = [each for each in order if not selected.contains_column(each.column)]
    query = query.add_columns(*(each.column.label(each.label) for each in lacking))
    if wanted is not None:
        query = query.where(predicate(wanted, columns))
    if position.values:
        query = query.where(behind(order, position.values))
    result = await tx.execute(query.order_by(None).order_by(*ordered(order)).limit(size))
    return result.all()


def keys(order: Sequence[Sort], columns: Columns, key: str) -> list[Key]:
    """Return the order's columns, ending with `key`; KeyError names a column that is not there."""
    paths = [each.path for each in order]
    full = [*order] if key in paths else [*order, Sort(key, order[-1].descending if order else False)]
    if key in paths:
        full = full[: paths.index(key) + 1]  # what follows the key orders nothing
    return [Key(sort=each, column=columns[each.path]) for each in full]


async def _count(tx: Transaction, query: Select[Any], wanted: Filter | None, columns: Columns) -> int:
    if wanted is not None:
        query = query.where(predicate(wanted, columns))
    counted = select(func.count()).select_from(query.order_by(None).subquery())
    return int((await tx.execute(counted)).scalar_one())


def _size(asked: int) -> int:
    if asked < 0:
        violation = Violation(field="page_size", description="must not be negative")
        raise InvalidArgument("invalid page_size", violations=[violation])
    return min(asked or DEFAULT_SIZE, LARGEST_SIZE)


def _caller() -> str:
    call = current_call.get()
    principal = call.principal if call is not None else None
    return f"{principal.issuer}|{principal.subject}" if principal is not None else ""


def _item_of_call() -> DescMessage:
    call = current_call.get()
    if call is None:
        raise TypeError("outside of a call, name the list's message: item=Order")
    return _item(call.operation.reply_type.desc())


@lru_cache(maxsize=256)
def _item(reply: DescMessage) -> DescMessage:
    for field in reply.fields:
        if isinstance(field.value, DescFieldValueList) and isinstance(field.value.element, DescMessage):
            return field.value.element
    raise TypeError(f"{reply.type_name} lists no messages")


@lru_cache(maxsize=256)
def _declared(item: DescMessage) -> Fields:
    return declared(item)
