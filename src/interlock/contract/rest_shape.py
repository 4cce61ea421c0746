"""What a route means beyond its path: statuses, pages, the field that `data` is, what a request may set.

One reading of the contract, for those who serve it and those who describe it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from protobuf import (
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescMessage,
    ScalarType,
)

from interlock.contract.gen.google.api.field_behavior_pb import FieldBehavior, ext_field_behavior
from interlock.contract.model import HttpBinding, Operation

WELL_KNOWN = "google.protobuf."
EMPTY = "google.protobuf.Empty"
HTTP_BODY = "google.api.HttpBody"
FIELD_MASK = "google.protobuf.FieldMask"
UPDATE_MASK = "update_mask"
NAMED_AS_TEXT = frozenset(
    WELL_KNOWN + name
    for name in (
        "Timestamp", "Duration", "FieldMask", "DoubleValue", "FloatValue", "Int64Value", "UInt64Value", "Int32Value",
        "UInt32Value", "BoolValue", "StringValue", "BytesValue",
    )
)  # fmt: skip
"""Messages whose JSON form is one scalar, so that a query parameter can hold them."""

Element: TypeAlias = "ScalarType | DescMessage | Any"


def fields_by_name(message: DescMessage) -> Mapping[str, DescField]:
    """Return the fields under both their names: the proto's and the lowerCamelCase one of JSON."""
    return _fields_by_name(message)


@cache
def _fields_by_name(message: DescMessage) -> dict[str, DescField]:
    return {each.json_name: each for each in message.fields} | {each.name: each for each in message.fields}


def message_of(field: DescField) -> DescMessage | None:
    """Return the message of a singular message field, else None."""
    return field.value.message if isinstance(field.value, DescFieldValueMessage) else None


def plain_message_of(field: DescField) -> DescMessage | None:
    """Return the message of a singular field whose JSON form is an object of its own fields, else None."""
    message = message_of(field)
    return None if message is None or message.type_name.startswith(WELL_KNOWN) else message


def is_repeated(field: DescField) -> bool:
    """Tell whether the field is a list (a map is not)."""
    return isinstance(field.value, DescFieldValueList)


def element_of(field: DescField) -> Element:
    """Return the scalar type, enum or message of a field, or of its elements; a map gives that of its values."""
    value = field.value
    if isinstance(value, DescFieldValueScalar):
        return value.scalar
    if isinstance(value, DescFieldValueEnum):
        return value.enum
    if isinstance(value, DescFieldValueMessage):
        return value.message
    return value.element if isinstance(value, DescFieldValueList) else value.value


def behaviors(field: DescField) -> tuple[FieldBehavior, ...]:
    """Return what `google.api.field_behavior` says of the field."""
    options = field.proto.options
    extension: Any = ext_field_behavior
    return tuple(options[extension]) if options is not None and extension in options else ()


def is_output_only(field: DescField) -> bool:
    """Tell whether only the service sets the field (AIP-203)."""
    return FieldBehavior.OUTPUT_ONLY in behaviors(field)


def resolve(message: DescMessage, path: str) -> tuple[DescField, ...]:
    """Return the fields along a dotted path (`order.id`), by either name; KeyError with the part that is unknown."""
    found: list[DescField] = []
    at: DescMessage | None = message
    for name in path.split("."):
        if at is None or name not in _fields_by_name(at):
            raise KeyError(name)
        found.append(_fields_by_name(at)[name])
        at = plain_message_of(found[-1])
    return tuple(found)


def body_message(operation: Operation, binding: HttpBinding) -> DescMessage | None:
    """Return the message that the body holds; None without a body, or where it is no plain message."""
    request = operation.request_type.desc()
    if binding.body == "*":
        return request
    return plain_message_of(resolve(request, binding.body)[0]) if binding.body else None


def update_mask(operation: Operation, binding: HttpBinding) -> DescField | None:
    """Return the request's mask if this route updates a resource: a PUT or PATCH whose body is one field."""
    field = fields_by_name(operation.request_type.desc()).get(UPDATE_MASK)
    if field is None or binding.verb not in ("PUT", "PATCH") or body_message(operation, binding) is None:
        return None
    message = message_of(field)
    return field if binding.body not in ("", "*") and message is not None and message.type_name == FIELD_MASK else None


def page_field(reply: DescMessage) -> DescField | None:
    """Return the items of a page: the only repeated message field beside `next_page_token` (AIP-158), else None."""
    if "next_page_token" not in _fields_by_name(reply):
        return None
    lists = [each for each in reply.fields if is_repeated(each) and isinstance(element_of(each), DescMessage)]
    return lists[0] if len(lists) == 1 else None


def data_field(operation: Operation, binding: HttpBinding) -> DescField | None:
    """Return the reply's field that `data` is; None where `data` is the whole reply."""
    reply = operation.reply_type.desc()
    return resolve(reply, binding.response_body)[0] if binding.response_body else page_field(reply)


def creates(operation: Operation, binding: HttpBinding) -> bool:
    """Tell whether the route creates a resource: `Create*`, by POST on a collection."""
    template = binding.template
    return (
        operation.name.startswith("Create")
        and binding.verb == "POST"
        and not template.verb
        and template.segments[-1] not in ("*", "**")
        and not operation.kind.server_streams
    )


def success_status(operation: Operation, binding: HttpBinding) -> int:
    """Return the HTTP status of a route's success: 201 for a creation, 204 for an Empty DELETE, else 200."""
    if creates(operation, binding):
        return 201
    if binding.verb == "DELETE" and operation.reply_type.desc().type_name == EMPTY:
        return 204
    return 200


def etag_field(operation: Operation, binding: HttpBinding) -> DescField | None:
    """Return the field `string etag` of the resource that a route replies with: what the header `ETag` says."""
    if operation.kind.server_streams or page_field(operation.reply_type.desc()) is not None:
        return None
    field = data_field(operation, binding)
    return _etag_of(operation.reply_type.desc() if field is None else plain_message_of(field))


def reads_etag(operation: Operation, binding: HttpBinding) -> bool:
    """Tell whether a route answers `If-None-Match` (RFC 9110 §13.1.2)."""
    return binding.verb == "GET" and etag_field(operation, binding) is not None


def given_etag(operation: Operation, binding: HttpBinding) -> tuple[DescField, ...]:
    """Return the path of the request's field that `If-Match` fills: the resource's `etag` in the body, else its own.

    Empty where the route takes no such precondition.
    """
    request = operation.request_type.desc()
    if binding.verb not in ("PUT", "PATCH", "DELETE", "POST") or creates(operation, binding):
        return ()
    if binding.body not in ("", "*") and (inside := _etag_of(body_message(operation, binding))) is not None:
        return (resolve(request, binding.body)[0], inside)
    own = _etag_of(request)
    return (own,) if own is not None else ()


def writes_etag(operation: Operation, binding: HttpBinding) -> bool:
    """Tell whether a route answers `If-Match` (RFC 9110 §13.1.1)."""
    return bool(given_etag(operation, binding))


def _etag_of(message: DescMessage | None) -> DescField | None:
    field = _fields_by_name(message).get("etag") if message is not None else None
    return field if field is not None and element_of(field) is ScalarType.STRING and not is_repeated(field) else None


@dataclass(frozen=True, slots=True)
class QueryField:
    """One query parameter: its full name (`filter.city`) and the fields along it."""

    name: str
    fields: tuple[DescField, ...]


def fits_query(field: DescField) -> bool:
    """Tell whether a query parameter can hold the field: scalars, enums, scalar-like messages, lists of those."""
    if isinstance(field.value, DescFieldValueMap):
        return False
    element = element_of(field)
    return not isinstance(element, DescMessage) or element.type_name in NAMED_AS_TEXT


def bound_paths(operation: Operation, binding: HttpBinding) -> frozenset[str]:
    """Return the fields, as dotted proto names, that path and body bind: no query parameter may name them."""
    request = operation.request_type.desc()
    paths = {".".join(each.name for each in resolve(request, var.field)) for var in binding.template.variables}
    if binding.body not in ("", "*"):
        paths.add(resolve(request, binding.body)[0].name)
    if binding.verb == "PUT" and (mask := update_mask(operation, binding)) is not None:
        paths.add(mask.name)
    return frozenset(paths)


def query_fields(operation: Operation, binding: HttpBinding, depth: int = 4) -> Iterator[QueryField]:
    """Yield every query parameter of a route, messages entered `depth` deep and never twice on one path."""
    if binding.body != "*":
        bound = bound_paths(operation, binding)
        yield from _query_fields(operation.request_type.desc(), (), bound, depth)


def _query_fields(
    message: DescMessage, above: tuple[DescField, ...], bound: frozenset[str], depth: int
) -> Iterator[QueryField]:
    for field in message.fields:
        fields = (*above, field)
        name = ".".join(each.name for each in fields)
        if name in bound:
            continue
        if fits_query(field):
            yield QueryField(name, fields)
            continue
        inner = plain_message_of(field)
        above_it = {each.parent.type_name for each in fields}
        if inner is not None and len(fields) < depth and inner.type_name not in above_it:
            yield from _query_fields(inner, fields, bound, depth)


def holds_raw_body(operation: Operation, binding: HttpBinding) -> bool:
    """Tell whether a route's body is bytes of any media type: its field is `bytes`, or a `google.api.HttpBody`."""
    if not binding.body:
        return False
    request = operation.request_type.desc()
    if binding.body == "*":
        return request.type_name == HTTP_BODY
    field = resolve(request, binding.body)[0]
    if (message := message_of(field)) is not None:
        return message.type_name == HTTP_BODY
    return not is_repeated(field) and element_of(field) == ScalarType.BYTES


def raw_reply_field(operation: Operation, binding: HttpBinding) -> DescField | None:
    """Return the reply's field that is sent as a file (`google.api.HttpBody`), None where that is the whole reply."""
    return resolve(operation.reply_type.desc(), binding.response_body)[0] if binding.response_body else None


def sends_raw_body(operation: Operation, binding: HttpBinding) -> bool:
    """Tell whether a route's reply is a file: a `google.api.HttpBody`, of its own media type and without envelope."""
    field = raw_reply_field(operation, binding)
    message = operation.reply_type.desc() if field is None else message_of(field)
    return message is not None and message.type_name == HTTP_BODY


def must_be_conditional(operation: Operation, binding: HttpBinding) -> bool:
    """Tell whether a route refuses what neither `If-Match` nor its body makes conditional (RFC 6585 §3).

    That is where the etag it takes is REQUIRED (AIP-203).
    """
    fields = given_etag(operation, binding)
    return bool(fields) and FieldBehavior.REQUIRED in behaviors(fields[-1])
