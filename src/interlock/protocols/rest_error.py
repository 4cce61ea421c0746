"""An error as a REST response: the one envelope of every refusal, the server's own included."""

import json
import logging
from collections.abc import Sequence
from math import ceil

from interlock.errors import Error, MethodNotAllowed
from interlock.metadata import Metadata
from interlock.protocols.rest_reply import Headers
from interlock.protocols.status import MAX_VIOLATIONS, clip
from interlock.stamps import timestamp

log = logging.getLogger("interlock")

_COMES_BACK = (429, 503)


def error_body(error: Error, request_id: str) -> bytes:
    """Return `{"error": {…}, "meta": {…}}`; at most 32 details, their texts clipped."""
    shown = {
        "code": error.rest_code,
        "message": clip(error.message),
        "reason": clip(error.reason, 64),
        "details": [
            {"field": clip(each.field, 256), "message": clip(each.description, 512)}
            for each in error.violations[:MAX_VIOLATIONS]
        ],
    }
    whole = {"error": shown, "meta": {"timestamp": timestamp(), "request_id": request_id}}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def error_response(
    error: Error, request_id: str, reply_headers: Sequence[tuple[bytes, bytes]] = ()
) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of an error; `reply_headers` are what the call had set before it failed."""
    body = error_body(error, request_id)
    status = error.http_status
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        *reply_headers,
    ]
    try:
        headers.extend(Metadata(error.metadata).raw)
    except ValueError:
        log.exception("the metadata of an error can't be sent")
    names = {name for name, _ in headers}
    if status == 401 and b"www-authenticate" not in names:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allow).encode()))
    if b"retry-after" not in names and (error.retry_after is not None or status in _COMES_BACK):
        seconds = ceil(error.retry_after.total_seconds()) if error.retry_after is not None else 1
        headers.append((b"retry-after", b"%d" % max(1, seconds)))
    return status, headers, body
