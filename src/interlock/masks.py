"""Partial updates: the fields that a mask names, taken from one message into another (AIP-134, AIP-161)."""

from typing import Any, TypeVar

from protobuf import DescField, DescFieldValueMessage, Message
from protobuf.wkt.google.protobuf.field_mask_pb import FieldMask

from interlock.errors import InvalidArgument, Violation

M = TypeVar("M", bound="Message[Any]")


def apply_mask(target: M, source: M, mask: FieldMask | None) -> M:
    """Set in `target` the fields that `mask` names to what `source` has, cleared where it has nothing; return `target`.

    A path may go into messages (`shipping_address.city`); lists and maps are replaced whole. No mask, an empty one
    and `*` mean every field. InvalidArgument names the paths that are no fields.
    """
    paths = list(mask.paths) if mask is not None else []
    if not paths or "*" in paths:
        paths = [field.name for field in target.desc().fields]
    wrong = [path for path in paths if not _apply(target, source, path.split("."))]
    if wrong:
        kind = target.desc().name
        violations = [Violation(field="update_mask", description=f"{path!r} is no field of {kind}") for path in wrong]
        raise InvalidArgument("invalid update mask", violations=violations)
    return target


def _apply(target: Message[Any], source: Message[Any] | None, names: list[str]) -> bool:
    field = _field(target, names[0])
    if field is None:
        return False
    if len(names) == 1:
        if source is not None and field in source:
            target[field] = source[field]
        else:
            del target[field]
        return True
    if not isinstance(field.value, DescFieldValueMessage):
        return False
    inner = target[field] if field in target else field.value.message.type()
    if not _apply(inner, source[field] if source is not None and field in source else None, names[1:]):
        return False
    target[field] = inner
    return True


def _field(message: Message[Any], name: str) -> DescField | None:
    return next((field for field in message.desc().fields if field.name == name), None)
