"""The fields that a list may be filtered and ordered by: those the contract declares `filterable` and `sortable`."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any

from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescMessage,
    ScalarType,
)

from interlock.contract.gen.interlock.v1.options_pb import ext_field

_DEPTH = 4
"""How deep below the item a field may stand."""

_FLOATS = frozenset((ScalarType.DOUBLE, ScalarType.FLOAT))


class Kind(Enum):
    """What a field holds, as far as comparing goes."""

    STRING = "a string"
    INTEGER = "an integer"
    FLOAT = "a number"
    BOOL = "true or false"
    ENUM = "one of its names"
    TIMESTAMP = "a time (2026-11-30T12:00:00Z)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One declared field by its path (`total.units`); `names` are an enum's, each with its number."""

    path: str
    kind: Kind
    filterable: bool
    sortable: bool
    names: tuple[tuple[str, int], ...] = ()

    def number(self, name: str) -> int | None:
        """Return the number of an enum's value by its name in the contract, with or without the enum's prefix."""
        wanted = name.upper()
        for each, number in self.names:
            if wanted in (each, each.removeprefix(_prefix(self.names))):
                return number
        return None

    def name(self, number: int) -> str:
        """Return the contract's name of an enum's number."""
        return next((each for each, value in self.names if value == number), str(number))


@dataclass(frozen=True, slots=True)
class Fields:
    """The declared fields of a list's item, by path."""

    by_path: dict[str, Field]

    def filterable(self, path: str) -> Field | None:
        """Return the field if it may stand in a filter."""
        found = self.by_path.get(path)
        return found if found is not None and found.filterable else None

    def sortable(self, path: str) -> Field | None:
        """Return the field if it may stand in an order."""
        found = self.by_path.get(path)
        return found if found is not None and found.sortable else None


def declared(item: DescMessage) -> Fields:
    """Return the fields of `item`, and of the messages it holds, that the contract lets callers filter or order by."""
    found: dict[str, Field] = {}
    _collect(item, "", 0, found)
    return Fields(found)


def hint(path: str, names: Iterable[str]) -> str:
    """Return what may stand there instead of `path`."""
    known = sorted(names)
    near = get_close_matches(path[:64], known, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are: {', '.join(known)}" if known else "; no field is declared for that"


def _collect(message: DescMessage, prefix: str, depth: int, found: dict[str, Field]) -> None:
    for field in message.fields:
        path = prefix + field.name
        options = field.proto.options
        rules = options[ext_field] if options is not None and ext_field in options else None
        filterable, sortable = bool(rules and rules.filterable), bool(rules and rules.sortable)
        kind, names = _kind(field)
        if kind is not None and (filterable or sortable):
            found[path] = Field(path=path, kind=kind, filterable=filterable, sortable=sortable, names=names)
        elif isinstance(field.value, DescFieldValueMessage) and kind is None and depth < _DEPTH:
            _collect(field.value.message, path + ".", depth + 1, found)


def _kind(field: DescField) -> tuple[Kind | None, tuple[tuple[str, int], ...]]:
    match field.value:
        case DescFieldValueEnum(enum=DescEnum() as enum):
            return Kind.ENUM, tuple((each.name, each.number) for each in enum.values)
        case DescFieldValueMessage(message=DescMessage(type_name="google.protobuf.Timestamp")):
            return Kind.TIMESTAMP, ()
        case DescFieldValueScalar(scalar=scalar):
            return _scalar(scalar), ()
        case DescFieldValueList():
            return None, ()
    return None, ()


def _scalar(scalar: Any) -> Kind | None:
    if scalar is ScalarType.STRING:
        return Kind.STRING
    if scalar is ScalarType.BOOL:
        return Kind.BOOL
    if scalar is ScalarType.BYTES:
        return None
    return Kind.FLOAT if scalar in _FLOATS else Kind.INTEGER


def _prefix(names: tuple[tuple[str, int], ...]) -> str:
    """Return what all names of an enum start with, up to an underscore (`ORDER_STATUS_`)."""
    first = names[0][0]
    prefix = first[: first.rfind("_") + 1]
    while prefix and not all(each.startswith(prefix) for each, _ in names):
        prefix = prefix[: prefix[:-1].rfind("_") + 1]
    return prefix
