"""Proto JSON in and out, safe for input that nobody vouches for: bounded in depth, with the path of what is wrong."""

import json
from array import array
from itertools import accumulate
from typing import Any, TypeVar

from protobuf import DescMessage, Message, Registry

from interlock.contract.rest_shape import WELL_KNOWN
from interlock.errors import InvalidArgument
from interlock.protocols.json_mistakes import explain
from interlock.protocols.json_overlooked import check_overlooked, reachable

M = TypeVar("M", bound="Message[Any]")

_QUOTES = bytes.maketrans(b"{}", b"[]")
_NOT_QUOTES = bytes(each for each in range(256) if each not in b'"[]{}')
_STEPS = bytes(255 if each == ord("]") else 1 for each in range(256))  # as signed bytes: -1 and +1
_PEELS = 3
_CHUNK = 1 << 16


def depth_exceeds(data: bytes, limit: int) -> bool:
    """Tell whether arrays and objects stand in one another more than `limit` deep; brackets in strings don't count.

    Needed before any parser: a native one that recurses takes the process down. Never too low for what a parser
    reads before it finds a mistake; linear, and all of it in C.
    """
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = data.translate(_QUOTES, _NOT_QUOTES).replace(b'""', b"")
    if b'"' in brackets:
        brackets = b"".join(brackets.split(b'"')[::2])
    depth = min(_PEELS, limit)
    for _ in range(depth):  # each takes the innermost pairs away; few documents leave anything
        brackets = brackets.replace(b"[]", b"")
    for start in range(0, len(brackets), _CHUNK):
        steps = array("b", brackets[start : start + _CHUNK].translate(_STEPS))
        depths = list(accumulate(steps, initial=depth))
        if max(depths) > limit:
            return True
        depth = depths[-1]
    return False


def check_depth(data: bytes, limit: int) -> None:
    """Refuse JSON that is nested more than `limit` deep; InvalidArgument."""
    if depth_exceeds(data, limit):
        raise InvalidArgument(f"the JSON is nested more than {limit} deep")


def from_json(message_type: type[M], data: bytes, *, depth: int, root: str = "") -> M:
    """Decode proto JSON; InvalidArgument names each field at fault by its path, `root` before it.

    Of a key that stands there twice the last one counts, as in proto JSON.
    """
    check_depth(data, depth)
    try:
        message = message_type.from_json(data, registry=registry_of(message_type))
    except Exception as broken:
        raise explain(message_type, data, root, broken, registry_of(message_type)) from broken
    check_overlooked(message_type, data, root)
    return message


def field_from_json(message_type: type[M], name: str, data: bytes, *, depth: int) -> M:
    """Decode the JSON of one field into a message that has only this field; errors as `from_json`."""
    check_depth(data, depth)
    try:
        value = json.loads(data)
    except ValueError as broken:
        raise explain(message_type, data, "", broken, None) from broken
    return from_json(message_type, json.dumps({name: value}).encode(), depth=depth + 1)


def to_json(message: "Message[Any]", registry: Registry | None = None) -> str:
    """Encode for REST: proto names, enums by name, fields without presence always there.

    `registry` is what `registry_of` says of the message's type.
    """
    return message.to_json(use_proto_field_name=True, always_emit_implicit=True, registry=registry)


_registries: dict[DescMessage, Registry | None] = {}


def registry_of(message_type: "type[Message[Any]]") -> Registry | None:
    """Return the types that a `google.protobuf.Any` in the message may hold: those of its file and what that imports.

    None where no Any can stand in it.
    """
    desc = message_type.desc()
    try:
        return _registries[desc]
    except KeyError:
        holds_any = any(each.type_name == WELL_KNOWN + "Any" for each in reachable(desc))
        found = _registries[desc] = Registry(desc.file) if holds_any else None
        return found
