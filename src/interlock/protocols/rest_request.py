"""A REST request becomes a message: path, query and body bound to the fields that the route names.

What is wrong is always INVALID_ARGUMENT with the field's path from the request's root.
"""

from typing import Any

from protobuf import DescMessage, Message

from interlock.call import Call
from interlock.contract.model import HttpBinding, Operation
from interlock.contract.path_template import Variable
from interlock.contract.rest_shape import (
    body_message,
    holds_raw_body,
    message_of,
    plain_message_of,
    resolve,
    update_mask,
)
from interlock.errors import InvalidArgument, Violation
from interlock.protocols.departure import Departures
from interlock.protocols.json_codec import check_depth, field_from_json, from_json
from interlock.protocols.rest_body import JSON, MERGE_PATCH, has_body, is_merge_patch, read_body
from interlock.protocols.rest_condition import Precondition
from interlock.protocols.rest_query import FieldPath, QueryBinder
from interlock.protocols.rest_router import captured
from interlock.protocols.rest_update import changed_paths, output_only_dropper, without_nulls
from interlock.protocols.serving import Limits, Receive, Scope


class RequestBinder:
    """What one route asks of a request, worked out once, at start."""

    def __init__(self, operation: Operation, binding: HttpBinding, limits: Limits) -> None:
        self.operation = operation
        self.binding = binding
        self._type = operation.request_type
        self._limits = limits
        request = self._type.desc()
        self._variables: tuple[tuple[Variable, FieldPath], ...] = tuple(
            (each, FieldPath(resolve(request, each.field))) for each in binding.template.variables
        )
        self._query = QueryBinder(operation, binding, limits.query_parameters)
        self._body = FieldPath(resolve(request, binding.body)) if binding.body not in ("", "*") else None
        self._raw = holds_raw_body(operation, binding)
        self._known = () if self._raw else (JSON, MERGE_PATCH) if binding.verb == "PATCH" else (JSON,)
        self._mask = update_mask(operation, binding)
        resource = body_message(operation, binding)
        self._resource = resource
        self._drop = output_only_dropper(resource) if resource is not None else None
        self.precondition = Precondition(operation, binding)
        prefix = f"{binding.body}."
        inside = (path.name for _, path in self._variables if path.name.startswith(prefix))
        self._bound = frozenset(name.removeprefix(prefix) for name in inside)

    async def bind(self, call: Call, scope: Scope, receive: Receive, segments: list[str]) -> Message[Any]:
        """Read the request and return its message."""
        body = self.binding.body
        merge = False
        data = b""
        if not body:
            if await has_body(call, scope, receive):
                raise InvalidArgument("this request takes no body")
            request: Message[Any] = self._type()
        else:
            data = await read_body(call, receive, self._limits.request_bytes, self._known)
            if self._raw:
                request = self._file(data, call)
            else:
                merge = self.binding.verb == "PATCH" and is_merge_patch(call.metadata)
                request = self._whole(data, merge) if body == "*" else self._field(data, merge)
        query = scope.get("query_string", b"")
        given = self._query.bind(query, request) if query else frozenset[str]()
        if self._mask is not None and self._mask.name not in given:
            self._fill_mask(request, data, merge)
        for variable, path in self._variables:
            self._put_variable(request, variable, path, segments)
        self.precondition.apply(call.metadata, request)
        return request

    def _file(self, data: bytes, call: Call) -> Message[Any]:
        request = self._type()
        holder: Any = request
        path = self._body
        if path is not None:
            message = message_of(path.leaf)
            if message is None:  # a field of bytes
                path.put(request, data)
                return request
            holder = message.type()
            path.put(request, holder)
        holder.data = data
        holder.content_type = call.metadata.get("content-type") or "application/octet-stream"
        return request

    def _whole(self, data: bytes, merge: bool) -> Message[Any]:
        if not data:
            return self._type()
        if merge and self._resource is not None:
            data = self._patch(self._resource, data)
        request = from_json(self._type, data, depth=self._limits.json_depth)
        if self._drop is not None:
            self._drop(request)
        return request

    def _field(self, data: bytes, merge: bool) -> Message[Any]:
        request = self._type()
        path = self._body
        if not data or path is None:
            return request
        depth = self._limits.json_depth
        resource = plain_message_of(path.leaf)
        if resource is None:  # a list, map, scalar or well-known message
            return field_from_json(self._type, path.name, data, depth=depth)
        if merge:
            data = self._patch(resource, data)
        inner = from_json(resource.type, data, depth=depth, root=path.name)
        if self._drop is not None:
            self._drop(inner)
        path.put(request, inner)
        return request

    def _patch(self, resource: DescMessage, data: bytes) -> bytes:
        check_depth(data, self._limits.json_depth)
        return without_nulls(resource, data)

    def _fill_mask(self, request: Message[Any], data: bytes, merge: bool) -> None:
        mask = self._mask
        if mask is None or self._resource is None:
            return
        paths = ["*"]
        if self.binding.verb == "PATCH":
            changed = changed_paths(self._resource, data, self._bound, merge=merge) if data else []
            # an empty mask means "everything" (AIP-134): to change nothing, name what the path gives anyway
            paths = changed or sorted(self._bound)
            if not paths:
                raise InvalidArgument("the body names no field to change")
        request[mask] = mask.value.message.type(paths=paths)  # type: ignore[union-attr]  # a FieldMask

    def _put_variable(self, request: Message[Any], variable: Variable, path: FieldPath, segments: list[str]) -> None:
        try:
            text = captured(variable, segments)
        except UnicodeDecodeError as wrong:
            raise _at(path.name, "is not UTF-8") from wrong
        value = path.value(text)
        if self.binding.body:
            given = path.given(request)
            if given is not None and given != value:
                raise _at(path.name, "is not what the path says")
        path.put(request, value)


def _at(field: str, description: str) -> InvalidArgument:
    violation = Violation(field=field, description=description)
    return InvalidArgument("the request does not fit its contract", violations=[violation])


class RestIncoming:
    """The request as the front holds it; `binding` is the route that it came by, for those who log and count.

    `read` tells whether its body has come whole; from then on the caller's departure is watched for.
    """

    __slots__ = ("_binder", "_call", "_departures", "_receive", "_scope", "_segments", "read")

    def __init__(
        self,
        binder: RequestBinder,
        call: Call,
        scope: Scope,
        receive: Receive,
        segments: list[str],
        *,
        departures: Departures,
    ) -> None:
        self._binder = binder
        self._scope = scope
        self._call = call
        self._receive = receive
        self._segments = segments
        self._departures = departures
        self.read = False

    @property
    def binding(self) -> HttpBinding:
        """The route."""
        return self._binder.binding

    @property
    def precondition(self) -> Precondition:
        """What `If-Match` means to the route."""
        return self._binder.precondition

    async def message(self) -> Message[Any]:
        """Return the request, see `Incoming`."""
        request = await self._binder.bind(self._call, self._scope, self._next, self._segments)
        self.read = True
        self._departures.watch(self._call, self._receive)
        return request

    async def _next(self) -> Any:
        event = await self._receive()
        if not event.get("more_body"):  # also of a body that is then refused: nothing more of it is waited for
            self.read = True
        return event
