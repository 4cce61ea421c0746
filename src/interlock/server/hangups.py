"""Callers over HTTP/1.1 who hang up while they wait for their answer, which h2corn tells only once it is there.

ASGI has a place for it, `http.disconnect` in a `receive` that waits. So for those that wait the connection is looked
at: found among this process's sockets by its peer, it shows when the other side has closed.
"""

import asyncio
import select
import socket
from collections.abc import MutableMapping
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

from interlock.server.application import Receive, Scope

INTERVAL = 0.25
"""Seconds between two looks at the connections of those who wait."""

_SHARE = 50  # a search of all sockets costs a fiftieth of the time at most
_DESCRIPTORS = Path("/proc/self/fd")
_SHOWN = _DESCRIPTORS.is_dir() and hasattr(select, "POLLRDHUP")
_GONE = {"type": "http.disconnect"}

Peer: TypeAlias = tuple[str, int]


class Hangups:
    """Watches the connections of one event loop; does nothing where the system shows no descriptors (not Linux)."""

    __slots__ = ("_found", "_quiet_until", "_timer", "_unread", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[Peer, asyncio.Future[None]] = {}
        self._found: dict[Peer, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_until = 0.0
        self._unread: set[asyncio.Task[MutableMapping[str, Any]]] = set()

    def watching(self, scope: Scope, receive: Receive) -> Receive:
        """Return `receive`, which tells of a hangup too once the request has come whole."""
        client = scope.get("client")
        if not _SHOWN or not client or not client[1]:
            return receive
        peer: Peer = (client[0], client[1])
        complete = False

        async def receive_or_hangup() -> MutableMapping[str, Any]:
            nonlocal complete
            if complete:
                return await self._either(peer, receive)
            event = await receive()
            complete = not event.get("more_body")
            return event

        return receive_or_hangup

    async def _either(self, peer: Peer, receive: Receive) -> MutableMapping[str, Any]:
        hangup = self._waiting.get(peer)
        if hangup is None:
            hangup = self._waiting[peer] = asyncio.get_running_loop().create_future()
            self._arm()
        reading = asyncio.create_task(_read(receive))
        self._unread.add(reading)  # never cancelled; it ends with the response
        reading.add_done_callback(self._unread.discard)
        try:
            await asyncio.wait((reading, hangup), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._waiting.get(peer) is hangup:
                del self._waiting[peer]
        if reading.done():
            return reading.result()
        reading.add_done_callback(_look)
        return _GONE

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        if not self._waiting:
            self._found.clear()
            return
        for peer, number in tuple(self._found.items()):
            if peer not in self._waiting or _peer_of(number) != peer:
                del self._found[peer]
        if not self._waiting.keys() <= self._found.keys() and perf_counter() >= self._quiet_until:
            started = perf_counter()
            self._search()
            self._quiet_until = perf_counter() + _SHARE * (perf_counter() - started)
        for peer, number in self._found.items():
            if _is_closed(number):
                hangup = self._waiting[peer]
                if not hangup.done():
                    hangup.set_result(None)
        self._arm()

    def _search(self) -> None:
        for each in _DESCRIPTORS.iterdir():
            peer = _peer_of(int(each.name))
            if peer is not None and peer in self._waiting:
                self._found[peer] = int(each.name)


async def _read(receive: Receive) -> MutableMapping[str, Any]:
    return await receive()


def _look(reading: "asyncio.Future[Any]") -> None:
    if not reading.cancelled():
        reading.exception()  # what a server says after a hangup is nobody's affair


def _peer_of(number: int) -> Peer | None:
    """Return the other end of a connection; None for what is none, or gone."""
    try:
        looked_at = socket.socket(fileno=number)
    except OSError:
        return None
    try:
        name = looked_at.getpeername()
    except OSError:
        return None
    finally:
        looked_at.detach()  # it belongs to the server
    return (name[0].removeprefix("::ffff:"), name[1]) if isinstance(name, tuple) and len(name) > 1 else None


def _is_closed(number: int) -> bool:
    poll = select.poll()
    poll.register(number, select.POLLRDHUP)
    return bool(poll.poll(0))
