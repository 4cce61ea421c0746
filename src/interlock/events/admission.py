"""Who may run beside whom: events side by side, but one whose last attempt may have killed its process alone.

Were those that ran beside it run beside it again, they would die with it each time, and be given up with it.
"""

import asyncio


class Closed(Exception):
    """Nobody is let in any more."""


class Admission:
    """Lets events in, or one alone. Belongs to one event loop."""

    __slots__ = ("_alone", "_changed", "_inside", "_open", "_suspects")

    def __init__(self) -> None:
        self._inside = 0
        self._suspects = 0
        self._alone = False
        self._open = True
        self._changed = asyncio.Event()

    async def enter(self, *, alone: bool) -> None:
        """Wait to be let in; those who want to be alone come first. Closed once nobody is let in any more."""
        if not alone:
            while self._open and self._suspects:
                await self._changed.wait()
            if not self._open:
                raise Closed
            self._inside += 1
            return
        self._suspects += 1
        try:
            while self._open and (self._inside or self._alone):
                await self._changed.wait()
        except asyncio.CancelledError:
            self._give_up()
            raise
        if not self._open:
            self._give_up()
            raise Closed
        self._alone = True

    def leave(self, *, alone: bool) -> None:
        """Make room for those who wait."""
        if alone:
            self._alone = False
            self._suspects -= 1
        else:
            self._inside -= 1
        if self._suspects or alone:
            self._tell()

    def close(self) -> None:
        """Send away those who wait."""
        self._open = False
        self._tell()

    def open(self) -> None:
        """Let in again."""
        self._open = True

    def _give_up(self) -> None:
        self._suspects -= 1
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
