"""Partial updates: the fields that a mask names, taken from one message into another (AIP-134, AIP-161)."""

from typing import Any, TypeVar

from protobuf import DescField, DescFieldValueMessage, DescMessage, Message
from protobuf.wkt.google.protobuf.field_mask_pb import FieldMask

from interlock.errors import InvalidArgument, Violation

M = TypeVar("M", bound="Message[Any]")


def apply_mask(target: M, source: M, mask: FieldMask | None) -> M:
    """Set in `target` the fields that `mask` names to what `source` has, cleared where it has nothing; return `target`.

    A path may go into messages (`shipping_address.city`); lists and maps are replaced whole. No mask, an empty one
    and `*` mean every field. InvalidArgument names the paths that are no fields; `target` is then as it was.
    """
    paths = list(mask.paths) if mask is not None else []
    if not paths or "*" in paths:
        paths = [field.name for field in target.desc().fields]
    found = {path: _fields(target.desc(), path.split(".")) for path in paths}
    wrong = [path for path, fields in found.items() if not fields]
    if wrong:
        kind = target.desc().name
        violations = [Violation(field="update_mask", description=f"{path!r} is no field of {kind}") for path in wrong]
        raise InvalidArgument("invalid update mask", violations=violations)
    for fields in found.values():
        _apply(target, source, fields)
    return target


def _fields(message: DescMessage, names: list[str]) -> list[DescField]:
    """Return the fields along a path, outermost first; none where the path is wrong."""
    fields: list[DescField] = []
    inside: DescMessage | None = message
    for name in names:
        field = next((each for each in inside.fields if each.name == name), None) if inside is not None else None
        if field is None:
            return []
        fields.append(field)
        inside = field.value.message if isinstance(field.value, DescFieldValueMessage) else None
    return fields


def _apply(target: Message[Any], source: Message[Any] | None, fields: list[DescField]) -> None:
    *outer, last = fields
    for field in outer:
        source = source[field] if source is not None and field in source else None
        if field not in target:
            if source is None:
                return  # absent in both stays absent
            target[field] = type(source)()
        target = target[field]
    if source is not None and last in source:
        target[last] = source[last]
    else:
        del target[last]
