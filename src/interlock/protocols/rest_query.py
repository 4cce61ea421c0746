"""Query parameters into the fields of a request that path and body leave free."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

from protobuf import DescField, DescFieldValueList, DescFieldValueMap, DescMessage, Message

from interlock.contract.model import HttpBinding, Operation
from interlock.contract.names import nearest
from interlock.contract.rest_shape import (
    bound_paths,
    fields_by_name,
    fits_query,
    is_repeated,
    plain_message_of,
    query_fields,
)
from interlock.errors import InvalidArgument, Violation
from interlock.protocols.json_mistakes import MAX_VIOLATIONS, shown
from interlock.protocols.rest_text import Parse, mistake, parser

_MAX_DEPTH = 10
_MAX_KNOWN = 1000


class FieldPath:
    """A field somewhere below a request, with what reads its values from text."""

    __slots__ = ("_attribute", "_parse", "fields", "leaf", "name", "oneofs", "repeated")

    def __init__(self, fields: tuple[DescField, ...]) -> None:
        self.fields = fields
        self.leaf = leaf = fields[-1]
        self.name = ".".join(each.name for each in fields)
        self.repeated = is_repeated(leaf)
        self._parse: Parse | None = parser(leaf)
        self.oneofs = tuple(_oneofs(fields))
        self._attribute = leaf.local_name if len(fields) == 1 and not self.oneofs else ""

    def value(self, text: str) -> Any:
        """Read one value; InvalidArgument names the field."""
        if self._parse is None:
            return text
        try:
            return self._parse(text)
        except Exception as wrong:
            violation = Violation(field=self.name, description=mistake(self.leaf))
            raise InvalidArgument("the request does not fit its contract", violations=[violation]) from wrong

    def put(self, request: Message[Any], value: Any) -> None:
        """Set the field, making the messages on its way."""
        if self._attribute:
            setattr(request, self._attribute, value)
        else:
            self.holder(request)[self.leaf] = value

    def holder(self, request: Message[Any]) -> Message[Any]:
        """Return the message that the field stands in, making it if need be."""
        for field in self.fields[:-1]:
            inner = request[field]
            if inner is None or field not in request:
                request[field] = inner = field.value.message.type()  # type: ignore[union-attr]  # a plain message
            request = inner
        return request

    def given(self, request: Message[Any]) -> Any:
        """Return the field's value where it is set, else None."""
        for field in self.fields[:-1]:
            if field not in request:
                return None
            request = request[field]
        return request[self.leaf] if self.leaf in request else None  # noqa: SIM401 - a message has no get


class QueryBinder:
    """Reads the query of one route."""

    def __init__(self, operation: Operation, binding: HttpBinding, max_parameters: int) -> None:
        self._request = operation.request_type.desc()
        self._bound = bound_paths(operation, binding)
        self._closed = binding.body == "*"
        self._max = max_parameters
        self._known = {each.name: FieldPath(each.fields) for each in query_fields(operation, binding)}
        self._names = tuple(self._known)

    def bind(self, query: bytes, request: Message[Any]) -> frozenset[str]:
        """Set the fields that `query` names and return their names; InvalidArgument names each at fault."""
        if query.count(b"&") >= self._max:
            raise InvalidArgument(f"the query has more than {self._max} parameters")
        violations: list[Violation] = []
        seen: dict[str, str] = {}
        for part in query.split(b"&"):
            if not part:
                continue
            try:
                self._parameter(part, request, seen)
            except InvalidArgument as wrong:
                violations.extend(wrong.violations)
                if not wrong.violations or len(violations) >= MAX_VIOLATIONS:
                    raise
        if violations:
            raise InvalidArgument("the request does not fit its contract", violations=violations)
        return frozenset(seen)

    def _parameter(self, part: bytes, request: Message[Any], seen: dict[str, str]) -> None:
        key, _, raw = part.partition(b"=")
        name = _text(key)
        path = self._known.get(name) or self._find(name)
        for oneof, member in path.oneofs:
            if (other := seen.setdefault(oneof, member)) != member:
                raise _wrong(member, f"excludes {other}, which is given too")
        value = path.value(_text(raw))
        if path.repeated:
            path.holder(request)[path.leaf].append(value)
        elif path.name in seen:
            raise _wrong(path.name, "is given twice")
        else:
            path.put(request, value)
        seen[path.name] = path.name

    def _find(self, name: str) -> FieldPath:
        """Find a parameter written in another way (lowerCamelCase), or deep in a recursive message."""
        fields = self._resolve(name)
        path = FieldPath(fields)
        if self._closed or any(self._covers(path.name, bound) for bound in self._bound):
            raise _wrong(path.name, "is given by the body or the path, not by the query")
        if not fits_query(path.leaf):
            raise _wrong(path.name, "is a message or map, which a query parameter can't hold")
        if len(self._known) < _MAX_KNOWN:
            self._known[name] = path
        return path

    def _covers(self, name: str, bound: str) -> bool:
        return name == bound or name.startswith(f"{bound}.")

    def _resolve(self, name: str) -> tuple[DescField, ...]:
        fields: list[DescField] = []
        at: DescMessage | None = self._request
        for part in name.split(".", _MAX_DEPTH):
            field = fields_by_name(at).get(part) if at is not None else None
            if field is None:
                raise _wrong(shown(name), f"is unknown{nearest(name[:100], self._names)}")
            fields.append(field)
            at = plain_message_of(field)
        return tuple(fields)


def _oneofs(fields: tuple[DescField, ...]) -> Iterator[tuple[str, str]]:
    """Yield each oneof on the way, by a name that no field has, with its member that the way takes."""
    for size, field in enumerate(fields, 1):
        oneof = None if isinstance(field.value, DescFieldValueList | DescFieldValueMap) else field.value.oneof
        if oneof is not None:
            above = ".".join(each.name for each in fields[: size - 1])
            yield f"{above}|{oneof.name}", f"{above}.{field.name}".lstrip(".")


def _wrong(field: str, description: str) -> InvalidArgument:
    violation = Violation(field=field, description=description)
    return InvalidArgument("the request does not fit its contract", violations=[violation])


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
        return unquote_plus(text, errors="strict") if "%" in text or "+" in text else text
    except UnicodeDecodeError as wrong:
        raise InvalidArgument("the query is not UTF-8") from wrong
