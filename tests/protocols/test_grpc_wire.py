"""gRPC's wire forms: any pieces, any bytes, any limits."""

import gzip
import tracemalloc
import zlib
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from interlock import Internal, InvalidArgument, TooLarge
from interlock.protocols.compression import GZIP, gunzipped, gzipped
from interlock.protocols.grpc_wire import (
    Unframer,
    encode_message,
    frame,
    parse_timeout,
)

UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def unframed(unframer: Unframer, *pieces: bytes) -> list[bytes]:
    """Feed pieces and return the messages that come out."""
    found = []
    for piece in pieces:
        unframer.feed(piece)
        while (message := unframer.next()) is not None:
            found.append(message)
    unframer.finish()
    return found


@given(st.lists(st.tuples(st.binary(max_size=50), st.booleans()), max_size=8), st.data())
def test_the_pieces_do_not_matter(messages: list[tuple[bytes, bool]], data: st.DataObject) -> None:
    """However a body is cut, empty pieces included, the same messages come out, compressed or not."""
    body = b"".join(frame(gzipped(each) if small else each, compressed=small) for each, small in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=20)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    expected = [each for each, _ in messages]
    assert unframed(Unframer(100, GZIP), *pieces) == expected
    assert unframed(Unframer(100, GZIP), body) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_messages_or_an_error(data: bytes) -> None:
    """Garbage gives messages within the limit, or an error that a caller may see, and nothing else."""
    try:
        messages = unframed(Unframer(16, GZIP), data)
    except (Internal, TooLarge):
        return
    assert all(len(each) <= 16 for each in messages)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_body_that_is_cut_off_is_told(message: bytes, data: st.DataObject) -> None:
    """Every end inside a frame, header or message, is an error."""
    whole = frame(message)
    with pytest.raises(Internal, match="ends inside a message"):
        unframed(Unframer(100), whole, whole[: data.draw(st.integers(1, len(whole) - 1))])


def test_a_message_is_refused_by_what_it_declares() -> None:
    """Five bytes are enough to refuse a message that would be too large; at the limit it passes."""
    unframer = Unframer(10)
    unframer.feed(b"\x00\xff\xff\xff\xff")
    with pytest.raises(TooLarge, match="4294967295 bytes"):
        unframer.next()
    assert unframed(Unframer(10), frame(bytes(10))) == [bytes(10)]
    with pytest.raises(TooLarge):
        unframed(Unframer(10), frame(bytes(11)))


@pytest.mark.parametrize("flag", [2, 3, 0x80, 0xFF])
def test_an_unknown_flag_is_refused(flag: int) -> None:
    """Only 0 and 1 mean something in a request; a trailer frame of gRPC-Web is no message either."""
    with pytest.raises(Internal, match="unknown frame flag"):
        unframed(Unframer(10), bytes([flag]) + frame(b"x")[1:])


def test_compression_must_be_announced() -> None:
    """A compressed message in a stream that names no compression is INTERNAL (compression.md)."""
    with pytest.raises(Internal, match="names no compression"):
        unframed(Unframer(100), frame(gzipped(b"x"), compressed=True))


BROKEN_GZIP = {
    "no gzip": b"plain text",
    "nothing": b"",
    "cut off": gzipped(b"hello")[:-3],
    "its head only": gzipped(b"hello")[:10],
    "junk behind": gzipped(b"hello") + b"junk",
    "two members": gzipped(b"a") + gzipped(b"b"),
    "a wrong checksum": gzipped(b"hello")[:-8] + bytes(8),
    "zlib instead": zlib.compress(b"hello"),
}


@pytest.mark.parametrize("data", BROKEN_GZIP.values(), ids=BROKEN_GZIP)
def test_broken_gzip_is_told(data: bytes) -> None:
    """What is not one whole gzip stream is an error, as a body and as a message."""
    with pytest.raises(InvalidArgument, match="gzip"):
        gunzipped(data, 100)
    with pytest.raises(Internal, match="gzip"):
        unframed(Unframer(1000, GZIP), frame(data, compressed=True))


def test_a_bomb_is_not_inflated() -> None:
    """A small message that would become a large one takes no more memory than its limit allows."""
    bomb = gzip.compress(bytes(64 << 20))
    assert len(bomb) < 100_000
    unframer = Unframer(1 << 20, GZIP)
    tracemalloc.start()
    try:
        unframer.feed(frame(bomb, compressed=True))
        with pytest.raises(TooLarge, match="once decompressed"):
            unframer.next()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@given(st.binary(max_size=2000))
def test_compression_comes_back(message: bytes) -> None:
    """What was compressed is what is decompressed, right up to the limit and not beyond."""
    assert gunzipped(gzipped(message), len(message)) == message
    if message:
        with pytest.raises(TooLarge):
            gunzipped(gzipped(message), len(message) - 1)


@given(st.integers(0, 99_999_999), st.sampled_from(sorted(UNITS)))
def test_a_timeout_is_digits_and_a_unit(number: int, unit: str) -> None:
    """Up to eight digits and one of six units are seconds."""
    assert parse_timeout(f"{number}{unit}".encode()) == pytest.approx(number * UNITS[unit])


@given(st.binary(max_size=12))
@example(b"")
@example(b"1")
@example(b"S")
@example(b"123456789S")
@example(b"-1S")
@example(b"+1S")
@example(b"1.5S")
@example(b"1s")
@example(b" 1S")
@example(b"1S\n")
@example("\u0661S".encode())  # a digit, to Unicode
@example(b"1_0S")
def test_any_other_timeout_is_refused(value: bytes) -> None:
    """Whatever else stands there is INVALID_ARGUMENT, never a surprise."""
    fits = 2 <= len(value) <= 9 and value[-1:] in b"HMSmun" and all(byte in b"0123456789" for byte in value[:-1])
    if fits:
        assert parse_timeout(value) >= 0
    else:
        with pytest.raises(InvalidArgument, match="grpc-timeout"):
            parse_timeout(value)


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("100 %")
@example("%41")
@example("a\r\nb\tc\x00")
@example("so geht's nicht 🌧")
def test_a_message_comes_back(text: str) -> None:
    """Any message survives as printable ASCII, line ends and percent signs included."""
    encoded = encode_message(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote(encoded.decode()) == text


@given(st.text())
def test_every_message_can_be_sent(text: str) -> None:
    """Even what UTF-8 can't carry is sent somehow."""
    assert all(0x20 <= byte <= 0x7E for byte in encode_message(text))
