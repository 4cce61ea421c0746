"""A filter as SQL. A field without a value differs from every value and is neither below nor above one."""

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Enum, Integer, Numeric, String, and_, func, not_, or_

from interlock.listing.fields import Field, Kind
from interlock.listing.filters import And, Comparison, Filter, Not, Or

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def predicate(wanted: Filter, columns: Mapping[str, ColumnElement[Any]]) -> ColumnElement[bool]:
    """Return the WHERE of `wanted`, true or false for every row and never null."""
    match wanted:
        case And(terms):
            return and_(*(predicate(each, columns) for each in terms))
        case Or(terms):
            return or_(*(predicate(each, columns) for each in terms))
        case Not(term):
            return not_(predicate(term, columns))
        case Comparison():
            return _comparison(wanted, columns[wanted.field.path])


def _comparison(wanted: Comparison, column: ColumnElement[Any]) -> ColumnElement[bool]:
    if wanted.value is None:
        return column.is_not(None)
    if wanted.operator == ":":  # not LIKE, which knows wildcards, and on SQLite no case
        contained = column != func.replace(column, wanted.value, "") if wanted.value else column.is_not(None)
        return and_(column.is_not(None), contained)
    result: ColumnElement[bool] = _OPERATORS[wanted.operator](column, stored(wanted.field, wanted.value, column))
    if not getattr(column, "nullable", True):
        return result
    return or_(column.is_(None), result) if wanted.operator == "!=" else and_(column.is_not(None), result)


def stored(field: Field, value: Any, column: ColumnElement[Any]) -> Any:
    """Return `value` as the column's type holds it.

    An enum: its number, or its name in the contract in a column of text. A time: a datetime (in UTC where the column
    has no zone), in an integer column nanoseconds since 1970, in a float's seconds.
    """
    kind = column.type
    if field.kind is Kind.ENUM and isinstance(kind, String) and not isinstance(kind, Enum):
        return field.name(value)
    if isinstance(value, datetime):
        if isinstance(kind, DateTime):
            return value if kind.timezone else value.replace(tzinfo=None)
        if isinstance(kind, Integer):
            return int(value.timestamp()) * 1_000_000_000 + value.microsecond * 1000
        if isinstance(kind, Numeric):
            return value.timestamp()
    return value
