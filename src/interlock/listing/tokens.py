"""Page tokens: where the next page starts, sealed (AEAD), good only for the query and the caller they were given to.

AIP-158: opaque, URL-safe, not to be built or read by clients. Format: version, key id, nonce, ciphertext, in base64url.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from secrets import token_bytes
from typing import TypeAlias
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from interlock.errors import InvalidArgument, Violation

Value: TypeAlias = str | int | float | bool | bytes | Decimal | datetime | UUID | None

LONGEST = 8192
"""Characters of the longest token that is looked at."""

_VERSION = 1
_NONCE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a page starts: behind the row with these values of the order's columns; and the total, once counted."""

    values: tuple[Value, ...]
    total_size: int


class PageTokens:
    """Seals positions with the key of the highest id, and opens those of every key it has (32 bytes each)."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        if not keys or any(len(key) != 32 for key in keys.values()):
            raise ValueError("page tokens need at least one key, of 32 bytes")
        self._ciphers = {number: AESGCM(key) for number, key in keys.items()}
        self._newest = max(keys)

    def knows(self, number: int) -> bool:
        """Tell whether there is a key of that id."""
        return number in self._ciphers

    def seal(self, position: Position, *, query: bytes, caller: str) -> str:
        """Return the token for `position`, bound to `query` (a hash of all that selects and orders) and `caller`."""
        head = bytes((_VERSION,)) + self._newest.to_bytes(4)
        nonce = token_bytes(_NONCE)
        plain = json.dumps(
            [position.total_size, [_written(each) for each in position.values]], separators=(",", ":")
        ).encode()
        sealed = self._ciphers[self._newest].encrypt(nonce, plain, _bound(head, query, caller))
        return urlsafe_b64encode(head + nonce + sealed).rstrip(b"=").decode()

    def open(self, token: str, *, query: bytes, caller: str) -> Position:
        """Return the position in `token`; InvalidArgument naming `page_token` if it is not one for this list."""
        number, data = _parted(token)
        cipher = self._ciphers.get(number)
        if cipher is None:
            raise bad_token()
        head, nonce, sealed = data[:5], data[5 : 5 + _NONCE], data[5 + _NONCE :]
        try:
            total_size, values = json.loads(cipher.decrypt(nonce, sealed, _bound(head, query, caller)))
        except InvalidTag:
            raise bad_token() from None
        return Position(values=tuple(_read(each) for each in values), total_size=total_size)


def key_of(token: str) -> int:
    """Return the id of the key that sealed `token`; InvalidArgument naming `page_token` if it is no token."""
    return _parted(token)[0]


def bad_token() -> InvalidArgument:
    """Return the error for a token that does not open: which of the reasons it is helps only who forges them."""
    violation = Violation(
        field="page_token",
        description="not a token of this list: it was changed, is too old, or was given for another query or caller; "
        "ask for the first page",
    )
    return InvalidArgument("invalid page_token", violations=[violation])


def _parted(token: str) -> tuple[int, bytes]:
    if len(token) > LONGEST or not token.isascii():
        raise bad_token()
    try:
        data = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        raise bad_token() from None
    # decoding skips what is no base64: a token has one form only
    if len(data) < 5 + _NONCE + 16 or data[0] != _VERSION or urlsafe_b64encode(data).rstrip(b"=").decode() != token:
        raise bad_token()
    return int.from_bytes(data[1:5]), data


def _bound(head: bytes, query: bytes, caller: str) -> bytes:
    return head + len(query).to_bytes(4) + query + caller.encode()


def _written(value: Value) -> Sequence[object]:
    """Write a value with its type, so that it compares in the database as what it was."""
    match value:
        case None | bool() | int() | str():
            return ["", value]
        case float():
            return ["f", value.hex()]
        case bytes():
            return ["b", value.hex()]
        case Decimal():
            return ["d", str(value)]
        case datetime():
            return ["t", value.isoformat()]
        case UUID():
            return ["u", value.hex]
    raise TypeError(f"a list can't be ordered by a {type(value).__name__}")


def _read(written: Sequence[str]) -> Value:
    kind, value = written
    match kind:
        case "f":
            return float.fromhex(value)
        case "b":
            return bytes.fromhex(value)
        case "d":
            return Decimal(value)
        case "t":
            return datetime.fromisoformat(value)
        case "u":
            return UUID(value)
    return value
