"""Page tokens: they open where they were given, and nowhere else."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import InvalidArgument
from interlock.listing import PageTokens, Position
from interlock.listing.tokens import key_of

KEY, NEXT = bytes(range(32)), bytes(range(1, 33))
POSITION = Position(values=("o-1", 7), total_size=100)


def seal(tokens: PageTokens, position: Position = POSITION) -> str:
    return tokens.seal(position, query=b"query", caller="alice")


def refused(tokens: PageTokens, token: str, query: bytes = b"query", caller: str = "alice") -> None:
    with pytest.raises(InvalidArgument) as error:
        tokens.open(token, query=query, caller=caller)
    assert [each.field for each in error.value.violations] == ["page_token"]


_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.datetimes(timezones=st.sampled_from([None, UTC])),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
)


@given(values=st.lists(_values, max_size=4), total=st.integers(0, 2**40))
def test_a_position_comes_back_as_it_was(values: list[object], total: int) -> None:
    """Values keep their type and their exact value, so that they compare in the database as before."""
    tokens = PageTokens({1: KEY})
    position = Position(values=tuple(values), total_size=total)  # type: ignore[arg-type]
    token = seal(tokens, position)
    assert token.isascii()
    assert not set(token) & set("+/=&?#% ")
    read = tokens.open(token, query=b"query", caller="alice")
    assert read == position
    assert [type(each) for each in read.values] == [type(each) for each in values]


def test_the_token_says_nothing() -> None:
    """Two tokens of one position differ, and neither shows what it holds."""
    tokens = PageTokens({1: KEY})
    position = Position(values=("secret-id", Decimal("1.50"), datetime(2026, 1, 1, tzinfo=UTC), uuid4()), total_size=1)
    first, second = seal(tokens, position), seal(tokens, position)
    assert first != second
    assert b"secret-id" not in urlsafe_b64decode(first + "=" * (-len(first) % 4))


def test_a_token_is_for_its_query_and_caller() -> None:
    """Another query, another caller, or a part of one taken for the other, do not open it."""
    tokens = PageTokens({1: KEY})
    token = seal(tokens)
    refused(tokens, token, query=b"quer", caller="yalice")
    refused(tokens, token, query=b"other")
    refused(tokens, token, caller="bob")


def test_any_change_is_noticed() -> None:
    """No byte of a token can be changed, added or left out."""
    tokens = PageTokens({1: KEY})
    token = seal(tokens)
    data = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        refused(tokens, urlsafe_b64encode(bytes(changed)).rstrip(b"=").decode())
    for other in (token[:-1], token + "A", token + "=", token + " ", "", "x", "é", "A" * 10_000, token[:10]):
        refused(tokens, other)


def test_keys_rotate() -> None:
    """The newest key seals, older ones still open, dropped ones do not; a token names its key."""
    old = seal(PageTokens({1: KEY}))
    both = PageTokens({1: KEY, 2: NEXT})
    assert both.open(old, query=b"query", caller="alice") == POSITION
    new = seal(both)
    assert (key_of(old), key_of(new)) == (1, 2)
    refused(PageTokens({1: KEY}), new)
    refused(PageTokens({2: NEXT}), old)
    refused(PageTokens({1: NEXT}), old)


@pytest.mark.parametrize("keys", [{}, {1: b"short"}])
def test_keys_are_whole(keys: dict[int, bytes]) -> None:
    """No key, or one of another size, is refused at once."""
    with pytest.raises(ValueError, match="32 bytes"):
        PageTokens(keys)
