"""Partial updates: the fields that a mask names, taken from one message into another (AIP-134, AIP-161)."""

import re
from typing import Any, TypeVar

from protobuf import DescField, DescFieldValueMap, DescFieldValueMessage, DescMessage, Message, ScalarType
from protobuf.wkt.google.protobuf.field_mask_pb import FieldMask

from interlock.errors import InvalidArgument, Violation
from interlock.protocols.mask_paths import split_path

M = TypeVar("M", bound="Message[Any]")
Step = DescField | str | int | bool
"""A part of a path: a field, or the key of the map before it."""


def apply_mask(target: M, source: M, mask: FieldMask | None) -> M:
    """Set in `target` the fields that `mask` names to what `source` has, cleared where it has nothing; return `target`.

    A path may go into messages (`shipping_address.city`) and to an entry of a map (`labels.colour`, ``labels.`a.b` ``);
    lists are replaced whole. No mask, an empty one and `*` mean every field. InvalidArgument names the paths that are
    no fields; `target` is then as it was.
    """
    paths = list(mask.paths) if mask is not None else []
    if not paths or "*" in paths:
        found: dict[str, list[Step]] = {field.name: [field] for field in target.desc().fields}
    else:
        found = {path: _steps(target.desc(), path) for path in paths}
    wrong = [path for path, steps in found.items() if not steps]
    if wrong:
        kind = target.desc().name
        violations = [Violation(field="update_mask", description=f"{path!r} is no field of {kind}") for path in wrong]
        raise InvalidArgument("invalid update mask", violations=violations)
    for steps in found.values():
        _apply(target, source, steps)
    return target


def _steps(message: DescMessage, path: str) -> list[Step]:
    """Return what stands along a path, outermost first; none where the path is wrong."""
    steps: list[Step] = []
    inside: DescMessage | None = message
    parts = split_path(path)
    for index, part in enumerate(parts):
        field = next((each for each in inside.fields if each.name == part), None) if inside is not None else None
        if field is None:
            return []
        steps.append(field)
        if isinstance(field.value, DescFieldValueMap):
            below = parts[index + 1 :]
            key = _key(field.value, below[0]) if len(below) == 1 else None
            return steps if not below else [] if key is None else [*steps, key]
        inside = field.value.message if isinstance(field.value, DescFieldValueMessage) else None
    return steps


def _key(value: DescFieldValueMap, text: str) -> str | int | bool | None:
    if value.key == ScalarType.STRING:
        return text
    if value.key == ScalarType.BOOL:
        return {"true": True, "false": False}.get(text)
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text, re.ASCII) else None


def _apply(target: Any, source: Any, steps: list[Any]) -> None:
    steps, key = (steps, None) if isinstance(steps[-1], DescField) else (steps[:-1], steps[-1])
    *outer, last = steps
    for field in outer:
        source = source[field] if source is not None and field in source else None
        if field not in target:
            if source is None:
                return  # absent in both stays absent
            target[field] = type(source)()
        target = target[field]
    if key is not None:
        _apply_entry(target, source, last, key)
    elif source is not None and last in source:
        target[last] = source[last]
    else:
        del target[last]


def _apply_entry(target: Any, source: Any, field: DescField, key: str | int | bool) -> None:
    given = source[field] if source is not None else {}
    kept = dict(target[field])
    if key in given:
        kept[key] = given[key]
    else:
        kept.pop(key, None)
    target[field] = kept
