"""The replies of a REST operation in OpenAPI: the envelope of its success and those of its errors."""

import json
from typing import Any

from interlock.contract.json_schema import Schemas
from interlock.contract.model import HttpBinding, Operation
from interlock.contract.rest_shape import data_field, page_field, success_status
from interlock.contract.validation_schema import Schema

META, ERROR = "ReplyMeta", "ErrorReply"

_REQUEST_ID: Schema = {"type": "string", "description": "Names this request in the service's logs."}
_TIMESTAMP: Schema = {"type": "string", "format": "date-time"}
_ID_HEADER: Schema = {"X-Request-Id": {"description": _REQUEST_ID["description"], "schema": {"type": "string"}}}
_RETRY: Schema = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_LOCATION: Schema = {"Location": {"description": "Where the new resource stands.", "schema": {"type": "string"}}}

SHARED: dict[str, Schema] = {
    META: {
        "type": "object",
        "properties": {
            "timestamp": _TIMESTAMP,
            "version": {"type": "string", "description": "The API's version."},
            "request_id": _REQUEST_ID,
        },
        "required": ["timestamp", "request_id"],
    },
    ERROR: {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "code": {"type": "string", "examples": ["VALIDATION_ERROR"]},
                    "message": {"type": "string"},
                    "reason": {"type": "string", "description": "A stable name to branch on."},
                    "details": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "field": {"type": "string", "examples": ["items[0].quantity"]},
                                "message": {"type": "string"},
                            },
                            "required": ["field", "message"],
                        },
                    },
                },
                "required": ["code", "message", "reason", "details"],
            },
            "meta": {
                "type": "object",
                "properties": {"timestamp": _TIMESTAMP, "request_id": _REQUEST_ID},
                "required": ["timestamp", "request_id"],
            },
        },
        "required": ["error", "meta"],
    },
}

_NAMES = {
    "400": ("BadRequest", "The request is wrong; `details` name the fields."),
    "401": ("Unauthenticated", "No credential, or one that does not verify."),
    "403": ("PermissionDenied", "The caller may not."),
    "404": ("NotFound", "It is not there."),
    "409": ("Conflict", "It is there already, or somebody else changed it at the same time."),
    "412": ("PreconditionFailed", "It is no longer what the caller read."),
    "413": ("TooLarge", "The body is too large."),
    "415": ("UnsupportedMediaType", "The body is no JSON in UTF-8."),
    "429": ("RateLimited", "Too many requests."),
    "default": ("Failure", "Any other failure."),
}


def _error(status: str, description: str) -> Schema:
    headers = _ID_HEADER | (_RETRY if status == "429" else {})
    if status == "401":
        headers = headers | {"WWW-Authenticate": {"schema": {"type": "string"}}}
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{ERROR}"}}}
    return {"description": description, "headers": headers, "content": content}


RESPONSES: dict[str, Schema] = {name: _error(status, text) for status, (name, text) in _NAMES.items()}


def responses(operation: Operation, binding: HttpBinding, schemas: Schemas) -> Schema:
    """Return the `responses` of one route."""
    status = success_status(operation, binding)
    found: Schema = {str(status): _success(operation, binding, status, schemas)}
    for each in _failures(operation, binding):
        found[each] = {"$ref": f"#/components/responses/{_NAMES[each][0]}"}
    return found


def _failures(operation: Operation, binding: HttpBinding) -> list[str]:
    wanted = {
        "400": True,
        "401": not operation.unauthenticated,
        "403": bool(operation.permission),
        "404": bool(binding.template.variables),
        "409": binding.verb in ("POST", "PUT", "PATCH"),
        "412": any(each.name == "etag" for each in operation.reply_type.desc().fields) and binding.verb != "GET",
        "413": bool(binding.body),
        "415": bool(binding.body),
        "429": operation.rate_limit is not None,
        "default": True,
    }
    return [status for status, is_wanted in wanted.items() if is_wanted]


def _success(operation: Operation, binding: HttpBinding, status: int, schemas: Schemas) -> Schema:
    reply = operation.reply_type.desc()
    if status == 204:
        return {"description": "Done.", "headers": _ID_HEADER}
    if operation.kind.server_streams:
        line = {"type": "object", "properties": {"data": schemas.message(reply)}, "required": ["data"]}
        content = {"application/x-ndjson": {"schema": line}}
        return {"description": "A line of JSON for each message.", "headers": _ID_HEADER, "content": content}
    field = data_field(operation, binding)
    envelope: Schema = {
        "type": "object",
        "properties": {
            "data": schemas.message(reply) if field is None else schemas.field(field),
            "meta": _meta(operation, binding, schemas),
        },
        "required": ["data", "meta"],
    }
    body: Schema = {"schema": envelope}
    if examples := _examples(operation, binding):
        body["examples"] = examples
    return {
        "description": "Created." if status == 201 else "Done.",
        "headers": _ID_HEADER | (_LOCATION if status == 201 else {}),
        "content": {"application/json": body},
    }


def _meta(operation: Operation, binding: HttpBinding, schemas: Schemas) -> Schema:
    meta: Schema = {"$ref": f"#/components/schemas/{META}"}
    reply = operation.reply_type.desc()
    items = page_field(reply)
    if items is None or binding.response_body:
        return meta
    more = {each.name: schemas.field(each) for each in reply.fields if each is not items}
    return {"allOf": [meta, {"type": "object", "properties": more}]}


def _examples(operation: Operation, binding: HttpBinding) -> Schema:
    field = data_field(operation, binding)
    found: Schema = {}
    for example in operation.examples:
        if example.reply:
            value: Any = json.loads(example.reply)
            meta: Schema = {"timestamp": "2026-01-31T12:00:00.000Z", "request_id": "an-id"}
            if field is not None:
                if not binding.response_body:
                    meta |= {name: each for name, each in value.items() if name != field.name}
                value = value.get(field.name)
            found[example.name] = {"value": {"data": value, "meta": meta}}
    return found
