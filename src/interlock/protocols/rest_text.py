"""Field values written as text, in a path or a query: scalars, enums, and the messages whose JSON is a scalar."""

import json
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any, TypeAlias

from protobuf import DescEnum, DescField, DescMessage, ScalarType

from interlock.contract.rest_shape import FIELD_MASK, WELL_KNOWN, element_of
from interlock.protocols.json_mistakes import expected

Parse: TypeAlias = Callable[[str], Any]
"""Text to value; ValueError if it is none."""

_INTEGER = re.compile(r"-?[0-9]{1,20}\Z", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z", re.ASCII)
_SPECIAL = ("NaN", "Infinity", "-Infinity")
_FLOAT_MAX = 3.4028234663852886e38
_SIGNED_32 = (ScalarType.INT32, ScalarType.SINT32, ScalarType.SFIXED32)
_SIGNED_64 = (ScalarType.INT64, ScalarType.SINT64, ScalarType.SFIXED64)
_UNSIGNED_32 = (ScalarType.UINT32, ScalarType.FIXED32)
_UNSIGNED_64 = (ScalarType.UINT64, ScalarType.FIXED64)
_TEXTUAL = frozenset(WELL_KNOWN + name for name in ("Timestamp", "Duration", "StringValue", "BytesValue"))
_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")


def parser(field: DescField) -> Parse | None:
    """Return what reads one value of the field from text; None for plain text, which is its own value."""
    element = element_of(field)
    if isinstance(element, DescEnum):
        return _enum(element)
    if isinstance(element, DescMessage):
        return _field_mask(element) if element.type_name == FIELD_MASK else _message(element)
    return _SCALARS[element]


def mistake(field: DescField) -> str:
    """Say what a value of the field must look like."""
    element = element_of(field)
    if isinstance(element, DescMessage) and element.type_name == FIELD_MASK:
        return "must be paths of fields, separated by commas"
    return f"must be {expected(element)}"


def snake_path(path: str) -> str:
    """Write a path of a field mask with the proto's names: `shippingAddress.city` is `shipping_address.city`."""
    return _CAMEL.sub(lambda found: "_" + found[1].lower(), path)


def _enum(desc: DescEnum) -> Parse:
    numbers = {each.name: each.number for each in desc.values}
    enum_type = desc.type

    def parse(text: str) -> Any:
        number = numbers.get(text)
        if number is None:
            if not _INTEGER.match(text) or not -(2**31) <= int(text) < 2**31:
                raise ValueError(text)
            number = int(text)
        return enum_type(number)

    return parse


def _field_mask(desc: DescMessage) -> Parse:
    mask_type: Any = desc.type

    def parse(text: str) -> Any:
        paths = [snake_path(each) for each in text.split(",")] if text else []
        if not all(paths):
            raise ValueError(text)
        return mask_type(paths=paths)

    return parse


def _message(desc: DescMessage) -> Parse:
    """Return the reader of a message whose JSON form is a scalar."""
    message_type = desc.type
    textual = desc.type_name in _TEXTUAL
    boolean = desc.type_name == WELL_KNOWN + "BoolValue"

    def parse(text: str) -> Any:
        if boolean:
            return message_type.from_json("true" if _bool(text) else "false")
        if not textual and text not in _SPECIAL and not _NUMBER.match(text):
            raise ValueError(text)
        return message_type.from_json(json.dumps(text))

    return parse


def _bool(text: str) -> bool:
    if text == "true":
        return True
    if text == "false":
        return False
    raise ValueError(text)


def _integer(low: int, high: int) -> Parse:
    def parse(text: str) -> int:
        if not _INTEGER.match(text):
            raise ValueError(text)
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def _double(text: str) -> float:
    if text not in _SPECIAL and not _NUMBER.match(text):
        raise ValueError(text)
    value = float(text)
    if text not in _SPECIAL and abs(value) == float("inf"):
        raise ValueError(text)
    return value


def _float(text: str) -> float:
    value = _double(text)
    if text not in _SPECIAL and abs(value) > _FLOAT_MAX:
        raise ValueError(text)
    return value


def _bytes(text: str) -> bytes:
    altchars = b"-_" if "-" in text or "_" in text else None
    return b64decode(text + "=" * (-len(text) % 4), altchars, validate=True)


_SCALARS: dict[Any, Parse | None] = {
    ScalarType.STRING: None,
    ScalarType.BYTES: _bytes,
    ScalarType.BOOL: _bool,
    ScalarType.FLOAT: _float,
    ScalarType.DOUBLE: _double,
    **dict.fromkeys(_SIGNED_32, _integer(-(2**31), 2**31 - 1)),
    **dict.fromkeys(_SIGNED_64, _integer(-(2**63), 2**63 - 1)),
    **dict.fromkeys(_UNSIGNED_32, _integer(0, 2**32 - 1)),
    **dict.fromkeys(_UNSIGNED_64, _integer(0, 2**64 - 1)),
}
