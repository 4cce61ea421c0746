"""What a message says, as a hash: the same for equal messages, which their binary encoding need not be."""

import struct
from collections.abc import Collection
from hashlib import blake2b
from typing import Any

from protobuf import DescFieldValueMap, Message

_NAN = struct.pack(">d", float("nan"))


def fingerprint(message: Message[Any], *, without: Collection[str] = ()) -> bytes:
    """Return 32 bytes that differ for messages that differ, the fields named `without` left aside.

    Walks the set fields by number and a map's entries by key. Fields that this service's contract does not know, such
    as a newer client's, are not seen.
    """
    parts: list[bytes] = []
    _message(message, without, parts)
    return blake2b(b"".join(parts), digest_size=32).digest()


def _message(message: Message[Any], without: Collection[str], parts: list[bytes]) -> None:
    desc = message.desc()
    parts.append(b"{")
    for field in sorted(desc.fields, key=lambda each: each.number):
        if field.name in without or field not in message:
            continue
        value = message[field]
        parts.append(b"%d=" % field.number)
        if isinstance(field.value, DescFieldValueMap):
            entries = sorted((_alone(key), each) for key, each in _sortable(value))
            parts.append(b"<%d " % len(entries))
            for key, each in entries:
                parts.append(key)
                parts.append(each)
        else:
            _value(value, parts)
    parts.append(b"}")


def _sortable(entries: Any) -> list[tuple[Any, bytes]]:
    return [(key, _alone(value)) for key, value in entries.items()]


def _alone(value: Any) -> bytes:
    parts: list[bytes] = []
    _value(value, parts)
    return b"".join(parts)


def _value(value: Any, parts: list[bytes]) -> None:
    match value:
        case bool():
            parts.append(b"t" if value else b"f")
        case int():
            parts.append(b"i%d;" % int(value))
        case float():
            parts.append(b"d" + (struct.pack(">d", value) if value == value else _NAN))  # noqa: PLR0124 - NaN is not
        case str():
            data = value.encode("utf-8", "surrogatepass")
            parts.append(b"s%d:%b" % (len(data), data))
        case bytes():
            parts.append(b"b%d:%b" % (len(value), value))
        case Message():
            _message(value, (), parts)
        case _:  # a list
            parts.append(b"[%d " % len(value))
            for each in value:
                _value(each, parts)
