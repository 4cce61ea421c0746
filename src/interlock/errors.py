"""Errors as callers see them: one tree of exceptions, one table of codes.

`Code` is gRPC's; the table beside it fixes the HTTP status and the REST name of each. A subclass may carry an
HTTP status and a REST name of its own (`EtagMismatch` is ABORTED on RPC, 412 on REST).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """gRPC's status codes (grpc/doc/statuscodes.md); the value is the number on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


UNPROCESSED = ("interlock-unprocessed", "true")
"""Metadata of a refusal before anything was done for the call (shedding, rate limit): repeating it is safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One field that is wrong: its path from the request's root (`items[0].quantity`) and what is wrong with it."""

    field: str
    description: str


class Error(Exception):
    """An error that a caller may see: code, message, reason and the fields at fault.

    `message` reaches the caller, so it must hold no secret and no internal detail; what is only for the log goes
    into `raise … from cause`. `reason` is a stable UPPER_SNAKE_CASE name that clients may branch on; without one
    it is the REST name of the code. `retry_after` asks the caller to wait; `metadata` is sent with the trailers.
    """

    code: ClassVar[Code] = Code.UNKNOWN
    http_status: ClassVar[int] = 500
    rest_code: ClassVar[str] = "INTERNAL"
    event: ClassVar[str] = ""
    """What a trace notes where it was raised; empty for nothing."""
    unsent: bool = False
    """Whether it provably came before the call was sent, so that any operation may be tried again."""

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
        metadata: Sequence[tuple[str, str | bytes]] = (),
        domain: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.rest_code
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.metadata = tuple(metadata)
        self.domain = domain
        self.received = False
        self.final = False

    def __str__(self) -> str:
        fields = "; ".join(f"{each.field}: {each.description}" for each in self.violations)
        text = f"{self.code.name}: {self.message}" if self.message else self.code.name
        return f"{text} ({fields})" if fields else text


class InvalidArgument(Error):
    """The request is wrong whatever the state of the system; `violations` name the fields."""

    code, http_status, rest_code = Code.INVALID_ARGUMENT, 400, "VALIDATION_ERROR"


class OutOfRange(Error):
    """The request went past the end of what there is."""

    code, http_status, rest_code = Code.OUT_OF_RANGE, 400, "VALIDATION_ERROR"


class FailedPrecondition(Error):
    """The system is not in the state that the request needs; repeating it does not help."""

    code, http_status, rest_code = Code.FAILED_PRECONDITION, 400, "FAILED_PRECONDITION"


class Unauthenticated(Error):
    """Who asks is not known: no credential, or one that does not verify."""

    code, http_status, rest_code = Code.UNAUTHENTICATED, 401, "UNAUTHENTICATED"


class PermissionDenied(Error):
    """Who asks is known and may not."""

    code, http_status, rest_code = Code.PERMISSION_DENIED, 403, "PERMISSION_DENIED"


class NotFound(Error):
    """What was asked for is not there."""

    code, http_status, rest_code = Code.NOT_FOUND, 404, "NOT_FOUND"


class AlreadyExists(Error):
    """What should be created is there already."""

    code, http_status, rest_code = Code.ALREADY_EXISTS, 409, "ALREADY_EXISTS"


class Aborted(Error):
    """Somebody else changed the same thing at the same time; read again, then retry."""

    code, http_status, rest_code = Code.ABORTED, 409, "CONFLICT"


class ResourceExhausted(Error):
    """A limit is used up; `retry_after` says when to come back."""

    code, http_status, rest_code = Code.RESOURCE_EXHAUSTED, 429, "RATE_LIMITED"


class Cancelled(Error):
    """The caller gave up."""

    code, http_status, rest_code = Code.CANCELLED, 499, "CANCELLED"


class DeadlineExceeded(Error):
    """Time ran out before the answer was there."""

    code, http_status, rest_code = Code.DEADLINE_EXCEEDED, 504, "DEADLINE_EXCEEDED"


class Unimplemented(Error):
    """The operation is not offered here."""

    code, http_status, rest_code = Code.UNIMPLEMENTED, 501, "UNIMPLEMENTED"


class Unavailable(Error):
    """The service cannot answer now; a retry may succeed."""

    code, http_status, rest_code = Code.UNAVAILABLE, 503, "UNAVAILABLE"


class Internal(Error):
    """Something broke inside; the details stand in the service's log."""

    code, http_status, rest_code = Code.INTERNAL, 500, "INTERNAL"


class Unknown(Error):
    """An error of which nothing is known."""

    code, http_status, rest_code = Code.UNKNOWN, 500, "INTERNAL"


class DataLoss(Error):
    """Data is lost or corrupt beyond repair."""

    code, http_status, rest_code = Code.DATA_LOSS, 500, "INTERNAL"


class RouteNotFound(Unimplemented):
    """No operation stands at that path: UNIMPLEMENTED on RPC, 404 on REST."""

    http_status, rest_code = 404, "NOT_FOUND"


class MethodNotAllowed(Unimplemented):
    """The path exists, not with this HTTP method (RFC 9110 §15.5.6); `allow` lists those it has."""

    http_status, rest_code = 405, "METHOD_NOT_ALLOWED"

    allow: tuple[str, ...] = ()


class NotAcceptable(InvalidArgument):
    """None of the media types that the caller accepts can be produced (RFC 9110 §15.5.7)."""

    http_status, rest_code = 406, "NOT_ACCEPTABLE"


class EtagMismatch(Aborted):
    """The resource is no longer the one that the caller read (RFC 9110 §15.5.13)."""

    http_status, rest_code = 412, "ETAG_MISMATCH"


class TooLarge(ResourceExhausted):
    """A message or body is larger than its limit (RFC 9110 §15.5.14)."""

    http_status, rest_code = 413, "PAYLOAD_TOO_LARGE"


class UnsupportedMediaType(InvalidArgument):
    """The body's media type or encoding is not understood (RFC 9110 §15.5.16)."""

    http_status, rest_code = 415, "UNSUPPORTED_MEDIA_TYPE"


class KeyReused(FailedPrecondition):
    """An idempotency key was used before, for another request."""

    http_status, rest_code = 422, "KEY_REUSED"


class PreconditionRequired(FailedPrecondition):
    """The request must be conditional (RFC 6585 §3)."""

    http_status, rest_code = 428, "PRECONDITION_REQUIRED"


class HeadersTooLarge(ResourceExhausted):
    """The header fields are larger than their limit (RFC 6585 §5)."""

    http_status, rest_code = 431, "HEADERS_TOO_LARGE"


_BY_CODE: dict[int, type[Error]] = {
    each.code: each
    for each in (
        InvalidArgument, OutOfRange, FailedPrecondition, Unauthenticated, PermissionDenied, NotFound, AlreadyExists,
        Aborted, ResourceExhausted, Cancelled, DeadlineExceeded, Unimplemented, Unavailable, Internal, Unknown,
        DataLoss,
    )
}  # fmt: skip

_BY_REST_CODE: dict[str, type[Error]] = {
    each.rest_code: each
    for each in (
        MethodNotAllowed, NotAcceptable, EtagMismatch, TooLarge, UnsupportedMediaType, KeyReused, PreconditionRequired,
        HeadersTooLarge,
    )
}  # fmt: skip


def error_class(code: int, reason: str = "") -> type[Error]:
    """Return the class for a gRPC `code`, narrowed by a `reason` that names a subclass (`ETAG_MISMATCH`).

    A number that is no code gives `Unknown`, as gRPC asks; OK gives `Unknown` too, for it is no error.
    """
    by_code = _BY_CODE.get(code, Unknown)
    narrowed = _BY_REST_CODE.get(reason)
    return narrowed if narrowed is not None and issubclass(narrowed, by_code) else by_code
