"""What a request body may change: OUTPUT_ONLY fields dropped (AIP-203), the mask of a PATCH from its keys (AIP-134)."""

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeAlias

from protobuf import DescField, DescFieldValueList, DescFieldValueMap, DescMessage, Message

from interlock.contract.rest_shape import (
    WELL_KNOWN,
    element_of,
    fields_by_name,
    is_output_only,
    plain_message_of,
)

Drop: TypeAlias = Callable[[Message[Any]], None]


def output_only_dropper(message: DescMessage) -> Drop | None:
    """Return what clears every OUTPUT_ONLY field of a message, nested ones too; None where it has none."""
    return _Dropper(message).drop if _holds_output_only(message, set()) else None


def _holds_output_only(message: DescMessage, seen: set[DescMessage]) -> bool:
    if message in seen or message.type_name.startswith(WELL_KNOWN):
        return False
    seen.add(message)
    return any(
        is_output_only(field)
        or (isinstance(inner := element_of(field), DescMessage) and _holds_output_only(inner, seen))
        for field in message.fields
    )


class _Dropper:
    """Clears the fields of one message; its inner ones are made when the first is met, for messages may recurse."""

    def __init__(self, message: DescMessage) -> None:
        self._own = [each for each in message.fields if is_output_only(each)]
        self._inner = [
            (each, inner)
            for each in message.fields
            if not is_output_only(each)
            and isinstance(inner := element_of(each), DescMessage)
            and _holds_output_only(inner, set())
        ]
        self._droppers: dict[DescMessage, _Dropper] = {message: self}

    def drop(self, message: Message[Any]) -> None:
        for field in self._own:
            if field in message:
                del message[field]
        for field, inner in self._inner:
            if field not in message:
                continue
            dropper = self._droppers.get(inner)
            if dropper is None:
                dropper = self._droppers[inner] = _Dropper(inner)
            value = message[field]
            if isinstance(field.value, DescFieldValueList):
                held = value
            elif isinstance(field.value, DescFieldValueMap):
                held = value.values()
            else:
                held = (value,)
            for each in held:
                dropper.drop(each)


def changed_paths(resource: DescMessage, data: bytes, bound: Collection[str]) -> list[str]:
    """Return the paths that a PATCH body names, in its order: `shipping_address.city` for a nested key.

    Lists and maps are replaced whole; a null names the field it clears; an empty object names nothing (RFC 7396).
    OUTPUT_ONLY fields and those in `bound`, which the path gives, are left out. `data` must have decoded before.
    """
    value = json.loads(data)
    found = _paths(resource, value, "") if isinstance(value, dict) else iter(())
    return [path for path in dict.fromkeys(found) if path not in bound]


def _paths(message: DescMessage, value: dict[str, Any], above: str) -> Iterator[str]:
    known = fields_by_name(message)
    for key, inner in value.items():
        field: DescField | None = known.get(key)
        if field is None or is_output_only(field):
            continue
        path = f"{above}{field.name}"
        nested = plain_message_of(field)
        if nested is not None and isinstance(inner, dict):
            yield from _paths(nested, inner, f"{path}.")
        else:
            yield path
