"""An error in the form of Connect: JSON with code, message and details, and the HTTP status of a unary reply."""

import json
from base64 import b64encode
from collections.abc import Iterable
from math import ceil
from typing import Any

from protobuf import Message
from protobuf.wkt.google.protobuf.any_pb import Any as PackedAny

from interlock.contract.gen.google.rpc.error_details_pb import BadRequest, ErrorInfo, RetryInfo
from interlock.contract.gen.interlock.v1.errors_pb import ErrorResponse
from interlock.errors import Code, Error, error_class
from interlock.metadata import Metadata
from interlock.protocols.status import to_status

_SHOWN: tuple[type[Message[Any]], ...] = (ErrorInfo, BadRequest, RetryInfo, ErrorResponse)
_TYPES = {each.desc().type_name: each for each in _SHOWN}

Pairs = list[tuple[bytes, bytes]]


def code_name(code: Code) -> str:
    """Return Connect's name of a code (it spells `canceled` with one l)."""
    return "canceled" if code is Code.CANCELLED else code.name.lower()


def error_json(error: Error, domain: str) -> dict[str, Any]:
    """Return `{"code", "message", "details": [{"type", "value", "debug"}]}`, bounded as on gRPC."""
    status = to_status(error, domain)
    return {
        "code": code_name(error.code),
        "message": status.message,
        "details": [_detail(each) for each in status.details],
    }


def _detail(packed: PackedAny) -> dict[str, Any]:
    name = packed.type_url.rpartition("/")[2]
    detail: dict[str, Any] = {"type": name, "value": b64encode(packed.value).rstrip(b"=").decode()}
    known = _TYPES.get(name)
    if known is not None:
        detail["debug"] = json.loads(known.from_binary(packed.value).to_json())
    return detail


def http_status(error: Error) -> int:
    """Return the HTTP status of a unary reply: by the code alone, whatever the error's own class is."""
    return error_class(error.code).http_status


def error_metadata(error: Error) -> Pairs:
    """Return the metadata of an error in the form of the wire, with whether and when to come back."""
    pairs = list(Metadata(error.metadata).raw)
    if error.final:
        pairs.append((b"grpc-retry-pushback-ms", b"-1"))
    return pairs


def error_response(error: Error, domain: str, head: Iterable[tuple[bytes, bytes]]) -> tuple[int, Pairs, bytes]:
    """Return status, headers and body of a unary reply that failed; `head` is what the call adds."""
    body = to_bytes(error_json(error, domain))
    status = http_status(error)
    headers: Pairs = [(b"content-type", b"application/json"), *head, *error_metadata(error)]
    names = {name for name, _ in headers}
    if status == 401 and b"www-authenticate" not in names:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.retry_after is not None and b"retry-after" not in names:
        headers.append((b"retry-after", b"%d" % max(1, ceil(error.retry_after.total_seconds()))))
    return status, headers, body


def to_bytes(document: dict[str, Any]) -> bytes:
    """Return compact JSON in UTF-8."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
