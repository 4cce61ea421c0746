"""Metadata: what may travel, in which form, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.metadata import MalformedMetadata, Metadata

NAMES = st.from_regex(r"x-[0-9a-z_.\-]{0,20}", fullmatch=True).filter(lambda name: not name.endswith("-bin"))
TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
PAIRS = st.lists(
    st.one_of(st.tuples(NAMES, TEXTS), st.tuples(NAMES.map(lambda name: f"{name}-bin"), st.binary(max_size=64)))
)


@given(PAIRS)
def test_what_goes_in_comes_out(pairs: list[tuple[str, str | bytes]]) -> None:
    """Names, values, order and repetitions survive, text and bytes alike."""
    metadata = Metadata(pairs)
    assert list(metadata.items()) == pairs
    assert list(Metadata.from_raw(metadata.raw).items()) == pairs
    assert len(metadata) == len(pairs)


@given(PAIRS)
def test_the_last_value_counts(pairs: list[tuple[str, str | bytes]]) -> None:
    """A name given several times has its last value, and all of them in order on request."""
    metadata = Metadata(pairs)
    for name, _ in pairs:
        values = [value for each, value in pairs if each == name]
        if name.endswith("-bin"):
            assert metadata.binary(name) == values[-1]
            assert metadata.binary_all(name) == values
        else:
            assert metadata.get(name) == values[-1]
            assert metadata.get_all(name) == values


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a\nb", "a\n", "a:b", ":path", "ä", "a\x00", "grpc-status", "GRPC-Timeout", "content-type", "TE",
     "host", "connection", "transfer-encoding", "trailer", "content-length"],
)  # fmt: skip
def test_a_name_that_can_not_travel_is_refused(name: str) -> None:
    """A name that breaks a protocol, or that a protocol keeps for itself, is a ValueError."""
    with pytest.raises(ValueError, match="can't be a metadata name"):
        Metadata([(name, "x")])


@pytest.mark.parametrize("value", ["a\r\nx-admin: yes", "a\n", "\r", "a\x00b", "ä", "\x7f", b"bytes"])
def test_a_value_that_can_not_travel_is_refused(value: str | bytes) -> None:
    """Line ends, control characters and non-ASCII never reach a header."""
    with pytest.raises(ValueError, match="printable ASCII"):
        Metadata([("x-a", value)])


def test_a_binary_name_wants_bytes() -> None:
    """Text under a name that ends in -bin is refused: the other end would decode it."""
    with pytest.raises(ValueError, match="must be bytes"):
        Metadata([("x-a-bin", "text")])


@pytest.mark.parametrize("raw", [b"!!!", b"A", b"QUJD*", b"\xff\xfe", b"QUJD,!"])
def test_what_is_not_base64_is_named(raw: bytes) -> None:
    """A malformed -bin value is one kind of error, however it is read, and the text names the header."""
    metadata = Metadata.from_raw([(b"x-a-bin", raw)])
    with pytest.raises(MalformedMetadata, match="x-a-bin"):
        metadata.binary_all("x-a-bin")
    with pytest.raises(MalformedMetadata, match="x-a-bin"):
        list(metadata.items())


@pytest.mark.parametrize("raw", [b"QUI=", b"QUI", b" QUI ", b"QUI=,QUI"])
def test_padding_is_optional_and_lines_may_be_joined(raw: bytes) -> None:
    """Base64 comes with padding or without, several values on one line (gRPC PROTOCOL-HTTP2)."""
    assert set(Metadata.from_raw([(b"x-a-bin", raw)]).binary_all("x-a-bin")) == {b"AB"}


def test_names_are_compared_without_case() -> None:
    """Upper case is what a caller may write, lower case is what there is."""
    metadata = Metadata([("X-Mixed", "1")])
    assert metadata.get("x-MIXED") == "1"
    assert "X-mixed" in metadata
    metadata.set("X-MIXED", "2")
    assert metadata.get_all("x-mixed") == ["2"]
    metadata.remove("x-Mixed")
    assert not len(metadata)


def test_what_was_looked_up_before_a_change_is_not_remembered() -> None:
    """A value that comes later is found, also after a look that found nothing."""
    metadata = Metadata()
    assert metadata.get("x-a") is None
    metadata.add("x-a", "1")
    assert metadata.get("x-a") == "1"
    metadata.extend(Metadata([("x-a", "2"), ("x-b", "3")]))
    assert (metadata.get("x-a"), metadata.get("x-b")) == ("2", "3")


def test_a_copy_is_independent() -> None:
    """Changing a copy leaves the first one alone."""
    metadata = Metadata([("x-a", "1")])
    copy = metadata.copy()
    copy.add("x-b", "2")
    assert metadata == Metadata([("x-a", "1")])
    assert metadata != copy


def test_the_representation_hides_values() -> None:
    """A value may be a credential, so only names are shown."""
    assert repr(Metadata([("authorization", "Bearer hunter2"), ("x-a", "1")])) == "Metadata(authorization, x-a)"
