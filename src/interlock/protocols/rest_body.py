"""The body of a REST request: its media type judged, its bytes read within their bound."""

import asyncio
import re
from functools import lru_cache

from interlock.call import Call
from interlock.errors import TooLarge, UnsupportedMediaType
from interlock.metadata import Metadata
from interlock.protocols.grpc_server import Receive, Scope
from interlock.protocols.grpc_wire import gunzipped
from interlock.protocols.serving import left

JSON = b"application/json"
MERGE_PATCH = b"application/merge-patch+json"
_MEDIA_TYPE = re.compile(rb"([^;\s]+)\s*(?:;\s*charset\s*=\s*\"?([^\s\";]+)\"?\s*)?\Z", re.IGNORECASE)


@lru_cache(256)
def media_type(value: bytes) -> bytes:
    """Return the lower-case media type of a Content-Type; UnsupportedMediaType for a charset but UTF-8."""
    match = _MEDIA_TYPE.match(value.strip()[:200])
    if match is None:
        return b""
    if match[2] is not None and match[2].lower() not in (b"utf-8", b"utf8"):
        raise UnsupportedMediaType("JSON must be in UTF-8")
    return match[1].lower()


def check_content(metadata: Metadata, *, patch: bool) -> bool:
    """Refuse a body that is no JSON, or in an unknown encoding; tell whether it is compressed."""
    content_type = metadata.header(b"content-type")
    if content_type != JSON:
        known = (JSON, MERGE_PATCH) if patch else (JSON,)
        if content_type is None or media_type(content_type) not in known:
            names = " or ".join(each.decode() for each in known)
            raise UnsupportedMediaType(f"the body must be {names}, and Content-Type must say so")
    encoding = metadata.header(b"content-encoding")
    if encoding is None or encoding == b"identity":
        return False
    if encoding.lower() == b"gzip":
        return True
    raise UnsupportedMediaType("Content-Encoding must be gzip or identity")


async def read_body(call: Call, receive: Receive, limit: int, *, patch: bool) -> bytes:
    """Return the body, decompressed; empty where there is none. No more than `limit` bytes are read or inflated."""
    length = call.metadata.header(b"content-length")
    if length is not None and length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise TooLarge(f"the body is larger than the limit of {limit} bytes")
    body, more = await _next(call, receive)
    while more and not body:
        body, more = await _next(call, receive)
    if not body:
        return body
    compressed = check_content(call.metadata, patch=patch)
    if more:
        body = await _whole(call, body, receive, limit)
    if len(body) > limit:
        raise TooLarge(f"the body is larger than the limit of {limit} bytes")
    return gunzipped(body, limit) if compressed else body


async def _next(call: Call, receive: Receive) -> tuple[bytes, bool]:
    event = await receive()
    if event["type"] == "http.disconnect":
        raise left(call)
    return event.get("body", b""), event.get("more_body", False)


async def _whole(call: Call, body: bytes, receive: Receive, limit: int) -> bytes:
    whole = bytearray(body)
    more = True
    while more and len(whole) <= limit:
        body, more = await _next(call, receive)
        whole += body
    return bytes(whole)


async def discard(metadata: Metadata, receive: Receive, limit: int = 16 * 1024 * 1024, seconds: float = 5.0) -> None:
    """Read on past a refused body, so that a caller that sends before it reads sees the refusal.

    Only where the head says how long the body is, and it is not longer than `limit` bytes.
    """
    length = metadata.header(b"content-length")
    if length is None or not length.isdigit() or len(length) > 18 or int(length) > limit:
        return
    try:
        async with asyncio.timeout(seconds):
            event = await receive()
            while event["type"] != "http.disconnect" and event.get("more_body"):
                event = await receive()
    except TimeoutError:
        return


def announces_body(metadata: Metadata) -> bool:
    """Tell whether the head of a request says that a body follows."""
    length = metadata.header(b"content-length")
    return metadata.header(b"transfer-encoding") is not None if length is None else length != b"0"


async def has_body(call: Call, scope: Scope, receive: Receive) -> bool:
    """Tell whether a request has a body: HTTP/1 announces one in its head, later versions may just send it."""
    if announces_body(call.metadata):
        return True
    if scope.get("http_version", "1.1") in ("1.1", "1.0"):
        return False
    body, more = await _next(call, receive)
    return more or bool(body)
