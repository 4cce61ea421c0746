"""The contract's REST side as an OpenAPI 3.1 document, the same bytes each time."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from interlock.contract.comments import comments
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.json_schema import Schemas, is_wanted
from interlock.contract.model import Contract, HttpBinding, Operation, Service
from interlock.contract.openapi_replies import ERROR, META, RESPONSES, SHARED, responses
from interlock.contract.path_template import PathTemplate
from interlock.contract.rest_shape import body_message, query_fields, resolve
from interlock.contract.validation_schema import Schema

_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes the call repeatable: the first answer is kept and given again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def openapi(
    described: Contract | Iterable[Service],
    *,
    images: Iterable[bytes] = (),
    title: str = "",
    version: str = "",
    description: str = "",
) -> Schema:
    """Return the OpenAPI 3.1 document of a contract, or of some services.

    The comments of messages and fields are in the contract's image; beside services, `images` says where. The title
    is the first service's name and the version its API's, unless given.
    """
    if isinstance(described, Contract):
        chosen, images = list(described.services), [described.image, *images]
    else:
        chosen = list(described)
    known = {name: text for image in images for name, text in comments(image).items()}
    schemas = Schemas(known, reserved=(META, ERROR))
    operations = [(service, each) for service in chosen for each in service.operations]
    names = _path_names(each for _, operation in operations for each in operation.http)
    writer = _Writer(names, schemas)
    paths: dict[str, Schema] = {}
    for service, operation in operations:
        if operation.kind.client_streams:
            continue
        for index, binding in enumerate(operation.http):
            item = paths.setdefault(_path(binding.template, names), {})
            item[binding.verb.lower()] = writer.operation(service, operation, index)
    first = chosen[0] if chosen else None
    info: Schema = {
        "title": title or (first.short_name if first else "no services"),
        "version": version or (first.version if first else "") or "1.0",
    }
    if text := description or (first.comment if first and len(chosen) == 1 else ""):
        info["description"] = text
    return {
        "openapi": "3.1.0",
        "info": info,
        "servers": [{"url": "/"}],
        "tags": [{"name": each.short_name} | _maybe("description", each.comment) for each in chosen],
        "security": [{name: []} for name in _SECURITY],
        "paths": paths,
        "components": {
            "schemas": {**SHARED, **schemas.components},
            "responses": RESPONSES,
            "securitySchemes": _SECURITY,
        },
    }


def openapi_json(described: Contract | Iterable[Service], *, images: Iterable[bytes] = (), title: str = "") -> bytes:
    """Return the document as the bytes that `/openapi.json` answers with, the same ones each time."""
    document = openapi(described, images=images, title=title)
    return json.dumps(document, ensure_ascii=False, indent=2).encode()


def _maybe(name: str, value: Any) -> Schema:
    return {name: value} if value else {}


def _path_names(bindings: Iterable[HttpBinding]) -> dict[str, tuple[str, ...]]:
    """Return the variables' names for each shape of path: paths that differ in names only are one to OpenAPI."""
    found: dict[str, tuple[str, ...]] = {}
    for binding in bindings:
        names = tuple(each.field for each in binding.template.variables)
        known = found.setdefault(_shape(binding.template), names)
        if any("." in name for name in known) and not any("." in name for name in names):
            found[_shape(binding.template)] = names
    return found


def _shape(template: PathTemplate) -> str:
    return _fill(template, tuple("" for _ in template.variables))


def _path(template: PathTemplate, names: dict[str, tuple[str, ...]]) -> str:
    return _fill(template, names[_shape(template)])


def _fill(template: PathTemplate, names: tuple[str, ...]) -> str:
    segments: list[str | None] = list(template.segments)
    for variable, name in zip(template.variables, names, strict=True):
        end = len(segments) if variable.end is None else variable.end
        segments[variable.start : end] = [f"{{{name}}}", *[None] * (end - variable.start - 1)]
    path = "/" + "/".join(each for each in segments if each is not None)
    return path + (f":{template.verb}" if template.verb else "")


class _Writer:
    """Writes the operations of one document."""

    def __init__(self, names: dict[str, tuple[str, ...]], schemas: Schemas) -> None:
        self._names = names
        self._schemas = schemas

    def operation(self, service: Service, operation: Operation, index: int) -> Schema:
        """Return one route: the operation's binding at `index`."""
        binding = operation.http[index]
        found: Schema = {
            "operationId": f"{service.short_name}_{operation.name}" + (f"_{index + 1}" if index else ""),
            "tags": [service.short_name],
        }
        found |= _texts(operation)
        found |= _maybe("parameters", [*self._path_parameters(operation, binding), *self._query(operation, binding)])
        found |= _maybe("requestBody", self._request_body(operation, binding))
        found["responses"] = responses(operation, binding, self._schemas)
        if operation.deprecation is not None:
            found["deprecated"] = True
        if operation.unauthenticated:
            found["security"] = []
        return found

    def _path_parameters(self, operation: Operation, binding: HttpBinding) -> Iterator[Schema]:
        template = binding.template
        for variable, name in zip(template.variables, self._names[_shape(template)], strict=True):
            schema = self._schemas.field(resolve(operation.request_type.desc(), variable.field)[-1])
            schema.pop("readOnly", None)
            text = schema.pop("description", "")
            if variable.end != variable.start + 1:
                form = "/".join(template.segments[variable.start : variable.end])
                text = f"{text}\n\nOf the form `{form}`.".strip()
            yield {"name": name, "in": "path", "required": True} | _maybe("description", text) | {"schema": schema}

    def _query(self, operation: Operation, binding: HttpBinding) -> Iterator[Schema]:
        if operation.idempotency is Idempotency.KEYED:
            yield _KEY
        for each in query_fields(operation, binding):
            schema = self._schemas.field(each.fields[-1])
            parameter: Schema = {"name": each.name, "in": "query"}
            parameter |= _maybe("description", schema.pop("description", ""))
            parameter |= _maybe("required", all(map(is_wanted, each.fields)))
            parameter |= _maybe("deprecated", schema.pop("deprecated", False))
            yield parameter | {"schema": schema}

    def _request_body(self, operation: Operation, binding: HttpBinding) -> Schema:
        if not binding.body:
            return {}
        request = operation.request_type.desc()
        in_path = {each.field for each in binding.template.variables}
        if binding.body == "*":
            given = {each for each in in_path if "." not in each}
            schema = self._schemas.fields_of(request, without=given) if given else self._schemas.message(request)
            required = any(is_wanted(each) and each.name not in given for each in request.fields)
        else:
            field = resolve(request, binding.body)[0]
            schema = self._schemas.field(field)
            required = body_message(operation, binding) is not None or is_wanted(field)
        content: Schema = {"schema": schema} | _maybe("examples", _examples(operation, binding, in_path))
        media = {"application/json": content}
        if binding.verb == "PATCH":
            media["application/merge-patch+json"] = {"schema": schema}
        return {"required": required, "content": media}


def _texts(operation: Operation) -> Schema:
    summary, _, rest = operation.comment.partition("\n")
    texts = [rest.strip()]
    if operation.permission:
        texts.append(f"Needs the permission `{operation.permission}`.")
    if operation.errors:
        texts.append(f"Reasons of its own errors: {', '.join(f'`{each}`' for each in operation.errors)}.")
    if (gone := operation.deprecation) is not None:
        since = f" since {gone.since}" if gone.since else ""
        until = f" and stops working on {gone.sunset}" if gone.sunset else ""
        texts.append(f"Deprecated{since}{until}; use {gone.successor}.")
    return _maybe("summary", summary) | _maybe("description", "\n\n".join(filter(None, texts)))


def _examples(operation: Operation, binding: HttpBinding, in_path: Iterable[str]) -> Schema:
    found: Schema = {}
    for example in operation.examples:
        value = json.loads(example.request or "{}")
        if binding.body != "*":
            value = value.get(binding.body, {})
        else:
            value = {name: each for name, each in value.items() if name not in in_path}
        found[example.name] = {"value": value}
    return found
