"""Filters of lists: AIP-160's comparisons with AND, OR, NOT and parentheses, bound to the declared fields.

As AIP-160 has it, OR binds tighter than AND: `a = 1 AND b = 2 OR b = 3` means `a = 1 AND (b = 2 OR b = 3)`; `-` before
a term is NOT. `field:*` holds where the field has a value; `field:value` where a text contains the value, letter for
letter, and is `=` for other kinds. Not offered: bare words, functions and wildcards within values. Time and depth are
bounded whatever the text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import TypeAlias

from interlock.errors import InvalidArgument, Violation
from interlock.listing.fields import Field, Fields, Kind, hint

LONGEST = 10_240
"""Bytes of the longest filter."""
DEEPEST = 32
"""How deep parentheses and NOT may nest."""
MOST = 100
"""How many comparisons a filter may hold."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field compared with a value: text, a number, truth, an enum's number, or a time in UTC.

    The operator `:` says that a text contains the value, and without one (None) that the field has any.
    """

    field: Field
    operator: str
    value: str | int | float | bool | datetime | None


@dataclass(frozen=True, slots=True)
class And:
    """All of the terms hold."""

    terms: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of the terms holds."""

    terms: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """The term does not hold."""

    term: "Filter"


Filter: TypeAlias = Comparison | And | Or | Not

_SPACE = re.compile(r"\s*")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_OPERATOR = re.compile(r"<=|>=|!=|=|<|>|:")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
_BARE = re.compile(r"[^\s()<>=!\"',]+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=", ":")
_ANY = re.compile(r"\*(?![^\s()])")


def parse_filter(text: str, fields: Fields) -> Filter | None:
    """Return the filter, None for an empty one; InvalidArgument says what is wrong and at which character, from 1."""
    if len(text.encode("utf-8", "replace")) > LONGEST:
        raise _wrong(f"longer than {LONGEST} bytes")
    parser = _Parser(text, fields)
    if parser.at_end():
        return None
    found = parser.expression(0)
    if not parser.at_end():
        raise parser.wrong("expected AND, OR or the end")
    return found


class _Parser:
    def __init__(self, text: str, fields: Fields) -> None:
        self._text = text
        self._fields = fields
        self._at = 0
        self._comparisons = 0

    def at_end(self) -> bool:
        self._skip()
        return self._at == len(self._text)

    def wrong(self, what: str, at: int | None = None) -> InvalidArgument:
        return _wrong(f"at {(self._at if at is None else at) + 1}: {what}")

    def expression(self, depth: int) -> Filter:
        terms = self._joined("AND", lambda: self._factor(depth))
        return terms[0] if len(terms) == 1 else And(terms)

    def _factor(self, depth: int) -> Filter:
        terms = self._joined("OR", lambda: self._term(depth))
        return terms[0] if len(terms) == 1 else Or(terms)

    def _joined(self, word: str, part: Callable[[], Filter]) -> tuple[Filter, ...]:
        terms = [part()]
        while self._word(word):
            terms.append(part())
        return tuple(terms)

    def _term(self, depth: int) -> Filter:
        if depth > DEEPEST:
            raise self.wrong(f"nested deeper than {DEEPEST}")
        if self._word("NOT") or self._take("-"):
            return Not(self._term(depth + 1))
        if self._take("("):
            inner = self.expression(depth + 1)
            if not self._take(")"):
                raise self.wrong("expected )")
            return inner
        return self._comparison()

    def _comparison(self) -> Comparison:
        self._skip()
        start = self._at
        path = self._match(_PATH)
        if path is None or path in ("AND", "OR", "NOT"):
            raise self.wrong("expected a field", start)
        field = self._fields.filterable(path)
        if field is None:
            allowed = [name for name, each in self._fields.by_path.items() if each.filterable]
            raise self.wrong(f"can't filter by {path[:64]!r}{hint(path, allowed)}", start)
        self._skip()
        operator_at = self._at
        operator = self._match(_OPERATOR)
        if operator not in _OPERATORS:
            raise self.wrong(f"expected one of {' '.join(_OPERATORS)}", operator_at)
        if field.kind in (Kind.BOOL, Kind.ENUM) and operator not in ("=", "!=", ":"):
            raise self.wrong(f"{path} takes =, != and : only", operator_at)
        self._comparisons += 1
        if self._comparisons > MOST:
            raise self.wrong(f"more than {MOST} comparisons", start)
        self._skip()
        if operator == ":":
            if self._match(_ANY) is not None:
                return Comparison(field, ":", None)
            operator = ":" if field.kind is Kind.STRING else "="
        value_at = self._at
        value = _bound(field, self._value())
        if value is None:
            raise self.wrong(f"{path} is compared with {_expected(field)}", value_at)
        return Comparison(field, operator, value)

    def _value(self) -> str:
        quoted = _QUOTED.match(self._text, self._at)
        if quoted is not None:
            self._at = quoted.end()
            inside: str = quoted[0][1:-1]
            return _ESCAPED.sub(r"\1", inside)
        bare = self._match(_BARE)
        if bare is None:
            unfinished = self._text.startswith(("'", '"'), self._at)
            raise self.wrong("a string that does not end" if unfinished else "expected a value")
        return bare

    def _word(self, word: str) -> bool:
        self._skip()
        end = self._at + len(word)
        following = self._text[end : end + 1]
        if not self._text.startswith(word, self._at) or following.isalnum() or (following and following in "_."):
            return False
        self._at = end
        return True

    def _take(self, character: str) -> bool:
        self._skip()
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        return True

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at


def _bound(field: Field, text: str) -> str | int | float | bool | datetime | None:
    """Return what `text` means for `field`, None if it means nothing there."""
    match field.kind:
        case Kind.STRING:
            # PostgreSQL's text holds no NUL, and no half of a surrogate pair
            return text if "\0" not in text and _encodable(text) else None
        case Kind.INTEGER:
            number = int(text) if _INTEGER.fullmatch(text) else None
            return number if number is not None and -(1 << 63) <= number < 1 << 63 else None
        case Kind.FLOAT:
            value = float(text) if _NUMBER.fullmatch(text) else None
            return value if value is not None and isfinite(value) else None
        case Kind.BOOL:
            return {"true": True, "false": False}.get(text)
        case Kind.ENUM:
            return field.number(text)
        case Kind.TIMESTAMP:
            return _time(text)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _time(text: str) -> datetime | None:
    """Return a time of RFC 3339, which says its offset; a date alone is its midnight in UTC."""
    try:
        read = datetime.fromisoformat(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
        return None if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _expected(field: Field) -> str:
    if field.kind is Kind.ENUM:
        return "one of " + ", ".join(name for name, _ in field.names[:16])
    return str(field.kind.value)


def _wrong(what: str) -> InvalidArgument:
    return InvalidArgument("invalid filter", violations=[Violation(field="filter", description=what)])
