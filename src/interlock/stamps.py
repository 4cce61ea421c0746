"""Ids and times as text, which every call needs: what they share within a millisecond is made once."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from random import getrandbits

_ids: tuple[int, str, Callable[[], int]] = (0, "", count().__next__)  # replaced as one: threads come here too
_now: tuple[int, str] = (0, "")


def uuid7() -> str:
    """Return a fresh UUIDv7 (RFC 9562 §5.7): sorted by its millisecond, and by a counter within it (§6.2).

    What is not the time begins at random in every millisecond, so that no two processes make the same.
    """
    global _ids  # noqa: PLW0603 - see there
    now = time.time_ns() // 1_000_000
    ids = _ids
    if now != ids[0]:
        text, bits = f"{now & 0xFFFF_FFFF_FFFF:012x}", getrandbits(26)
        head = f"{text[:8]}-{text[8:]}-7{bits & 0xFFF:03x}-{0x8000 | bits >> 12:04x}-"
        ids = _ids = (now, head, count(getrandbits(47)).__next__)
    return f"{ids[1]}{ids[2]():012x}"


def timestamp() -> str:
    """Return now, in UTC, as RFC 3339 with milliseconds."""
    global _now  # noqa: PLW0603 - see above
    now = time.time_ns() // 1_000_000
    made = _now
    if now != made[0]:
        second = datetime.fromtimestamp(now // 1000, UTC)
        made = _now = (now, f"{second:%Y-%m-%dT%H:%M:%S}.{now % 1000:03d}Z")
    return made[1]
