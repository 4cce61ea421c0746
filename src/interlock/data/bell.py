"""A doorbell: tells those who wait that there is something new to look at."""

import asyncio


class Bell:
    """Counts its rings, so that a ring between a look and a wait is not missed. Belongs to one event loop."""

    __slots__ = ("_waiting", "heard")

    def __init__(self) -> None:
        self.heard = 0
        self._waiting: set[asyncio.Future[None]] = set()

    async def ring(self) -> None:
        """Wake all who wait."""
        self.strike()

    def strike(self) -> None:
        """Wake all who wait, from a callback."""
        self.heard += 1
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def wait(self, heard: int, timeout: float) -> bool:
        """Wait until the bell was rung more often than `heard`, at most `timeout` seconds; tell whether it was.

        Read `bell.heard` before you look at what it announces, look, then wait for that number.
        """
        if self.heard == heard:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await asyncio.wait((waiting,), timeout=timeout)
            finally:
                self._waiting.discard(waiting)
        return self.heard != heard
