"""Rules of fields that lists are filtered and sorted by, and of those that traces show."""

import re
from collections.abc import Iterator

from protobuf import (
    DescField,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    ScalarType,
)

from interlock.contract.declared import Declared, DeclaredField
from interlock.contract.mistakes import Mistake

ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\Z")
COMPARABLE = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Timestamp", "Duration", "BoolValue", "BytesValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value",
        "StringValue", "UInt32Value", "UInt64Value",
    )
)  # fmt: skip
"""Messages that stand for one value."""


def field_mistakes(declared: Declared) -> Iterator[Mistake]:
    """Yield the fields that are filterable or sortable and hold no single value, and wrong attributes of traces."""
    for each in declared.fields:
        if each.options.trace_attribute:
            yield from _attribute_mistakes(each)
        kind = _many(each.field)
        if not kind:
            continue
        for name in ("filterable", "sortable"):
            if getattr(each.options, name):
                message = f"{each.field.parent.name}.{each.field.name} is {name}, but it is {kind}"
                yield Mistake(each.where(name), message, f"drop `{name}`, or mark a field that holds one value")


def _attribute_mistakes(declared: DeclaredField) -> Iterator[Mistake]:
    field, name, where = declared.field, declared.options.trace_attribute, declared.where("trace_attribute")
    shown = f"{field.parent.name}.{field.name}"
    if not ATTRIBUTE.match(name):
        remedy = "write lower-case words with dots between them, such as `order.id`"
        yield Mistake(where, f"{shown} is shown in traces as {name!r}, which is no attribute's name", remedy)
    if declared.options.sensitive:
        yield Mistake(where, f"{shown} is sensitive, and shown in traces", "drop one of the two")
    match field.value:
        case DescFieldValueMessage(message=message):
            remedy = f"mark the fields of {message.name} that tell something"
            yield Mistake(where, f"{shown} is shown in traces, but it is a message ({message.name})", remedy)
        case DescFieldValueScalar(scalar=ScalarType.BYTES):
            yield Mistake(where, f"{shown} is shown in traces, but it is bytes", "mark a field that people can read")


def _many(field: DescField) -> str:
    match field.value:
        case DescFieldValueList():
            return "repeated"
        case DescFieldValueMap():
            return "a map"
        case DescFieldValueMessage(message=message) if message.type_name not in COMPARABLE:
            return f"a message ({message.name})"
    return ""
