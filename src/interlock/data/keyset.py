"""Keyset pages in SQL: an order in which every row has its own place, and the rows behind one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, false, or_, tuple_

from interlock.listing.orders import Sort
from interlock.listing.tokens import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One column of an order. Nulls come last, whichever way it goes, on every engine."""

    sort: Sort
    column: ColumnElement[Any]

    @property
    def label(self) -> str:
        """What the column is called in rows whose SELECT lacks it."""
        return "interlock_" + self.sort.path.replace(".", "_")

    @property
    def nullable(self) -> bool:
        """Whether it may hold nulls; what is no plain column may."""
        return bool(getattr(self.column, "nullable", True)) and not getattr(self.column, "primary_key", False)

    def read(self, row: Row[Any]) -> Value:
        """Return the column's value in a row."""
        mapping = row._mapping
        value: Value = mapping[self.label] if self.label in mapping else mapping[self.column]
        return value


def ordered(order: Sequence[Key]) -> list[ColumnElement[Any]]:
    """Return the ORDER BY."""
    clauses: list[ColumnElement[Any]] = []
    for key in order:
        if key.nullable:
            clauses.append(_absent(key.column))
        clauses.append(key.column.desc() if key.sort.descending else key.column.asc())
    return clauses


def behind(order: Sequence[Key], values: Sequence[Value]) -> ColumnElement[bool]:
    """Return the condition for the rows that come behind the one with `values`."""
    directions = {key.sort.descending for key in order}
    if len(directions) == 1 and not any(key.nullable for key in order):  # one comparison, which an index serves
        columns = tuple_(*(key.column for key in order))
        place = tuple_(*values, types=[key.column.type for key in order])
        return columns < place if directions.pop() else columns > place
    result: ColumnElement[bool] = false()
    for key, value in reversed(list(zip(order, values, strict=True))):
        result = or_(_behind(key, value), and_(_same(key, value), result))
    return result


def _behind(key: Key, value: Value) -> ColumnElement[bool]:
    if value is None:
        return false()
    further = key.column < value if key.sort.descending else key.column > value
    return or_(further, key.column.is_(None)) if key.nullable else further


def _same(key: Key, value: Value) -> ColumnElement[bool]:
    return key.column.is_(None) if value is None else key.column == value


def _absent(column: ColumnElement[Any]) -> ColumnElement[int]:
    return case((column.is_(None), 1), else_=0)
