"""What the JSON decoder lets pass and proto JSON does not: enum numbers beyond 32 bits, two members of one oneof.

The first can't be encoded again, of the second one would be lost. A look at the bytes tells whether it may be so.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from protobuf import DescEnum, DescField, DescFieldValueList, DescFieldValueMap, DescMessage, Message

from interlock.contract.rest_shape import WELL_KNOWN, element_of, fields_by_name
from interlock.errors import InvalidArgument, Violation
from interlock.protocols.json_mistakes import MAX_VIOLATIONS, expected, shown

_LONG_NUMBER = re.compile(rb"\d{10}")
_INT32 = range(-(1 << 31), 1 << 31)


def check_overlooked(message_type: "type[Message[Any]]", data: bytes, root: str = "") -> None:
    """Refuse JSON that was decoded as `message_type` and should not have been; InvalidArgument names the fields."""
    has_enum, oneofs = _suspects(message_type.desc())
    if not (has_enum and _LONG_NUMBER.search(data)) and not any(_may_be_twice(each, data) for each in oneofs):
        return
    violations: list[Violation] = []
    for each in _overlooked(message_type.desc(), json.loads(data), root):
        violations.append(each)
        if len(violations) == MAX_VIOLATIONS:
            break
    if violations:
        raise InvalidArgument("the request does not fit its contract", violations=violations)


def reachable(message: DescMessage) -> set[DescMessage]:
    """Return the message types that can stand in one, itself included."""
    seen: set[DescMessage] = set()
    waiting = [message]
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            waiting.extend(element for field in each.fields if isinstance(element := element_of(field), DescMessage))
    return seen


@cache
def _suspects(message: DescMessage) -> tuple[bool, tuple[tuple[bytes, ...], ...]]:
    """Tell whether an enum can stand in a message, and the names of the members of each oneof."""
    messages = [each for each in reachable(message) if not each.type_name.startswith(WELL_KNOWN)]
    has_enum = any(isinstance(element_of(field), DescEnum) for each in messages for field in each.fields)
    oneofs = [oneof for each in messages for oneof in each.oneofs if len(oneof.fields) > 1]
    return has_enum, tuple(
        tuple(f'"{name}"'.encode() for field in oneof.fields for name in {field.name, field.json_name})
        for oneof in oneofs
    )


def _may_be_twice(names: tuple[bytes, ...], data: bytes) -> bool:
    return b"\\u" in data or sum(name in data for name in names) > 1


def _overlooked(desc: DescMessage, value: Any, path: str) -> Iterator[Violation]:
    if not isinstance(value, dict) or desc.type_name.startswith(WELL_KNOWN):
        return
    known = fields_by_name(desc)
    given: dict[str, DescField] = {}
    for key, inner in value.items():
        field = known.get(key)
        if field is None:
            continue
        here = f"{path}.{field.name}" if path else field.name
        oneof = getattr(field.value, "oneof", None)  # lists and maps are in none
        if oneof is not None and inner is not None:
            first = given.setdefault(oneof.name, field)
            if first is not field:
                yield Violation(field=here, description=f"can't be set beside {first.name}: they are one choice")
        yield from _in_field(field, inner, here)


def _in_field(field: DescField, value: Any, path: str) -> Iterator[Violation]:
    if isinstance(field.value, DescFieldValueList) and isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _in_element(element_of(field), inner, f"{path}[{index}]")
    elif isinstance(field.value, DescFieldValueMap) and isinstance(value, dict):
        for name, inner in value.items():
            yield from _in_element(element_of(field), inner, f'{path}["{shown(name)}"]')
    else:
        yield from _in_element(element_of(field), value, path)


def _in_element(element: Any, value: Any, path: str) -> Iterator[Violation]:
    if isinstance(element, DescMessage):
        yield from _overlooked(element, value, path)
    elif isinstance(element, DescEnum) and isinstance(value, int) and value not in _INT32:
        yield Violation(field=path, description=f"must be {expected(element)}")
