"""The replies of a REST operation in OpenAPI: the envelope of its success and those of its errors."""

import json
from typing import Any

from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.json_schema import Form, Schemas
from interlock.contract.model import HttpBinding, Operation
from interlock.contract.rest_shape import (
    data_field,
    etag_field,
    message_of,
    must_be_conditional,
    page_field,
    reads_etag,
    sends_raw_body,
    success_status,
    writes_etag,
)
from interlock.contract.validation_schema import Schema

META, ERROR = "ReplyMeta", "ErrorReply"
LINES, EVENTS = "application/x-ndjson", "text/event-stream"

_REQUEST_ID: Schema = {"type": "string", "description": "Names this request in the service's logs."}
_TIMESTAMP: Schema = {"type": "string", "format": "date-time", "description": "When the reply was made."}
_ERROR_META: Schema = {
    "type": "object",
    "properties": {"timestamp": _TIMESTAMP, "request_id": _REQUEST_ID},
    "required": ["timestamp", "request_id"],
}
_DETAIL: Schema = {
    "type": "object",
    "properties": {
        "field": {
            "type": "string",
            "description": "Its path from the request's root.",
            "examples": ["items[0].quantity"],
        },
        "message": {"type": "string", "description": "What is wrong with it."},
    },
    "required": ["field", "message"],
}

SHARED: dict[str, Schema] = {
    META: {
        "type": "object",
        "description": "Facts about a reply.",
        "properties": {
            "timestamp": _TIMESTAMP,
            "version": {"type": "string", "description": "The API's version."},
            "request_id": _REQUEST_ID,
        },
        "required": ["timestamp", "request_id"],
    },
    ERROR: {
        "type": "object",
        "description": "What every error looks like.",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "code": {
                        "type": "string",
                        "description": "The kind of error; goes with the status.",
                        "examples": ["VALIDATION_ERROR"],
                    },
                    "message": {"type": "string", "description": "For people; its words may change."},
                    "reason": {"type": "string", "description": "A stable name to branch on."},
                    "details": {"type": "array", "description": "The fields that are wrong.", "items": _DETAIL},
                },
                "required": ["code", "message", "reason", "details"],
            },
            "meta": _ERROR_META,
        },
        "required": ["error", "meta"],
    },
}

HEADERS: dict[str, Schema] = {
    "RequestId": {"description": _REQUEST_ID["description"], "required": True, "schema": {"type": "string"}},
    "Location": {"description": "Where the new resource stands.", "schema": {"type": "string"}},
    "ETag": {"description": "The state of the resource; goes into `If-Match`.", "schema": {"type": "string"}},
    "RetryAfter": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "RateLimit": {"description": 'What is left: `"default";r=50;t=30`.', "schema": {"type": "string"}},
    "RateLimitPolicy": {"description": 'The limit: `"default";q=100;w=60`.', "schema": {"type": "string"}},
    "Deprecation": {"description": "Since when it is deprecated (RFC 9745).", "schema": {"type": "string"}},
    "Sunset": {"description": "When it stops working (RFC 8594).", "schema": {"type": "string"}},
    "Link": {"description": "What to use instead.", "schema": {"type": "string"}},
    "PreferenceApplied": {"description": "What of `Prefer` was heeded.", "schema": {"type": "string"}},
    "Replayed": {"description": "`true` for an answer that was stored.", "schema": {"type": "string"}},
    "WWWAuthenticate": {"description": "How to show who asks.", "schema": {"type": "string"}},
}
_HEADER_NAMES = {
    "X-Request-Id": "RequestId", "Location": "Location", "ETag": "ETag", "Retry-After": "RetryAfter",
    "RateLimit": "RateLimit", "RateLimit-Policy": "RateLimitPolicy", "Deprecation": "Deprecation", "Sunset": "Sunset",
    "Link": "Link", "Preference-Applied": "PreferenceApplied",
    "Idempotency-Replayed": "Replayed", "WWW-Authenticate": "WWWAuthenticate",
}  # fmt: skip
_ERRORS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "400": ("BadRequest", ("VALIDATION_ERROR", "FAILED_PRECONDITION"),
            "The request is wrong (`details` name the fields), or the system is not in the state it needs."),
    "401": ("Unauthenticated", ("UNAUTHENTICATED",), "No credential, or one that does not verify."),
    "403": ("PermissionDenied", ("PERMISSION_DENIED",), "The caller may not."),
    "404": ("NotFound", ("NOT_FOUND",), "It is not there."),
    "406": ("NotAcceptable", ("NOT_ACCEPTABLE",), "`Accept` excludes what there is."),
    "409": ("Conflict", ("ALREADY_EXISTS", "CONFLICT"),
            "It is there already, or somebody else changed it at the same time."),
    "412": ("PreconditionFailed", ("ETAG_MISMATCH",), "It is no longer what the caller read."),
    "413": ("TooLarge", ("PAYLOAD_TOO_LARGE",), "The body is too large."),
    "415": ("UnsupportedMediaType", ("UNSUPPORTED_MEDIA_TYPE",), "The body's media type or encoding is not known."),
    "422": ("KeyReused", ("KEY_REUSED",), "The idempotency key was used before, for another request."),
    "428": ("PreconditionRequired", ("PRECONDITION_REQUIRED",), "The request must carry `If-Match`."),
    "429": ("RateLimited", ("RATE_LIMITED",), "Too many requests."),
    "500": ("Internal", ("INTERNAL",), "Something broke inside; the service's log has it."),
    "503": ("Unavailable", ("UNAVAILABLE",), "The service cannot answer now; a retry may succeed."),
    "504": ("DeadlineExceeded", ("DEADLINE_EXCEEDED",), "Time ran out before the answer was there."),
    "default": ("Failure", (), "Any other failure."),
}  # fmt: skip


def _headers(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{_HEADER_NAMES[name]}"} for name in names}


def _error(status: str) -> Schema:
    _, codes, description = _ERRORS[status]
    names = ["X-Request-Id"]
    names += ["WWW-Authenticate"] if status == "401" else []
    names += ["Retry-After"] if status in ("429", "503") else []
    names += ["RateLimit", "RateLimit-Policy"] if status == "429" else []
    schema: Schema = {"$ref": f"#/components/schemas/{ERROR}"}
    if codes:
        code = {"properties": {"code": {"enum": list(codes)}}}
        schema = {"allOf": [schema, {"properties": {"error": code}}]}
    return {
        "description": description,
        "headers": _headers(*names),
        "content": {"application/json": {"schema": schema}},
    }


def shared_responses(used: set[str]) -> dict[str, Schema]:
    """Return the components of those error statuses that are in use."""
    return {name: _error(status) for status, (name, *_) in _ERRORS.items() if status in used}


def failures(operation: Operation, binding: HttpBinding) -> list[str]:
    """Return the statuses of a route's errors."""
    keyed = operation.idempotency is Idempotency.KEYED
    wanted = {
        "400": True,
        "401": not operation.unauthenticated,
        "403": bool(operation.permission),
        "404": bool(binding.template.variables) or bool(operation.errors),
        "406": True,
        "409": keyed or binding.verb != "GET",
        "412": writes_etag(operation, binding),
        "413": bool(binding.body),
        "415": bool(binding.body),
        "422": keyed,
        "428": must_be_conditional(operation, binding),
        "429": True,
        "500": True,
        "503": True,
        "504": operation.timeout is not None,
        "default": True,
    }
    return [status for status, is_wanted in wanted.items() if is_wanted]


def responses(operation: Operation, binding: HttpBinding, schemas: Schemas) -> Schema:
    """Return the `responses` of one route."""
    status = success_status(operation, binding)
    found: Schema = {str(status): _success(operation, binding, status, schemas)}
    if may_be_minimal(operation, binding):
        headers = _headers(*_success_headers(operation, binding, 204), "Preference-Applied")
        found["204"] = {"description": "Done, and told no more, as `Prefer` asked.", "headers": headers}
    if reads_etag(operation, binding):
        found["304"] = {"description": "It is still what the caller has.", "headers": _headers("X-Request-Id", "ETag")}
    for each in failures(operation, binding):
        found[each] = {"$ref": f"#/components/responses/{_ERRORS[each][0]}"}
    return found


def may_be_minimal(operation: Operation, binding: HttpBinding) -> bool:
    """Tell whether a route answers `Prefer: return=minimal` (RFC 7240) with 204.

    A creation heeds it too, by a 201 without its body; one status can't be described with a body and without.
    """
    return binding.verb != "GET" and success_status(operation, binding) == 200 and not operation.kind.server_streams


def _success(operation: Operation, binding: HttpBinding, status: int, schemas: Schemas) -> Schema:
    headers = _headers(*_success_headers(operation, binding, status))
    if status == 204:
        return {"description": "Done.", "headers": headers}
    if sends_raw_body(operation, binding):
        return {"description": "The file.", "headers": headers, "content": {"*/*": {"schema": {}}}}
    if operation.kind.server_streams:
        return {
            "description": "The messages, as they come.",
            "headers": headers,
            "content": _stream(operation, schemas),
        }
    body: Schema = {"schema": _envelope(operation, binding, schemas)}
    if examples := _examples(operation, binding):
        body["examples"] = examples
    return {
        "description": "Created." if status == 201 else "Done.",
        "headers": headers,
        "content": {"application/json": body},
    }


def _success_headers(operation: Operation, binding: HttpBinding, status: int) -> list[str]:
    gone = operation.deprecation
    wanted = {
        "X-Request-Id": True,
        "Location": status == 201,
        "ETag": etag_field(operation, binding) is not None,
        "RateLimit": operation.rate_limit is not None,
        "RateLimit-Policy": operation.rate_limit is not None,
        "Deprecation": gone is not None and gone.since is not None,
        "Sunset": gone is not None and gone.sunset is not None,
        "Link": gone is not None,
        "Idempotency-Replayed": operation.idempotency is Idempotency.KEYED,
    }
    return [name for name, is_wanted in wanted.items() if is_wanted]


def _envelope(operation: Operation, binding: HttpBinding, schemas: Schemas) -> Schema:
    reply, field = operation.reply_type.desc(), data_field(operation, binding)
    data = schemas.message(reply) if field is None else schemas.field(field)
    if field is not None and message_of(field) is not None:
        data = {"anyOf": [data, {"type": "null"}]}
    return {
        "type": "object",
        "properties": {"data": data, "meta": _meta(operation, binding, schemas)},
        "required": ["data", "meta"],
    }


def _meta(operation: Operation, binding: HttpBinding, schemas: Schemas) -> Schema:
    meta: Schema = {"$ref": f"#/components/schemas/{META}"}
    reply = operation.reply_type.desc()
    items = page_field(reply)
    if items is None or binding.response_body:
        return meta
    more = schemas.fields_of(reply, Form.REPLY, without=(items.name,))
    kept = {name: more[name] for name in ("type", "properties", "required") if more.get(name)}
    return {"allOf": [meta, kept]}


def _stream(operation: Operation, schemas: Schemas) -> Schema:
    """Return the media types of a stream, each the text of all its messages; `contentSchema` is that of one."""
    one: Schema = {
        "type": "object",
        "properties": {"data": schemas.message(operation.reply_type.desc())},
        "required": ["data"],
    }
    ends = "a failure on the way ends it with"
    texts = {
        LINES: f"A line of JSON for each message; {ends} a line like `ErrorReply`.",
        EVENTS: f"An event for each message; {ends} an event `error` like `ErrorReply`.",
    }
    part = {"contentMediaType": "application/json", "contentSchema": one}
    return {name: {"schema": {"type": "string", "description": text} | part} for name, text in texts.items()}


def _examples(operation: Operation, binding: HttpBinding) -> Schema:
    field = data_field(operation, binding)
    found: Schema = {}
    for example in operation.examples:
        if example.reply:
            value = _as_replied(operation, example.reply)
            meta: Schema = {"timestamp": "2026-01-31T12:00:00.000Z", "request_id": "an-id"}
            if field is not None:
                if not binding.response_body:
                    meta |= {name: each for name, each in value.items() if name != field.name}
                value = value.get(field.name)
            found[example.name] = {"value": {"data": value, "meta": meta}}
    return found


def _as_replied(operation: Operation, reply: str) -> Any:
    """Return an example with all that a reply has, whether its author wrote it down or not."""
    whole = operation.reply_type.from_json(reply)
    return json.loads(whole.to_json(use_proto_field_name=True, always_emit_implicit=True))
