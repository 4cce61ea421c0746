"""The layers that read and check the request, behind those that decide on the head alone."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from protobuf import DescField, DescFieldValueList, DescFieldValueMap, DescFieldValueMessage, DescMessage, Message
from protobuf.wkt.google.protobuf.field_mask_pb import FieldMask
from protovalidate import CompilationError, Validator, Violation
from protovalidate._gen.buf.validate import validate_pb

from interlock.call import Call, Handler, IncomingStream, Layer, Middleware, Reply
from interlock.contract.model import Operation
from interlock.errors import InvalidArgument
from interlock.errors import Violation as FieldViolation
from interlock.protocols.mask_paths import split_path
from interlock.protocols.status import MAX_VIOLATIONS

_THOROUGH = 8192
"""Bytes of a request up to which all its violations are told; of a larger one, the first."""
_MANY = 1000
"""Elements in a large partial update from which on not all its violations are looked for."""


def decode(operation: Operation) -> Middleware:
    """Set `call.request`: the message, or the stream of messages, as the front reads it."""
    if operation.kind.client_streams:

        async def decode_stream(call: Call, proceed: Handler) -> Reply:
            call.request = cast(IncomingStream, call.incoming).messages()  # every front that takes streams sets one
            return await proceed(call)

        return decode_stream

    async def decode_one(call: Call, proceed: Handler) -> Reply:
        assert call.incoming is not None  # noqa: S101 - every front sets it
        call.request = await call.incoming.message()
        return await proceed(call)

    return decode_one


def validate(validator: Validator) -> Layer:
    """Check requests by their `buf.validate` rules; left out where no rule can apply.

    Of a partial update (a request with an `update_mask` beside its resource, AIP-134) only the fields that the mask
    names are checked. ValueError at start for a rule that does not compile.
    """

    def layer(operation: Operation) -> Middleware | None:
        if not has_rules(operation.request_type.desc()):
            return None
        try:
            validator.collect_violations(operation.request_type())
        except CompilationError as wrong:
            raise ValueError(
                f"{operation.source}: a buf.validate rule of {operation} does not compile: {wrong}"
            ) from wrong
        resource = masked_resource(operation.request_type.desc())
        collect = _bounded(validator)

        if operation.kind.client_streams:

            async def checked(requests: AsyncIterator[Message[Any]]) -> AsyncIterator[Message[Any]]:
                async for request in requests:
                    if found := collect(request):
                        raise _invalid(found)
                    yield request

            async def validate_stream(call: Call, proceed: Handler) -> Reply:
                call.request = checked(call.request)
                return await proceed(call)

            return validate_stream

        def validate_one(call: Call, proceed: Handler) -> Awaitable[Reply]:
            found = collect(call.request)
            if found and resource and (paths := _mask_paths(call.request.update_mask)):
                found = _masked(validator, call.request, found, resource, paths)
            if found:
                raise _invalid(found)
            return proceed(call)

        return validate_one

    return layer


def _bounded(validator: Validator) -> Callable[[Message[Any]], list[Violation]]:
    def collect(request: Message[Any]) -> list[Violation]:
        found = validator.collect_violations(request, fail_fast=True)
        # Each further violation costs some 40 µs in which nothing else runs, and a message may hold a million.
        if found and len(request.to_binary()) <= _THOROUGH:
            return validator.collect_violations(request)
        return found

    return collect


def _invalid(found: list[Violation]) -> InvalidArgument:
    violations = [
        FieldViolation(field=field_path(each.proto.field), description=each.proto.message or each.proto.rule_id)
        for each in found[:MAX_VIOLATIONS]
    ]
    named = ", ".join(dict.fromkeys(each.field for each in violations if each.field))
    return InvalidArgument(f"invalid request: {named}" if named else "invalid request", violations=violations)


def masked_resource(message: DescMessage) -> str:
    """Return the field that an `update_mask` beside it is about, empty where the request is no partial update."""
    held = {
        field.name: field.value.message.type_name
        for field in message.fields
        if isinstance(field.value, DescFieldValueMessage)
    }
    if held.pop("update_mask", "") != "google.protobuf.FieldMask" or len(held) != 1:
        return ""
    return next(iter(held))


def _mask_paths(mask: FieldMask | None) -> list[list[str]]:
    """Return the paths of a mask in parts; none where it means every field."""
    paths = list(mask.paths) if mask is not None else []
    return [] if "*" in paths else [split_path(each) for each in paths]


def _masked(
    validator: Validator, request: Message[Any], found: list[Violation], resource: str, paths: list[list[str]]
) -> list[Violation]:
    """Return those of a partial update's violations that concern it.

    Of a large request only the first is known; where that one lies outside the mask all are looked for, unless there
    may be too many of them. InvalidArgument then.
    """
    inside = [each for each in found if _in_mask(each, resource, paths)]
    if inside or len(request.to_binary()) <= _THOROUGH:
        return inside
    if _elements(request, _MANY) >= _MANY:
        text = f"a partial update is checked with up to {_MANY} elements of lists and maps; replace the whole instead"
        raise InvalidArgument(text, violations=[FieldViolation(field=resource, description="has too many elements")])
    return [each for each in validator.collect_violations(request) if _in_mask(each, resource, paths)]


def _elements(message: Message[Any], enough: int) -> int:
    """Count the elements of all lists and maps in a message, up to about `enough`."""
    count = 0
    waiting: list[Any] = [message]
    while waiting and count < enough:
        each = waiting.pop()
        if not isinstance(each, Message):
            continue
        for field in each.desc().fields:
            if isinstance(field.value, DescFieldValueList | DescFieldValueMap):
                held = each[field]
                count += len(held)
                if count < enough:
                    waiting.extend(held.values() if isinstance(field.value, DescFieldValueMap) else held)
            elif isinstance(field.value, DescFieldValueMessage) and field in each:
                waiting.append(each[field])
    return count


def _in_mask(violation: Violation, resource: str, paths: list[list[str]]) -> bool:
    names: list[str] = []
    for element in violation.proto.field.elements if violation.proto.field is not None else ():
        names.append(element.field_name)
        if element.subscript is not None and element.subscript.field != "index":
            names.append(str(element.subscript.value))  # the key of a map is a part of a path, a list's index is none
    if names[:1] != [resource]:
        return True
    inside = names[1:]
    rule = violation.proto.rule
    of_map = rule is not None and bool(rule.elements) and rule.elements[0].field_name == "map"
    return any(inside[: len(path)] == path or (of_map and inside == path[: len(inside)]) for path in paths)


def field_path(path: validate_pb.FieldPath | None) -> str:
    """Write a violation's path as callers read it: `items[0].quantity`, `labels["a"]`."""
    text = ""
    for element in path.elements if path is not None else ():
        text += f".{element.field_name}" if text else element.field_name
        if element.subscript is not None:
            value = element.subscript.value
            text += f"[{json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value).lower()}]"
    return text


def has_rules(message: DescMessage) -> bool:
    """Tell whether a `buf.validate` rule stands anywhere in `message` or what it holds."""
    seen: set[str] = set()
    waiting = [message]
    while waiting:
        desc = waiting.pop()
        if desc.type_name in seen:
            continue
        seen.add(desc.type_name)
        if _ruled(desc.proto.options, validate_pb.ext_message):
            return True
        if any(_ruled(oneof.proto.options, validate_pb.ext_oneof) for oneof in desc.oneofs):
            return True
        for field in desc.fields:
            if _ruled(field.proto.options, validate_pb.ext_field):
                return True
            waiting.extend(_held(field))
    return False


def _ruled(options: Any, extension: Any) -> bool:
    return options is not None and extension in options


def _held(field: DescField) -> list[DescMessage]:
    match field.value:
        case DescFieldValueMessage(message=DescMessage() as held):
            return [held]
        case DescFieldValueList(element=DescMessage() as held) | DescFieldValueMap(value=DescMessage() as held):
            return [held]
    return []
