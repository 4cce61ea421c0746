"""What a Connect client reads of a reply: metadata, errors as JSON, the end of a stream (connectrpc.com/docs/protocol).

Replies come from anybody, so everything in them is bounded and nothing in them is trusted to have its form.
"""

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from protobuf.wkt.google.protobuf.any_pb import Any as PackedAny

from interlock.errors import Code, Error, Internal, InvalidArgument, Unavailable, error_class
from interlock.metadata import Metadata
from interlock.protocols.compression import KNOWN, Compression
from interlock.protocols.json_codec import depth_exceeds
from interlock.protocols.status import from_status

MAX_JSON_DEPTH = 100

_CODES = {"canceled" if code is Code.CANCELLED else code.name.lower(): code for code in Code if code is not Code.OK}

_BY_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}
"""The codes of replies that no Connect server made (connectrpc.com/docs/protocol, HTTP to error code)."""

_TRANSPORT = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"trailer", b"te"),
        *(b"content-type", b"content-length", b"content-encoding", b"accept-encoding", b"vary", b"date", b"server"),
        *(b"connect-content-encoding", b"connect-accept-encoding", b"grpc-retry-pushback-ms", b"alt-svc", b"host"),
    )
)
_TRAILER = b"trailer-"

Pairs = Iterable[tuple[bytes, bytes]]


def metadata_of(headers: Pairs) -> tuple[Metadata, Metadata]:
    """Split header fields into a unary reply's headers and its trailers; what could not be metadata is left out."""
    head: list[tuple[bytes, bytes]] = []
    tail: list[tuple[bytes, bytes]] = []
    for given, value in headers:
        name = given.lower()
        if name in _TRANSPORT or not _sound(name, value):
            continue
        if name.startswith(_TRAILER):
            tail.append((name[len(_TRAILER) :], value))
        else:
            head.append((name, value))
    return Metadata.from_raw(head), Metadata.from_raw(tail)


def _sound(name: bytes, value: bytes) -> bool:
    """Tell whether a field can be metadata: printable ASCII, base64 where its name says so."""
    if not value.isascii() or not value.decode("ascii").isprintable():
        return False
    if name.endswith(b"-bin"):
        try:
            for part in value.split(b","):
                b64decode(_padded(part.strip()), validate=True)
        except ValueError:
            return False
    return True


def _padded(text: bytes) -> bytes:
    return text + b"=" * (-len(text) % 4)


def compression_of(encoding: str) -> Compression | None:
    """Return the compression of that name, None for none; Internal for one that was not offered."""
    if encoding in ("", "identity"):
        return None
    found = KNOWN.get(encoding.lower().encode("latin-1", "replace"))
    if found is None:
        raise Internal(f"the reply is compressed as {encoding!r}, which was not asked for")
    return found


def decompressed(data: bytes, compression: Compression | None, limit: int) -> bytes:
    """Undo a compression; TooLarge beyond `limit` bytes, Internal where the data is broken."""
    if compression is None or not data:
        return data
    try:
        return compression.inflate(data, limit)
    except InvalidArgument as broken:
        raise Internal(broken.message) from broken


def http_error(status: int, headers: Mapping[str, str], text: str = "") -> Error:
    """Return the error for a reply that carries no Connect error, by its HTTP status."""
    code = _BY_HTTP.get(status, Code.UNKNOWN)
    error = error_class(code)(text or f"the answer is HTTP {status}, and no error of Connect's")
    after = headers.get("retry-after", "")
    if isinstance(error, Unavailable) and after.isdecimal() and len(after) < 6:
        error.retry_after = timedelta(seconds=int(after))
    return error


def unary_error(status: int, headers: Mapping[str, str], body: bytes) -> Error:
    """Return the error of a unary reply that is not 200; what its JSON lacks is inferred from the HTTP status."""
    if media_type(headers) != "application/json":
        return http_error(status, headers)
    try:
        document = _json(body)
    except ValueError:
        return http_error(status, headers)
    if not isinstance(document, dict):
        return http_error(status, headers)
    inferred = http_error(status, headers)
    error = _error(document, inferred.code)
    if error.retry_after is None and error.code is Code.UNAVAILABLE:
        error.retry_after = inferred.retry_after
    return error


def end_of_stream(data: bytes) -> tuple[Error | None, Metadata]:
    """Read the last envelope of a stream: its error, None for none, and the trailers; Internal if it has no form."""
    try:
        document = _json(data)
    except ValueError as broken:
        raise Internal("the end of the stream is no JSON") from broken
    if not isinstance(document, dict):
        raise Internal("the end of the stream is no JSON object")
    given = document.get("error")
    error = _error(given, Code.UNKNOWN) if isinstance(given, dict) else None
    if given is not None and error is None:
        raise Internal("the error at the end of the stream is no JSON object")
    return error, Metadata.from_raw([each for each in _pairs(document.get("metadata")) if _sound(*each)])


def _pairs(given: Any) -> Iterator[tuple[bytes, bytes]]:
    """Yield the metadata of an end of stream: names with lists of values, as far as they have that form."""
    for name, values in given.items() if isinstance(given, dict) else ():
        for value in values if isinstance(values, list) else ():
            if isinstance(value, str) and name.isascii() and value.isascii():
                lowered = name.lower().encode()
                if lowered not in _TRANSPORT:
                    yield lowered, value.encode()


def media_type(headers: Mapping[str, str]) -> str:
    """Return the content type without its parameters, in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _json(data: bytes) -> Any:
    """Parse JSON; ValueError where it is none, or nested too deeply."""
    if depth_exceeds(data, MAX_JSON_DEPTH):
        raise ValueError("nested too deeply")
    return json.loads(data)


def _error(document: Mapping[str, Any], inferred: Code) -> Error:
    given, message = document.get("code"), document.get("message")
    code = _CODES.get(given, inferred) if isinstance(given, str) else inferred
    return from_status(code, message if isinstance(message, str) else "", _details(document.get("details")))


def _details(given: Any) -> list[PackedAny]:
    """Return the details that have their form; their `debug` is for people."""
    details: list[PackedAny] = []
    for each in given if isinstance(given, list) else ():
        if isinstance(each, dict) and isinstance(each.get("type"), str) and isinstance(each.get("value"), str):
            try:
                value = b64decode(_padded(each["value"].encode("ascii")), validate=True)
            except ValueError:
                continue
            details.append(PackedAny(type_url=f"type.googleapis.com/{each['type']}", value=value))
    return details
