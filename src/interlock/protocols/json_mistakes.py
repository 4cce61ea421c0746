"""What is wrong with JSON that did not decode: the slow second walk, taken only when the fast one failed."""

import json
from collections.abc import Iterator
from typing import Any

from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueList,
    DescFieldValueMap,
    DescMessage,
    Message,
    Registry,
    ScalarType,
)

from interlock.contract.names import nearest
from interlock.contract.rest_shape import WELL_KNOWN, element_of, fields_by_name
from interlock.errors import InvalidArgument, Violation

MAX_VIOLATIONS = 32
_MAX_VALUES = 20_000
_SHOWN = 100
_INTEGERS = {
    ScalarType.INT32: "an integer of 32 bits", ScalarType.SINT32: "an integer of 32 bits",
    ScalarType.SFIXED32: "an integer of 32 bits", ScalarType.UINT32: "an integer of 32 bits, not negative",
    ScalarType.FIXED32: "an integer of 32 bits, not negative", ScalarType.INT64: "an integer of 64 bits",
    ScalarType.SINT64: "an integer of 64 bits", ScalarType.SFIXED64: "an integer of 64 bits",
    ScalarType.UINT64: "an integer of 64 bits, not negative", ScalarType.FIXED64: "an integer of 64 bits, not negative",
}  # fmt: skip
_SCALARS = {
    **_INTEGERS,
    ScalarType.BOOL: "true or false",
    ScalarType.STRING: "a string",
    ScalarType.BYTES: "a string in base64",
    ScalarType.FLOAT: 'a number, or "NaN", "Infinity", "-Infinity"',
    ScalarType.DOUBLE: 'a number, or "NaN", "Infinity", "-Infinity"',
}
_MESSAGES = {
    "Timestamp": "a time of RFC 3339 (2026-01-31T12:00:00Z)",
    "Duration": 'seconds with an s behind them ("1.5s")',
    "FieldMask": "paths in lowerCamelCase, separated by commas",
    "BoolValue": "true or false",
    "StringValue": "a string",
    "BytesValue": "a string in base64",
    "DoubleValue": "a number",
    "FloatValue": "a number",
    "Int32Value": "an integer of 32 bits",
    "UInt32Value": "an integer of 32 bits, not negative",
    "Int64Value": "an integer of 64 bits",
    "UInt64Value": "an integer of 64 bits, not negative",
    "Struct": "an object",
    "ListValue": "a list",
    "Any": 'an object with an "@type" that the service knows',
}


def shown(text: str, size: int = _SHOWN) -> str:
    """Return input as an error may repeat it: shortened, without control characters."""
    cut = text if len(text) <= size else text[: size - 1] + "…"
    return "".join(each if each.isprintable() else "?" for each in cut)


def expected(element: Any) -> str:
    """Say in words what a value of that scalar type, enum or message looks like."""
    if isinstance(element, DescEnum):
        names = [each.name for each in element.values]
        return "one of " + ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    if isinstance(element, DescMessage):
        return _MESSAGES.get(element.type_name.removeprefix(WELL_KNOWN), "an object")
    return _SCALARS[element]


def explain(
    message_type: "type[Message[Any]]", data: bytes, root: str, broken: Exception, registry: Registry | None
) -> InvalidArgument:
    """Return the error for JSON that failed to decode as `message_type` with `broken`.

    `data` must be known to be nested no deeper than the stack bears.
    """
    try:
        value = json.loads(data.decode(), parse_constant=_no_constant)
    except UnicodeDecodeError as wrong:
        return InvalidArgument(f"the JSON is not UTF-8 at byte {wrong.start}")
    except (ValueError, RecursionError) as wrong:
        return InvalidArgument(f"this is no valid JSON: {shown(str(wrong))}")
    violations: list[Violation] = []
    for each in _Walk(registry).message(message_type.desc(), value, root):
        violations.append(each)
        if len(violations) == MAX_VIOLATIONS:
            break
    if not violations:  # more values than the walk may look at, or a mistake that only the whole shows
        return InvalidArgument(f"the JSON does not fit {message_type.desc().type_name}: {shown(str(broken))}")
    return InvalidArgument("the request does not fit its contract", violations=violations)


def _no_constant(name: str) -> None:
    raise ValueError(f'{name} must be written as a string, "{name}"')


class _Walk:
    """Asks the real decoder about ever smaller parts, so that both always agree on what is wrong."""

    def __init__(self, registry: Registry | None) -> None:
        self._registry = registry
        self._left = _MAX_VALUES

    def message(self, desc: DescMessage, value: Any, path: str) -> Iterator[Violation]:
        if desc.type_name.startswith(WELL_KNOWN) or not isinstance(value, dict):
            if not self._decodes(desc, value):
                yield Violation(field=path, description=f"must be {expected(desc)}")
            return
        known = fields_by_name(desc)
        for key, inner in value.items():
            field = known.get(key)
            if field is None:
                yield _unknown(key, _join(path, shown(key)), known)
            elif not self._decodes(desc, {key: inner}):
                yield from self._field(field, key, inner, _join(path, field.name))

    def _field(self, field: DescField, key: str, value: Any, path: str) -> Iterator[Violation]:
        element = element_of(field)
        if isinstance(field.value, DescFieldValueList):
            if not isinstance(value, list):
                yield Violation(field=path, description="must be a list")
                return
            for index, inner in enumerate(value):
                if not self._decodes(field.parent, {key: [inner]}):
                    yield from self._element(element, inner, f"{path}[{index}]")
        elif isinstance(field.value, DescFieldValueMap):
            if not isinstance(value, dict):
                yield Violation(field=path, description="must be an object")
                return
            for name, inner in value.items():
                yield from self._entry(field, key, name, inner, path)
        elif isinstance(element, DescMessage):
            yield from self.message(element, value, path)
        else:
            yield Violation(field=path, description=f"must be {expected(element)}")

    def _entry(self, field: DescField, key: str, name: str, value: Any, path: str) -> Iterator[Violation]:
        assert isinstance(field.value, DescFieldValueMap)  # noqa: S101 - told by the caller
        path = f'{path}["{shown(name)}"]'
        if not self._decodes(field.parent, {key: {name: _sample(field.value.value)}}):
            yield Violation(field=path, description=f"the key must be {expected(field.value.key)}")
        elif not self._decodes(field.parent, {key: {name: value}}):
            yield from self._element(field.value.value, value, path)

    def _element(self, element: Any, value: Any, path: str) -> Iterator[Violation]:
        if isinstance(element, DescMessage) and value is not None:
            yield from self.message(element, value, path)
        else:
            yield Violation(field=path, description=f"must be {expected(element)}")

    def _decodes(self, desc: DescMessage, value: Any) -> bool:
        self._left -= 1
        if self._left < 0:
            return True
        try:
            desc.type.from_json(json.dumps(value), registry=self._registry)
        except Exception:  # whatever it raises, the value is the cause
            return False
        return True


def _sample(element: Any) -> Any:
    """Return a value that is right for a map's element, so that only its key can be wrong."""
    if isinstance(element, DescEnum):
        return element.values[0].number
    if isinstance(element, DescMessage):
        name = element.type_name.removeprefix(WELL_KNOWN)
        return None if name == "Value" else {} if name == "Any" else json.loads(element.type().to_json())
    return {ScalarType.BOOL: False, ScalarType.STRING: "", ScalarType.BYTES: ""}.get(element, 0)


def _unknown(key: str, path: str, known: Any) -> Violation:
    return Violation(field=path, description=f"is unknown{nearest(key[:_SHOWN], known)}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
