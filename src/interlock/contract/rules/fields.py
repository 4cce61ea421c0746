"""Rules of fields that lists are filtered and sorted by."""

from collections.abc import Iterator

from protobuf import DescField, DescFieldValueList, DescFieldValueMap, DescFieldValueMessage

from interlock.contract.declared import Declared
from interlock.contract.mistakes import Mistake

COMPARABLE = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Timestamp", "Duration", "BoolValue", "BytesValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value",
        "StringValue", "UInt32Value", "UInt64Value",
    )
)  # fmt: skip
"""Messages that stand for one value."""


def field_mistakes(declared: Declared) -> Iterator[Mistake]:
    """Yield the fields that are filterable or sortable and hold no single value."""
    for each in declared.fields:
        kind = _many(each.field)
        if not kind:
            continue
        for name in ("filterable", "sortable"):
            if getattr(each.options, name):
                message = f"{each.field.parent.name}.{each.field.name} is {name}, but it is {kind}"
                yield Mistake(each.where(name), message, f"drop `{name}`, or mark a field that holds one value")


def _many(field: DescField) -> str:
    match field.value:
        case DescFieldValueList():
            return "repeated"
        case DescFieldValueMap():
            return "a map"
        case DescFieldValueMessage(message=message) if message.type_name not in COMPARABLE:
            return f"a message ({message.name})"
    return ""
