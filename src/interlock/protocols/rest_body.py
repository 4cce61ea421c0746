"""The body of a REST request: its media type judged, its bytes read within their bound, decompressed."""

import asyncio
import re
from functools import lru_cache

from interlock.call import Call
from interlock.errors import TooLarge, UnsupportedMediaType
from interlock.metadata import Metadata
from interlock.protocols.compression import KNOWN, NAMES, Compression
from interlock.protocols.serving import Receive, Scope, left

JSON = b"application/json"
MERGE_PATCH = b"application/merge-patch+json"
_MEDIA_TYPE = re.compile(rb"([^;\s]+)\s*(?:;\s*charset\s*=\s*\"?([^\s\";]+)\"?\s*)?\Z", re.IGNORECASE)

READ_ON = (128 << 20, 5.0)
"""Bytes and seconds that a refused body is read past, so that a caller who sends before it reads sees the refusal."""
READ_ON_OF_STRANGERS = (4 << 20, 1.0)
"""The same for a caller who was not let in: what a sound request has, and no more."""


@lru_cache(256)
def media_type(value: bytes) -> bytes:
    """Return the lower-case media type of a Content-Type; UnsupportedMediaType for a charset but UTF-8."""
    match = _MEDIA_TYPE.match(value.strip()[:200])
    if match is None:
        return b""
    if match[2] is not None and match[2].lower() not in (b"utf-8", b"utf8"):
        raise UnsupportedMediaType("JSON must be in UTF-8")
    return match[1].lower()


def check_type(metadata: Metadata, known: tuple[bytes, ...]) -> None:
    """Refuse a body that is none of the media types `known`."""
    content_type = metadata.header(b"content-type")
    if content_type != JSON and (content_type is None or media_type(content_type) not in known):
        names = " or ".join(each.decode() for each in known)
        raise UnsupportedMediaType(f"the body must be {names}, and Content-Type must say so")


def is_merge_patch(metadata: Metadata) -> bool:
    """Tell whether the body is a merge patch (RFC 7396)."""
    content_type = metadata.header(b"content-type")
    return content_type is not None and content_type != JSON and media_type(content_type) == MERGE_PATCH


def compression_of(metadata: Metadata) -> Compression | None:
    """Return what a body is compressed in, None for nothing; UnsupportedMediaType for what is not known here."""
    encoding = metadata.header(b"content-encoding")
    if encoding is None or encoding == b"identity":
        return None
    found = KNOWN.get(encoding.strip().lower())
    if found is None:
        names = NAMES.decode()
        accepted = (("accept-encoding", names),)  # RFC 9110 §12.5.3
        raise UnsupportedMediaType(f"Content-Encoding must be identity or one of {names}", metadata=accepted)
    return found


async def read_body(call: Call, receive: Receive, limit: int, known: tuple[bytes, ...]) -> bytes:
    """Return the body, decompressed; empty where there is none. No more than `limit` bytes are read or inflated.

    `known` are the media types it may be of, none for any.
    """
    metadata = call.metadata
    length = metadata.header(b"content-length")
    if length is not None and length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise TooLarge(f"the body is larger than the limit of {limit} bytes")
    body, more = await _next(call, receive)
    while more and not body:
        body, more = await _next(call, receive)
    if not body:
        return body
    if known:
        check_type(metadata, known)
    compression = compression_of(metadata)
    if more:
        body = await _whole(call, body, receive, limit)
    if len(body) > limit:
        raise TooLarge(f"the body is larger than the limit of {limit} bytes")
    if compression is not None:
        body = compression.inflate(body, limit)
    call.request_bytes = len(body)
    return body


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


def may_follow(metadata: Metadata, scope: Scope) -> bool:
    """Tell whether a body may still be on its way that a caller sends before it reads the answer.

    A caller that asked for `100 Continue` has not begun.
    """
    if metadata.header(b"expect") is not None:
        return False
    if announces_body(metadata):
        return True
    return scope["method"] not in ("GET", "HEAD", "OPTIONS") and scope.get("http_version", "1.1")[:1] != "1"


def closing_after(metadata: Metadata, scope: Scope, *, admitted: bool) -> tuple[tuple[bytes, bytes], ...]:
    """Return the header that announces the end of an HTTP/1.1 connection whose refused body may not be read whole."""
    if admitted or scope.get("http_version", "1.1")[:1] != "1":
        return ()
    length = metadata.header(b"content-length")
    bounded = length is not None and length.isdigit() and len(length) < 18 and int(length) <= READ_ON_OF_STRANGERS[0]
    return () if bounded else ((b"connection", b"close"),)


async def read_on(receive: Receive, *, admitted: bool) -> None:
    """Read past a body whose request was refused, behind the answer and before its end, within the bounds above.

    A server that is told that the response is over resets the stream (RFC 9113 §8.1) or the connection, and some
    clients then lose what they have not read yet.
    """
    left_to_read, seconds = READ_ON if admitted else READ_ON_OF_STRANGERS
    try:
        async with asyncio.timeout(seconds):
            while left_to_read > 0:
                event = await receive()
                if event["type"] != "http.request" or not event.get("more_body"):
                    return
                left_to_read -= len(event.get("body", b""))
    except TimeoutError:
        return
