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
from interlock.protocols.mask_paths import mask_key

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


def without_nulls(resource: DescMessage, data: bytes) -> bytes:
    """Return the JSON of a merge patch without the entries that it takes out of maps, as proto JSON can read it.

    `data` must be known to be nested no deeper than the stack bears; what is no JSON is returned as it is.
    """
    if b"null" not in data:
        return data
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return json.dumps(_kept(resource, value)).encode() if isinstance(value, dict) else data


def _kept(message: DescMessage, value: dict[str, Any]) -> dict[str, Any]:
    known = fields_by_name(message)
    kept: dict[str, Any] = {}
    for key, inner in value.items():
        field = known.get(key)
        kept[key] = inner
        if field is not None and isinstance(inner, dict):
            if isinstance(field.value, DescFieldValueMap):
                kept[key] = {name: each for name, each in inner.items() if each is not None or _takes_null(field)}
            elif (nested := plain_message_of(field)) is not None:
                kept[key] = _kept(nested, inner)
    return kept


def _takes_null(field: DescField) -> bool:
    element = element_of(field)
    return isinstance(element, DescMessage) and element.type_name == WELL_KNOWN + "Value"


def changed_paths(resource: DescMessage, data: bytes, bound: Collection[str], *, merge: bool = False) -> list[str]:
    """Return the paths that a PATCH body names, in its order: `shipping_address.city` for a nested key.

    Lists are replaced whole, and so are maps, but by a merge patch, which changes their entries one by one
    (RFC 7396): `labels.colour`, in backticks where a key is no plain word (AIP-161). A null names the field it clears;
    an empty object names nothing. OUTPUT_ONLY fields, those in `bound`, which the path gives, and the resource's own
    `etag`, which is compared and not set (AIP-154), are left out. `data` must have decoded before.
    """
    value = json.loads(data)
    found = _paths(resource, value, "", merge) if isinstance(value, dict) else iter(())
    return [path for path in dict.fromkeys(found) if path not in bound and path != "etag"]


def _paths(message: DescMessage, value: dict[str, Any], above: str, merge: bool) -> Iterator[str]:
    known = fields_by_name(message)
    for key, inner in value.items():
        field: DescField | None = known.get(key)
        if field is None or is_output_only(field):
            continue
        path = f"{above}{field.name}"
        nested = plain_message_of(field)
        if nested is not None and isinstance(inner, dict):
            yield from _paths(nested, inner, f"{path}.", merge)
        elif merge and isinstance(field.value, DescFieldValueMap) and isinstance(inner, dict):
            yield from (f"{path}.{mask_key(each)}" for each in inner)
        else:
            yield path
