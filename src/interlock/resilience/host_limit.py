"""Rate limits that all workers of a host keep together: counts in a small file that each of them maps into memory.

The window is that of `SlidingCount`, in the host's monotonic clock. A part of the file is locked while it is looked at;
the system lets go of such a lock however its process ends.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Hashable
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from interlock.deadline import Clock, monotonic
from interlock.resilience.sliding import SLOTS

_SIZE = SLOTS + 1
_ENTRY = struct.Struct(f"=16sQd{_SIZE}I")  # key, newest slot, when that is over, counts
_WAYS = 4
_ROW = _ENTRY.size * _WAYS
ROWS = 4096
"""Rows of the table, each for four callers: of so many the latest are remembered, the quietest forgotten."""


class Taken(NamedTuple):
    """What a caller got: whether the call may go on, how many are left, in how many seconds there are more."""

    allowed: bool
    remaining: int
    until_more: float


class HostTable:
    """The file, about 1.7 MB and sparse; made by whoever comes first. OSError if it can't be."""

    def __init__(self, path: Path, *, rows: int = ROWS) -> None:
        self._path = path
        self._rows = rows
        self._file = -1
        self._memory: mmap.mmap | None = None

    def close(self) -> None:
        """Let go of the file, which stays for the others; the next call opens it again."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()
            os.close(self._file)

    def _open(self) -> mmap.mmap:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, self._rows * _ROW)
        self._memory = mmap.mmap(self._file, self._rows * _ROW)
        return self._memory

    def take(self, key: bytes, now: float, width: float, requests: int) -> Taken:
        """Take one of `requests` in a window of 16 slots of `width` seconds, for the caller of that 16-byte key."""
        memory = self._memory or self._open()
        row = int.from_bytes(key[:4], "little") % self._rows * _ROW
        fcntl.lockf(self._file, fcntl.LOCK_EX, _ROW, row)
        try:
            return _take(memory, row, key, now, width, requests)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, _ROW, row)


class HostLimit:
    """One operation's limit in the table; as `SlidingLimit`, for all workers together."""

    __slots__ = ("_clock", "_name", "_requests", "_table", "_width")

    def __init__(self, table: HostTable, name: str, requests: int, per: timedelta, *, clock: Clock = monotonic) -> None:
        self._table = table
        self._name = f"{name} {requests}/{per.total_seconds():g}"
        self._requests = requests
        self._width = per.total_seconds() / SLOTS
        self._clock = clock

    def take(self, caller: Hashable) -> Taken:
        """Take one request out of the caller's share, if there is one left."""
        key = key_of(self._name, caller)
        return self._table.take(key, self._clock(), self._width, self._requests)


def key_of(name: str, caller: Hashable) -> bytes:
    """Return 16 bytes that stand for a caller of the limit of that name, the same in every process."""
    return blake2b(repr((name, caller)).encode(), digest_size=16).digest()


def _take(  # noqa: PLR0917 - once a call, by position
    memory: mmap.mmap, row: int, key: bytes, now: float, width: float, requests: int
) -> Taken:
    at, newest, counts = _find(memory, row, key, now)
    slot = int(now / width)
    if slot - newest >= _SIZE:
        counts = [0] * _SIZE
    else:
        for each in range(newest + 1, slot + 1):
            counts[each % _SIZE] = 0
    slot = max(slot, newest)
    used = sum(counts)
    if used < requests:
        counts[slot % _SIZE] += 1
        _ENTRY.pack_into(memory, at, key, slot, (slot + _SIZE) * width, *counts)
    oldest = next((each for each in range(slot - SLOTS, slot) if counts[each % _SIZE]), slot)
    return Taken(used < requests, max(0, requests - used - 1), (oldest + _SIZE) * width - now)


def _find(memory: mmap.mmap, row: int, key: bytes, now: float) -> tuple[int, int, list[int]]:
    """Return where the caller's entry stands or may stand: its own, a free one, or the quietest's."""
    quietest, chosen = float("inf"), row
    for at in range(row, row + _ROW, _ENTRY.size):
        known, newest, over, *counts = _ENTRY.unpack_from(memory, at)
        if known == key:
            return at, newest, counts
        over = 0.0 if over <= now else over
        if over < quietest:
            quietest, chosen = over, at
    return chosen, 0, [0] * _SIZE
