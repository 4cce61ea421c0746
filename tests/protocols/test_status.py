"""Errors as `google.rpc.Status`, bounded, there and back."""

from datetime import timedelta

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from protobuf.wkt.google.protobuf.any_pb import Any as PackedAny

from interlock import Code, Error, InvalidArgument, NotFound, Unavailable, Unknown, Violation
from interlock.errors import error_class
from interlock.protocols.grpc_server import error_trailers
from interlock.protocols.status import MAX_BYTES, MAX_VIOLATIONS, clip, from_status, to_status

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
VIOLATIONS = st.lists(st.builds(lambda field, text: Violation(field=field, description=text), TEXTS, TEXTS), max_size=3)
DELAYS = st.none() | st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000))
TRAILERS_TAKEN = 8192  # what gRPC clients take by default, names and 32 bytes an entry included


@given(
    code=st.sampled_from([code for code in Code if code is not Code.OK]),
    message=TEXTS,
    reason=st.from_regex(r"[A-Z][A-Z_]{0,40}", fullmatch=True),
    violations=VIOLATIONS,
    delay=DELAYS,
)
def test_an_error_comes_back(
    code: Code, message: str, reason: str, violations: list[Violation], delay: timedelta | None
) -> None:
    """Code, message, reason, violations, delay and domain survive the wire."""
    error = error_class(code)(message, reason=reason, violations=violations, retry_after=delay)
    status = to_status(error, "sample.v1.SampleService")
    back = from_status(status.code, status.message, list(status.details))
    assert back.code is code
    assert (back.message, back.reason, back.domain) == (message, reason, "sample.v1.SampleService")
    assert (list(back.violations), back.retry_after) == (violations, delay)


HUGE = {
    "a long message": Error("x" * 1_000_000),
    "a message of four-byte characters": Error("🌧" * 100_000),
    "a message that is all percent signs": Error("%" * 100_000),
    "many violations": Error("no", violations=[Violation(field="f", description="d")] * 10_000),
    "long violations": Error("no", violations=[Violation(field="ä" * 9_999, description="🌧" * 9_999)] * 40),
    "everything": Error(
        "🌧" * 9_999,
        reason="Ä" * 9_999,
        domain="ö" * 9_999,
        violations=[Violation(field="ä" * 9_999, description="🌧" * 9_999)] * 40,
        retry_after=timedelta.max,
    ),
}


@pytest.mark.parametrize("error", HUGE.values(), ids=HUGE)
def test_an_error_of_any_size_arrives(error: Error) -> None:
    """Details stay within 4 KiB and 32 violations, and all trailers within what clients take by default."""
    status = to_status(error, "d" * 9_999)
    assert len(status.to_binary()) <= MAX_BYTES
    back = from_status(status.code, status.message, list(status.details))
    assert len(back.violations) <= MAX_VIOLATIONS
    assert bool(back.violations) is bool(error.violations)
    trailers = error_trailers(error, "d" * 9_999)
    assert sum(len(name) + len(value) + 32 for name, value in trailers) < TRAILERS_TAKEN - 256


@given(st.text(max_size=300), st.integers(8, 200))
def test_a_clipped_text_fits_and_is_one(text: str, size: int) -> None:
    """A text is cut to bytes without breaking a character, and left alone where it fits."""
    clipped = clip(text, size)
    assert len(clipped.encode()) <= size
    sound = text.encode("utf-8", "replace").decode()
    assert clipped == sound if len(sound.encode()) <= size else clipped.endswith("…")
    assert sound.startswith(clipped.removesuffix("…"))


def test_what_utf8_can_not_carry_is_replaced() -> None:
    """A lone surrogate, as file names may hold, does not keep an error from being sent."""
    status = to_status(NotFound("no \ud800", violations=[Violation(field="\udfff", description="\ud800")]), "")
    assert status.to_binary()
    assert status.message == "no ?"


def test_others_read_it() -> None:
    """Google's own library finds one ErrorInfo, one BadRequest and one RetryInfo."""
    error = InvalidArgument(
        "no",
        reason="TOO_ODD",
        violations=[Violation(field="a.b", description="odd")],
        retry_after=timedelta(seconds=1.5),
    )
    status = status_pb2.Status.FromString(to_status(error, "here").to_binary())
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for packed, message in zip(status.details, (info, bad, retry), strict=False):
        assert packed.Unpack(message)
    assert (info.reason, info.domain) == ("TOO_ODD", "here")
    assert [(each.field, each.description) for each in bad.field_violations] == [("a.b", "odd")]
    assert retry.retry_delay.ToTimedelta() == timedelta(seconds=1.5)
    assert len(status.details) == 4


@given(st.lists(st.tuples(st.sampled_from(["ErrorInfo", "BadRequest", "RetryInfo", "Unheard", ""]), st.binary())))
def test_details_that_are_not_understood_are_left_out(details: list[tuple[str, bytes]]) -> None:
    """Whatever another server packs into the details, the code and message arrive."""
    packed = [PackedAny(type_url=f"type.googleapis.com/google.rpc.{name}", value=value) for name, value in details]
    error = from_status(Code.UNAVAILABLE, "down", packed)
    assert isinstance(error, Unavailable)
    assert error.message == "down"


def test_a_delay_beyond_all_time_is_left_out() -> None:
    """A RetryInfo that no timedelta can hold does not hide the error."""
    value = error_details_pb2.RetryInfo()
    value.retry_delay.seconds = 2**62
    packed = PackedAny(type_url="type.googleapis.com/google.rpc.RetryInfo", value=value.SerializeToString())
    assert from_status(14, "", [packed]).retry_after is None


@pytest.mark.parametrize("code", [0, 17, 99, -1])
def test_a_code_that_is_none_is_unknown(code: int) -> None:
    """A number that no error has becomes UNKNOWN."""
    assert isinstance(from_status(code, "?", []), Unknown)
