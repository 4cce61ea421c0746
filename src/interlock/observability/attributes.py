"""Attributes of spans from the fields that the contract chose: `(interlock.v1.field).trace_attribute`."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from protobuf import (
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescMessage,
    Message,
)

from interlock.contract.gen.interlock.v1.options_pb import ext_field

Value: TypeAlias = str | int | float | bool
Extract: TypeAlias = Callable[[Message[Any]], dict[str, Value]]

DEEPEST = 4
"""Messages within messages that are looked into."""
LONGEST = 256
"""Characters of a text that are kept."""

_Path: TypeAlias = tuple[tuple[Any, ...], str]


def server(target: str) -> dict[str, Value] | None:
    """Return the attributes of a server that is called at `target`: `host:port` or a URL; None for what is neither."""
    try:
        parts = urlsplit(target if "://" in target else f"//{target}")
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    if not host or not port:
        return None
    return {"server.address": host, "server.port": port}


def extractor(message_type: type[Message[Any]]) -> Extract | None:
    """Return what reads the chosen fields of a message, those of messages in it too; None where none is chosen.

    A repeated field or a map gives its number of elements. What is not set is left out.
    """
    if message_type not in _known:
        paths = tuple(_paths(message_type.desc(), (), ()))
        _known[message_type] = _extract(paths) if paths else None
    return _known[message_type]


_known: dict[Any, Extract | None] = {}  # a type of message is there as long as the process is


def _extract(paths: tuple[_Path, ...]) -> Extract:
    def extract(message: Message[Any]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for fields, name in paths:
            value = _at(message, fields)
            if value is not None and name not in found:
                found[name] = value
        return found

    return extract


def _paths(desc: DescMessage, above: tuple[Any, ...], types: tuple[str, ...]) -> Iterator[_Path]:
    inner: list[tuple[Any, DescMessage]] = []
    for field in desc.fields:
        options = field.proto.options
        own = options[ext_field] if options is not None and ext_field in options else None
        if own is not None and own.trace_attribute and not own.sensitive:
            yield (*above, field), own.trace_attribute
        if isinstance(field.value, DescFieldValueMessage):
            inner.append((field, field.value.message))
    if len(types) < DEEPEST:
        for field, message in inner:  # behind the message's own, which win over those of its parts
            if message.type_name not in types and not message.type_name.startswith("google.protobuf."):
                yield from _paths(message, (*above, field), (*types, message.type_name))


def _at(message: Message[Any], fields: tuple[Any, ...]) -> Value | None:
    value: Any = message
    for field in fields:
        if field not in value:
            return None
        value = value[field]
    kind = fields[-1].value
    if isinstance(kind, DescFieldValueList | DescFieldValueMap):
        return len(value)
    if isinstance(kind, DescFieldValueEnum):
        return getattr(value, "name", None) or int(value)
    return value[:LONGEST] if isinstance(value, str) else value
