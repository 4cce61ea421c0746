"""The two codecs of Connect, served: binary, and proto JSON in lowerCamelCase (connectrpc.com/docs/protocol)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from protobuf import Message

from interlock.errors import InvalidArgument
from interlock.protocols.json_codec import depth_exceeds, registry_of
from interlock.protocols.json_mistakes import explain
from interlock.protocols.json_overlooked import check_overlooked


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How messages are written; `decode` takes type, bytes and the depth JSON may have, InvalidArgument if it can't."""

    name: bytes
    decode: Callable[[type[Message[Any]], bytes, int], Message[Any]]
    encode: Callable[[Message[Any]], bytes]


def _from_binary(message_type: type[Message[Any]], data: bytes, _depth: int) -> Message[Any]:
    try:
        return message_type.from_binary(data)
    except Exception as broken:
        raise InvalidArgument(f"the request is no valid {message_type.desc().type_name}") from broken


def _to_binary(message: Message[Any]) -> bytes:
    return message.to_binary()


def _from_json(message_type: type[Message[Any]], data: bytes, depth: int) -> Message[Any]:
    """Decode both spellings of names; what the contract does not know is left out, as it is of a binary message."""
    if depth_exceeds(data, depth):
        raise InvalidArgument(f"the JSON is nested more than {depth} deep")
    registry = registry_of(message_type)
    try:
        message = message_type.from_json(data, registry=registry, ignore_unknown_fields=True)
    except Exception as broken:
        raise explain(message_type, data, "", broken, registry) from broken
    check_overlooked(message_type, data)
    return message


def _to_json(message: Message[Any]) -> bytes:
    return message.to_json(registry=registry_of(type(message))).encode()


PROTO = Codec(name=b"proto", decode=_from_binary, encode=_to_binary)
JSON = Codec(name=b"json", decode=_from_json, encode=_to_json)
CODECS = {each.name: each for each in (PROTO, JSON)}
