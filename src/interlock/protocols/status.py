"""An error in the form of RPC: `google.rpc.Status` with its details, bounded, there and back."""

from datetime import timedelta
from typing import Any

from protobuf import Message
from protobuf.wkt.google.protobuf.any_pb import Any as PackedAny
from protobuf.wkt.google.protobuf.duration_pb import Duration

from interlock.contract.gen.google.rpc.error_details_pb import BadRequest, ErrorInfo, RetryInfo
from interlock.contract.gen.google.rpc.status_pb import Status
from interlock.contract.gen.interlock.v1.errors_pb import ErrorDetail, ErrorResponse
from interlock.errors import Error, Violation, error_class
from interlock.protocols.grpc_wire import encode_message

MAX_BYTES = 4096
MAX_VIOLATIONS = 32
_MAX_TEXT = 1024
_MAX_ENCODED = 2 * _MAX_TEXT  # beside the details, within the 8 KiB of metadata that gRPC clients take


def clip(text: str, size: int = _MAX_TEXT) -> str:
    """Shorten `text` to `size` bytes of UTF-8, marking the cut; what UTF-8 can't carry becomes `?`."""
    data = text.encode("utf-8", "replace")
    if len(data) <= size:
        return data.decode()
    return data[: size - len("…".encode())].decode("utf-8", "ignore") + "…"


def _clip_message(text: str) -> str:
    message = clip(text)
    return message if len(encode_message(message)) <= _MAX_ENCODED else clip(message, _MAX_ENCODED // 3)


def to_status(error: Error, domain: str) -> Status:
    """Build the status with ErrorInfo, BadRequest, RetryInfo and ErrorResponse; at most 4 KiB and 32 violations."""
    violations = error.violations[:MAX_VIOLATIONS]
    status = _status(error, domain, violations)
    while violations and len(status.to_binary()) > MAX_BYTES:
        violations = violations[: len(violations) // 2]
        status = _status(error, domain, violations)
    return status


def _status(error: Error, domain: str, violations: tuple[Violation, ...]) -> Status:
    message = _clip_message(error.message)
    details: list[Message[Any]] = [ErrorInfo(reason=clip(error.reason, 64), domain=clip(error.domain or domain, 256))]
    if violations:
        fields = [
            BadRequest.FieldViolation(field=clip(each.field, 256), description=clip(each.description, 512))
            for each in violations
        ]
        details.append(BadRequest(field_violations=fields))
    if error.retry_after is not None:
        details.append(RetryInfo(retry_delay=Duration.from_timedelta(error.retry_after)))
    fields_at_fault = [
        ErrorDetail(field=clip(each.field, 256), description=clip(each.description, 512)) for each in violations
    ]
    details.append(ErrorResponse(code=error.rest_code, message=message, details=fields_at_fault))
    return Status(code=int(error.code), message=message, details=[PackedAny.pack(each) for each in details])


def from_status(code: int, message: str, details: list[PackedAny]) -> Error:
    """Rebuild the error that `to_status` described; details that are not understood are left out."""
    reason, domain = "", ""
    violations: list[Violation] = []
    retry_after: timedelta | None = None
    for packed in details:
        try:
            if (info := packed.unpack(ErrorInfo)) is not None:
                reason, domain = info.reason, info.domain
            elif (bad := packed.unpack(BadRequest)) is not None:
                violations = [Violation(field=v.field, description=v.description) for v in bad.field_violations]
            elif (retry := packed.unpack(RetryInfo)) is not None and retry.retry_delay is not None:
                retry_after = retry.retry_delay.to_timedelta()
        except (ValueError, OverflowError):
            continue
    return error_class(code, reason)(
        message, reason=reason, violations=violations, retry_after=retry_after, domain=domain
    )
