"""One REST route as an OpenAPI operation: what it takes, who may call it, and what the contract says of it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from protobuf import DescField

from interlock.contract.gen.interlock.v1.options_pb import Exposure, Idempotency
from interlock.contract.json_schema import Form, Schemas, needed_fields, options_of
from interlock.contract.model import HttpBinding, Operation, Service
from interlock.contract.openapi_replies import may_be_minimal, responses
from interlock.contract.path_template import PathTemplate
from interlock.contract.rest_shape import (
    body_message,
    element_of,
    holds_raw_body,
    is_output_only,
    page_field,
    plain_message_of,
    query_fields,
    reads_etag,
    resolve,
    writes_etag,
)
from interlock.contract.validation_schema import Schema

KEY = "IdempotencyKey"
PARAMETERS: dict[str, Schema] = {
    KEY: {
        "name": "Idempotency-Key",
        "in": "header",
        "required": True,
        "description": "Makes the call repeatable: the first answer is kept and given again. New for each operation "
        "that is meant, such as a UUID, and the same when it is tried again.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": "^[!#-~]([ !#-~]*[!#-~])?$",
        },
        "example": "6f1c2a34-5b6d-4e7f-8091-a2b3c4d5e6f7",
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": "The `ETag` that the caller read: refused with 412 if the resource is another by now.",
        "schema": {"type": "string", "anyOf": [{"const": "*"}, {"pattern": '^"[!#-~]*"(, *"[!#-~]*"){0,7}$'}]},
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The `ETag` that the caller has: 304 without a body if the resource is still that one.",
        "schema": {"type": "string", "anyOf": [{"const": "*"}, {"pattern": '^(W/)?"[!#-~]*"$'}]},
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "`return=minimal` leaves the body out (RFC 7240).",
        "schema": {"type": "string", "examples": ["return=minimal"]},
    },
}
_MERGE_PATCH = "application/merge-patch+json"


class OperationWriter:
    """Writes the operations of one document.

    `names` gives the variables' names for each shape of path, `labels` what each service is called.
    """

    def __init__(self, names: dict[str, tuple[str, ...]], schemas: Schemas, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self.names = names
        self._schemas = schemas

    def operation(self, service: Service, operation: Operation, index: int) -> Schema:
        """Return one route: the operation's binding at `index`."""
        binding = operation.http[index]
        found: Schema = {
            "operationId": f"{self._labels[service.name]}_{operation.name}" + (f"_{index + 1}" if index else ""),
            "tags": [self._labels[service.name]],
        }
        found |= _texts(operation)
        parameters = [
            *self._path_parameters(operation, binding),
            *self._query(operation, binding),
            *self._headers(operation, binding),
        ]
        found |= _maybe("parameters", parameters)
        found |= _maybe("requestBody", self._request_body(operation, binding))
        found["responses"] = responses(operation, binding, self._schemas)
        if operation.deprecation is not None:
            found["deprecated"] = True
        if operation.unauthenticated:
            found["security"] = []
        return found | _facts(service, operation, binding)

    def _path_parameters(self, operation: Operation, binding: HttpBinding) -> Iterator[Schema]:
        template = binding.template
        for variable, name in zip(template.variables, self.names[shape(template)], strict=True):
            field = resolve(operation.request_type.desc(), variable.field)[-1]
            parameter = self._parameter(name, "path", field, required=True)
            schema = parameter["schema"]
            if variable.end != variable.start + 1:
                form = "/".join(template.segments[variable.start : variable.end])
                parameter["description"] = f"{parameter.get('description', '')}\n\nOf the form `{form}`.".strip()
                schema |= {"pattern": _form_pattern(form)} if "pattern" not in schema else {}
            elif schema.get("type") == "string" and "format" not in schema and "enum" not in schema:
                schema["minLength"] = max(1, schema.get("minLength", 1))
            yield parameter

    def _query(self, operation: Operation, binding: HttpBinding) -> Iterator[Schema]:
        for each in query_fields(operation, binding):
            needed = all(one.name in needed_fields(one.parent) for one in each.fields)
            parameter = self._parameter(each.name, "query", each.fields[-1], required=needed)
            if len(each.fields) == 1 and each.name in ("filter", "order_by"):
                _name_fields(parameter, operation, "filterable" if each.name == "filter" else "sortable")
            yield parameter

    def _parameter(self, name: str, place: str, field: DescField, *, required: bool) -> Schema:
        schema = self._schemas.parameter(field)
        schema.pop("readOnly", None)
        parameter: Schema = {"name": name, "in": place} | _maybe("required", required)
        parameter |= _maybe("description", schema.pop("description", ""))
        parameter |= _maybe("deprecated", schema.pop("deprecated", False))
        examples = schema.pop("examples", [])
        return parameter | {"schema": schema} | ({"example": examples[0]} if examples else {})

    def _headers(self, operation: Operation, binding: HttpBinding) -> Iterable[Schema]:
        wanted = {
            KEY: operation.idempotency is Idempotency.KEYED,
            "IfMatch": writes_etag(operation, binding),
            "IfNoneMatch": reads_etag(operation, binding),
            "Prefer": may_be_minimal(operation, binding),
        }
        return (PARAMETERS[name] for name, is_taken in wanted.items() if is_taken)

    def _request_body(self, operation: Operation, binding: HttpBinding) -> Schema:
        if not binding.body:
            return {}
        if holds_raw_body(operation, binding):
            return {"content": {"*/*": {"schema": {}}}}
        request = operation.request_type.desc()
        in_path = {each.field for each in binding.template.variables}
        if binding.body == "*":
            given = frozenset(each for each in in_path if "." not in each)
            schema = self._body(request, Form.INPUT, given)
            return self._json(binding, schema, bool(needed_fields(request) - given), _examples(operation, binding))
        field = resolve(request, binding.body)[0]
        resource = plain_message_of(field)
        required = resource is not None or field.name in needed_fields(request)
        if resource is None or body_message(operation, binding) is None:
            return self._json(binding, self._schemas.field(field, Form.INPUT), required, _examples(operation, binding))
        inside = {each.removeprefix(f"{field.name}.") for each in in_path if each.startswith(f"{field.name}.")}
        by_name = {each.name: each for each in resource.fields}
        given = frozenset(each for each in inside if each in by_name and not is_output_only(by_name[each]))
        schema = self._body(resource, Form.PATCH if binding.verb == "PATCH" else Form.INPUT, given)
        return self._json(binding, schema, required, _examples(operation, binding))

    def _body(self, message: Any, form: Form, given: frozenset[str]) -> Schema:
        """Return the schema of a body, without what the path gives."""
        return self._schemas.fields_of(message, form, given) if given else self._schemas.message(message, form)

    def _json(self, binding: HttpBinding, schema: Schema, required: bool, examples: Schema) -> Schema:
        media = {"application/json": {"schema": schema} | _maybe("examples", examples)}
        if binding.verb == "PATCH":
            media[_MERGE_PATCH] = {"schema": schema}
        return {"required": required, "content": media}


def shape(template: PathTemplate) -> str:
    """Return a template without the names of its variables: paths that differ in those only are one to OpenAPI."""
    return fill(template, tuple("" for _ in template.variables))


def fill(template: PathTemplate, names: tuple[str, ...]) -> str:
    """Return a template as OpenAPI writes it, with these names of its variables."""
    segments: list[str | None] = list(template.segments)
    for variable, name in zip(template.variables, names, strict=True):
        end = len(segments) if variable.end is None else variable.end
        segments[variable.start : end] = [f"{{{name}}}", *[None] * (end - variable.start - 1)]
    path = "/" + "/".join(each for each in segments if each is not None)
    return path + (f":{template.verb}" if template.verb else "")


def _form_pattern(form: str) -> str:
    parts = {"*": "[^/]+", "**": ".*"}
    return "^" + "/".join(parts.get(each, each.replace(".", r"\.")) for each in form.split("/")) + "$"


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
    return {"summary": summary or _spaced(operation.name)} | _maybe("description", "\n\n".join(filter(None, texts)))


def _spaced(name: str) -> str:
    return "".join(f" {each.lower()}" if each.isupper() and index else each for index, each in enumerate(name))


def _facts(service: Service, operation: Operation, binding: HttpBinding) -> Schema:
    """Return what the contract says that OpenAPI has no word for."""
    limit, gone = operation.rate_limit, operation.deprecation
    promised = {
        "latency_p95_seconds": seconds.total_seconds() if (seconds := operation.objectives.latency_p95) else None,
        "success_ratio": operation.objectives.success_ratio,
        "requests_per_second": operation.objectives.requests_per_second,
    }
    facts: Schema = {
        "rpc": operation.path,
        "permission": operation.permission,
        "external": operation.exposure is Exposure.EXTERNAL,
        "owner": service.owner,
        "tier": operation.tier.name,
        "idempotency": operation.idempotency.name,
        "timeout": operation.timeout.total_seconds() if operation.timeout is not None else None,
        "rate-limit": {"requests": limit.requests, "seconds": limit.per.total_seconds()} if limit else None,
        "reasons": list(operation.errors),
        "objectives": {name: value for name, value in promised.items() if value},
        "deprecation": gone
        and {
            name: str(value)
            for name, value in (("since", gone.since), ("sunset", gone.sunset), ("successor", gone.successor))
            if value
        },
        "pagination": _pagination(operation),
        "streams": operation.kind.server_streams,
        "excluding": _excluding(operation, binding),
    }
    return {f"x-interlock-{name}": value for name, value in facts.items() if value}


def _pagination(operation: Operation) -> Schema | None:
    items = page_field(operation.reply_type.desc())
    asked = {each.name for each in operation.request_type.desc().fields}
    if items is None or "page_token" not in asked:
        return None
    size = {"size": "page_size"} if "page_size" in asked else {}
    return {**size, "token": "page_token", "next": "meta.next_page_token", "items": "data"}


def _excluding(operation: Operation, binding: HttpBinding) -> list[list[str]]:
    """Return the query parameters of which at most one may be given."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in query_fields(operation, binding):
        oneof = getattr(each.fields[-1].value, "oneof", None)
        if oneof is not None:
            groups.setdefault((each.name.rpartition(".")[0], oneof.name), []).append(each.name)
    return [names for names in groups.values() if len(names) > 1]


def _name_fields(parameter: Schema, operation: Operation, fact: str) -> None:
    """Name the fields that a list is filtered or ordered by."""
    items = page_field(operation.reply_type.desc())
    resource = element_of(items) if items is not None else None
    fields = getattr(resource, "fields", ())
    names = [each.name for each in fields if (own := options_of(each)) is not None and getattr(own, fact)]
    if names:
        parameter[f"x-interlock-{fact}"] = names


def _examples(operation: Operation, binding: HttpBinding) -> Schema:
    in_path: Iterable[str] = {each.field for each in binding.template.variables}
    found: Schema = {}
    for example in operation.examples:
        value = json.loads(example.request or "{}")
        if binding.body != "*":
            value = value.get(binding.body, {})
        else:
            value = {name: each for name, each in value.items() if name not in in_path}
        found[example.name] = {"value": value}
    return found


def _maybe(name: str, value: Any) -> Schema:
    return {name: value} if value else {}
