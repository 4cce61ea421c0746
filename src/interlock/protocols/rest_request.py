"""A REST request becomes a message: path, query and body bound to the fields that the route names.

What is wrong is always INVALID_ARGUMENT with the field's path from the request's root.
"""

from collections.abc import AsyncIterator
from typing import Any

from protobuf import Message

from interlock.call import Call
from interlock.contract.model import HttpBinding, Operation
from interlock.contract.path_template import Variable
from interlock.contract.rest_shape import body_message, plain_message_of, resolve, update_mask
from interlock.errors import InvalidArgument, Violation
from interlock.protocols.grpc_server import Receive, Scope
from interlock.protocols.json_codec import field_from_json, from_json
from interlock.protocols.rest_body import has_body, read_body
from interlock.protocols.rest_query import FieldPath, QueryBinder
from interlock.protocols.rest_router import captured
from interlock.protocols.rest_update import changed_paths, output_only_dropper
from interlock.protocols.serving import Limits


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
        self._mask = update_mask(operation, binding)
        resource = body_message(operation, binding)
        self._resource = resource
        self._drop = output_only_dropper(resource) if resource is not None else None
        prefix = f"{binding.body}."
        inside = (path.name for _, path in self._variables if path.name.startswith(prefix))
        self._bound = frozenset(name.removeprefix(prefix) for name in inside)

    async def bind(self, call: Call, scope: Scope, receive: Receive, segments: list[str]) -> Message[Any]:
        """Read the request and return its message."""
        body = self.binding.body
        if not body:
            if await has_body(call, scope, receive):
                raise InvalidArgument("this request takes no body")
            request: Message[Any] = self._type()
            data = b""
        else:
            patch = self.binding.verb == "PATCH"
            data = await read_body(call, receive, self._limits.request_bytes, patch=patch)
            request = self._whole(data) if body == "*" else self._field(data)
        query = scope.get("query_string", b"")
        given = self._query.bind(query, request) if query else frozenset[str]()
        if self._mask is not None and self._mask.name not in given:
            self._fill_mask(request, data)
        for variable, path in self._variables:
            self._put_variable(request, variable, path, segments)
        return request

    def _whole(self, data: bytes) -> Message[Any]:
        if not data:
            return self._type()
        request = from_json(self._type, data, depth=self._limits.json_depth)
        if self._drop is not None:
            self._drop(request)
        return request

    def _field(self, data: bytes) -> Message[Any]:
        request = self._type()
        path = self._body
        if not data or path is None:
            return request
        depth = self._limits.json_depth
        resource = plain_message_of(path.leaf)
        if resource is None:  # a list, map, scalar or well-known message
            return field_from_json(self._type, path.name, data, depth=depth)
        inner = from_json(resource.type, data, depth=depth, root=path.name)
        if self._drop is not None:
            self._drop(inner)
        path.put(request, inner)
        return request

    def _fill_mask(self, request: Message[Any], data: bytes) -> None:
        mask = self._mask
        if mask is None or self._resource is None:
            return
        paths = ["*"]
        if self.binding.verb == "PATCH":
            changed = changed_paths(self._resource, data, self._bound) if data else []
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
    """The request as the front holds it; `binding` is the route that it came by, for those who log and count."""

    __slots__ = ("_binder", "_call", "_receive", "_scope", "_segments")

    def __init__(self, binder: RequestBinder, call: Call, scope: Scope, receive: Receive, segments: list[str]) -> None:
        self._binder = binder
        self._scope = scope
        self._call = call
        self._receive = receive
        self._segments = segments

    @property
    def binding(self) -> HttpBinding:
        """The route."""
        return self._binder.binding

    async def message(self) -> Message[Any]:
        """Return the request, see `Incoming`."""
        return await self._binder.bind(self._call, self._scope, self._receive, self._segments)

    async def messages(self) -> AsyncIterator[Message[Any]]:
        """Yield the one request: REST has no stream of them."""
        yield await self.message()
