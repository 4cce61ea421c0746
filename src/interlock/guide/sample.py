"""A plausible JSON value for a message, in REST's form: from the contract's examples, rules and types."""

import json
import re
from typing import Any, cast

from protobuf import DescEnum, DescField, DescFieldValueList, DescFieldValueMap, DescMessage, DescOneof, ScalarType

from interlock.contract.gen.interlock.v1.options_pb import ext_field
from interlock.contract.rest_shape import WELL_KNOWN, element_of, is_output_only
from interlock.contract.validation_schema import Schema, keywords, rules_of

_WELL_KNOWN: dict[str, Any] = {
    "Timestamp": "2026-01-31T12:00:00Z",
    "Duration": "1.500s",
    "FieldMask": "name",
    "StringValue": "text",
    "BytesValue": "",
    "BoolValue": True,
    "Value": None,
    "ListValue": [],
}
_LONGS = frozenset(
    (ScalarType.INT64, ScalarType.UINT64, ScalarType.SINT64, ScalarType.FIXED64, ScalarType.SFIXED64)
)  # proto JSON writes them as texts
_FORMATS = {
    "email": "ada@example.com",
    "uuid": "6f1c2a34-5b6d-4e7f-8091-a2b3c4d5e6f7",
    "uri": "https://example.com/",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
_PIECE = re.compile(r"\[(\w)[^\]]*\](?:\{(\d+)[^}]*\}|[+*?])?|([\w:/ -])")
_LEFT_OUT = frozenset(("etag", "page_token", "filter", "order_by"))
"""Fields of a request that mean something only beside an earlier reply, or ask for less than all."""


def sample(message: DescMessage, *, request: bool = False, above: frozenset[str] = frozenset()) -> Any:
    """Return a value for `message`; one of each oneof, and of a request nothing that only the service sets."""
    if message.type_name.startswith(WELL_KNOWN):
        return _WELL_KNOWN.get(message.type_name.removeprefix(WELL_KNOWN), {})
    inside = above | {message.type_name}
    found = {}
    for member in message.members:
        field = member.fields[0] if isinstance(member, DescOneof) else member
        if request and (is_output_only(field) or field.name in _LEFT_OUT):
            continue
        element = element_of(field)
        if isinstance(element, DescMessage) and element.type_name in inside:
            continue
        found[field.name] = _field(field, request, inside)
    return found


def _field(field: DescField, request: bool, above: frozenset[str]) -> Any:
    options = field.proto.options
    if options is not None and ext_field in options and (example := options[ext_field].example):
        return _json_or_text(example, element_of(field))
    rules = rules_of(field)
    known = {} if rules is None else keywords(rules)
    if isinstance(field.value, DescFieldValueList):
        return [_element(field, known.get("items", {}), request, above)]
    if isinstance(field.value, DescFieldValueMap):
        key = "key" if field.value.key is ScalarType.STRING else "1"
        return {key: _element(field, known.get("additionalProperties", {}), request, above)}
    return _element(field, known, request, above)


def _element(field: DescField, known: Schema, request: bool, above: frozenset[str]) -> Any:
    element = element_of(field)
    if isinstance(element, DescMessage):
        return sample(element, request=request, above=above)
    if isinstance(element, DescEnum):
        return element.values[min(1, len(element.values) - 1)].name
    if "const" in known or known.get("enum"):
        return known.get("const", known.get("enum", [None])[0])
    return _scalar(element, field.name, known)


def _scalar(kind: object, name: str, known: Schema) -> Any:
    if kind is ScalarType.STRING:
        return _text(name, known)
    if kind is ScalarType.BYTES:
        return "aW50ZXJsb2Nr"
    if kind is ScalarType.BOOL:
        return True
    number = known.get("minimum", known.get("exclusiveMinimum", 0) + 1)
    return str(number) if kind in _LONGS else number


def _text(name: str, known: Schema) -> str:
    if "pattern" in known and (made := _matching(known["pattern"])):
        return made
    text = _FORMATS.get(known.get("format", ""), name)
    return text.ljust(known.get("minLength", 0), "x")[: known.get("maxLength")]


def _matching(pattern: str) -> str:
    """Return a text that matches a simple pattern (`^[A-Z]{3}$`), else an empty one."""
    pieces = _PIECE.findall(pattern.strip("^$"))
    made = "".join(first * int(times or 1) or literal for first, times, literal in pieces)
    return made if re.search(pattern, made) else ""


def _json_or_text(example: str, element: object) -> Any:
    if element is ScalarType.STRING:
        return example
    try:
        return cast("Any", json.loads(example))
    except ValueError:
        return example
