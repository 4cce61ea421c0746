"""The tree of errors and its table of codes."""

import grpc
import pytest

import interlock.errors
from interlock.errors import (
    Code,
    Error,
    EtagMismatch,
    InvalidArgument,
    KeyReused,
    NotFound,
    ResourceExhausted,
    TooLarge,
    Unknown,
    Violation,
    error_class,
)

CLASSES = [
    value
    for value in vars(interlock.errors).values()
    if isinstance(value, type) and issubclass(value, Error) and value is not Error
]
HTTP = {
    "INVALID_ARGUMENT": 400, "OUT_OF_RANGE": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499, "DEADLINE_EXCEEDED": 504, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "INTERNAL": 500,
    "UNKNOWN": 500, "DATA_LOSS": 500,
}  # fmt: skip
BY_CAUSE = {
    "METHOD_NOT_ALLOWED": 405, "NOT_ACCEPTABLE": 406, "ETAG_MISMATCH": 412, "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415, "KEY_REUSED": 422, "PRECONDITION_REQUIRED": 428, "HEADERS_TOO_LARGE": 431,
}  # fmt: skip


def test_codes_are_those_of_grpc() -> None:
    """Names and numbers are grpcio's, no more and no fewer."""
    assert {code.name: code.value for code in Code} == {each.name: each.value[0] for each in grpc.StatusCode}


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK], ids=lambda code: code.name)
def test_every_code_has_its_class_and_status(code: Code) -> None:
    """Each code leads to a class of that code with the HTTP status of the table."""
    found = error_class(code)
    assert found.code is code
    assert found.http_status == HTTP[code.name]


@pytest.mark.parametrize("name, status", BY_CAUSE.items())
def test_a_cause_narrows_the_class(name: str, status: int) -> None:
    """A reason that names a subclass gives it back with its HTTP status."""
    (narrowed,) = (each for each in CLASSES if each.rest_code == name)
    assert error_class(narrowed.code, name) is narrowed
    assert narrowed.http_status == status


def test_a_reason_narrows_only_within_its_code() -> None:
    """A server can't turn one code into a class of another by its reason."""
    assert error_class(Code.NOT_FOUND, "ETAG_MISMATCH") is NotFound
    assert error_class(Code.ABORTED, "ETAG_MISMATCH") is EtagMismatch
    assert error_class(Code.FAILED_PRECONDITION, "KEY_REUSED") is KeyReused
    assert error_class(Code.RESOURCE_EXHAUSTED, "OUT_OF_STOCK") is ResourceExhausted


@pytest.mark.parametrize("code", [0, 17, -1, 2**31])
def test_a_number_that_is_no_error_is_unknown(code: int) -> None:
    """OK, and numbers that gRPC does not have, are UNKNOWN where an error is made of them."""
    assert error_class(code) is Unknown


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.__name__)
def test_every_class_stands_on_its_own(error: type[Error]) -> None:
    """Every error is made without arguments, says its code, and has its REST name as reason."""
    made = error()
    assert str(made) == made.code.name
    assert made.reason == made.rest_code
    assert not made.received
    assert not made.final


def test_an_error_tells_its_fields() -> None:
    """The text for logs names message and fields."""
    violation = Violation(field="items[0].sku", description="is missing")
    assert str(InvalidArgument("no", violations=[violation])) == "INVALID_ARGUMENT: no (items[0].sku: is missing)"
    assert str(TooLarge("5 bytes")) == "RESOURCE_EXHAUSTED: 5 bytes"
