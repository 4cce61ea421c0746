"""A caller that leaves while its call runs, seen by a `receive` that waits: plain ASGI, for every protocol.

Some servers cancel the call's task besides. A `receive` that waits is never cancelled, which servers take amiss; it
returns when the response is over.
"""

import asyncio

from interlock.call import Call, Cancellation
from interlock.protocols.serving import Receive

AFTER = 0.25
"""Seconds that a call runs before its caller is looked after, so that short calls pay nothing for it."""


class Departures:
    """Looks after the callers of calls that take their time; one object for an app.

    `watch` is called once the request is read whole, `forget` when the call ends.
    """

    __slots__ = ("_fresh", "_older", "_timer", "_waiting")

    def __init__(self) -> None:
        self._fresh: dict[Call, Receive] = {}
        self._older: dict[Call, Receive] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Task[None]] = set()

    def watch(self, call: Call, receive: Receive) -> None:
        """Cancel `call` as CLIENT_GONE when its caller leaves from now on; `receive` is read by nobody else."""
        self._fresh[call] = receive
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(AFTER, self._sweep)

    def forget(self, call: Call) -> None:
        """Stop looking after a call that ends."""
        if self._fresh.pop(call, None) is None:
            self._older.pop(call, None)

    def _sweep(self) -> None:
        """Begin to wait for the callers of calls that were there at the last sweep already."""
        for call, receive in self._older.items():
            task = asyncio.ensure_future(_until_gone(call, receive))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        self._older, self._fresh = self._fresh, {}
        self._timer = asyncio.get_running_loop().call_later(AFTER, self._sweep) if self._older else None


async def _until_gone(call: Call, receive: Receive) -> None:
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except Exception:  # the server's way to say that there is nothing more
        return
    call.cancel(Cancellation.CLIENT_GONE)
