"""The error envelope: `{"error": {code, message, details[{field, message}]}, "meta": {timestamp, request_id}}`."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from interlock.contract.mistakes import Mistake
from interlock.standards.live.exchange import Answer

_CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*\Z")
REMEDY = (
    'answer {"error": {code, message, details: [{field, message}]}, "meta": {timestamp, request_id}}, whoever refuses'
)


def envelope_breaches(answer: Answer) -> Iterator[Mistake]:
    """Yield what is missing or wrong in the envelope of an error; one finding an answer."""
    if wrong := list(_wrong(answer)):
        yield Mistake(answer.source, f"the error {answer.status} {'; '.join(wrong)}", REMEDY)


def _wrong(answer: Answer) -> Iterator[str]:
    if not isinstance(answer.json, dict):
        yield "has an empty body" if not answer.body else "is no JSON object"
        return
    if answer.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        yield f"has the content type {answer.headers.get('content-type', '')!r}"
    error, meta = answer.json.get("error"), answer.json.get("meta")
    if isinstance(error, dict):
        yield from _error(error)
    else:
        yield "has no object `error`"
    if isinstance(meta, dict):
        yield from _meta(meta)
    else:
        yield "has no object `meta`"


def _error(error: Mapping[str, Any]) -> Iterator[str]:
    code = error.get("code")
    if not isinstance(code, str) or not _CODE.match(code):
        yield "has no `error.code` in UPPER_SNAKE_CASE"
    if not isinstance(error.get("message"), str) or not error["message"]:
        yield "has no `error.message`"
    details = error.get("details")
    if not isinstance(details, list):
        yield "has no list `error.details`"
    elif not all(isinstance(each, dict) and {"field", "message"} <= each.keys() for each in details):
        yield "has `error.details` that are not {field, message}"


def _meta(meta: Mapping[str, Any]) -> Iterator[str]:
    try:
        if datetime.fromisoformat(meta.get("timestamp") or "").tzinfo is None:
            yield "has a `meta.timestamp` without a time zone"
    except (TypeError, ValueError):
        yield "has no `meta.timestamp` (RFC 3339)"
    if not isinstance(meta.get("request_id"), str) or not meta["request_id"]:
        yield "has no `meta.request_id`"
