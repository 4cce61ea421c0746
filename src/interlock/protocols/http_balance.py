"""The addresses of one host over HTTP: looked up anew now and then, used in turn, left out while they fail.

A connection that can't be made to one of them is made to the next; nothing was sent then.
"""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeAlias

import httpx2

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Return the addresses of a name, for a port; OSError if there are none."""

LOOK_AGAIN = 30.0
"""Seconds after which a name that is in use is looked up again."""
LOOK_AFTER_LOSS = 1.0
"""Seconds, at least, between two look-ups when connections are lost."""
NEXT_AFTER = 2.0
"""Seconds that connecting to one address may take while there is another to try."""
FAILURES = 5
"""Failures in a row after which an address is left out; one, where it can't be connected to."""
LEFT_OUT, LONGEST_OUT = 1.0, 30.0
"""Seconds that an address is left out for, doubled each time up to the longest, until it answers."""
_AWAY = frozenset((502, 503, 504))


async def look_up(name: str, port: int) -> list[str]:
    """Return what the system says are the addresses of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class Standing:
    """How an address does: whether it is left out now, and for how long the next time. Times are of one clock."""

    __slots__ = ("_in_a_row", "_times", "out_until")

    def __init__(self) -> None:
        self.out_until = 0.0
        self._in_a_row = 0
        self._times = 0

    def answered(self) -> None:
        """Note an answer: all is forgotten."""
        self.out_until = 0.0
        self._in_a_row = self._times = 0

    def failed(self, now: float, *, unreachable: bool = False, dispensable: bool = True) -> None:
        """Note a failure; what was sent before it was left out says nothing new."""
        if now < self.out_until:
            return
        self._in_a_row += 1
        if unreachable or (dispensable and self._in_a_row >= FAILURES):
            self.out_until = now + min(LONGEST_OUT, LEFT_OUT * 2**self._times)
            self._times = min(self._times + 1, 10)


class _Address:
    """One address and the connections to it."""

    __slots__ = ("busy", "ip", "leaving", "standing", "transport")

    def __init__(self, ip: str, transport: httpx2.AsyncHTTPTransport) -> None:
        self.ip = ip
        self.transport = transport
        self.standing = Standing()
        self.busy = 0
        self.leaving = False


class Balance(httpx2.AsyncBaseTransport):
    """Sends the requests to `name` to each of its addresses in turn; belongs to one event loop.

    `connect` makes the transport of one address, given how many idle connections are its share of `idle`; of more
    addresses than `idle` so many are used. An address that fails `FAILURES` times in a row (502, 503, 504, a connection
    that breaks) is left out for a while, unless half of them are; one that can't be connected to, at once. Where all
    are left out, all are tried.
    """

    def __init__(
        self,
        name: str,
        port: int,
        *,
        idle: int,
        connect: Callable[[int], httpx2.AsyncHTTPTransport],
        resolve: Resolve = look_up,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._port = port
        self._idle = idle
        self._connect = connect
        self._resolve = resolve
        self._clock = clock
        self._addresses: list[_Address] = []
        self._turn = 0
        self._looked = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; what httpx2 raises comes through, ConnectError once no address can be connected to."""
        if not self._addresses:
            await self._look()
        elif self._clock() - self._looked >= LOOK_AGAIN:
            self._look_soon()
        url, timeouts = request.url, request.extensions.get("timeout", {})
        request.extensions.setdefault("sni_hostname", self._name)
        try:
            return await self._send(request, url, timeouts)
        finally:
            request.url, request.extensions["timeout"] = url, timeouts

    async def _send(
        self, request: httpx2.Request, url: httpx2.URL, timeouts: dict[str, float | None]
    ) -> httpx2.Response:
        tried: set[str] = set()
        while True:
            address, is_last = self._next(tried)
            tried.add(address.ip)
            request.url = url.copy_with(host=address.ip)
            if not is_last:
                limit = min(NEXT_AFTER, timeouts.get("connect") or NEXT_AFTER)
                request.extensions["timeout"] = {**timeouts, "connect": limit}
            else:
                request.extensions["timeout"] = timeouts
            try:
                return await self._exchange(address, request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                address.standing.failed(self._clock(), unreachable=True)
                if self._clock() - self._looked >= LOOK_AFTER_LOSS:
                    await self._look()
                if all(each.ip in tried for each in self._addresses):
                    raise

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        gone, self._addresses = self._addresses, []
        await asyncio.gather(*(each.transport.aclose() for each in gone), *self._closing)

    def _next(self, tried: set[str]) -> tuple[_Address, bool]:
        """Return whose turn it is of those not tried, and whether there is no other."""
        left = [each for each in self._addresses if each.ip not in tried]
        now = self._clock()
        well = [each for each in left if each.standing.out_until <= now]
        if not well:
            return min(left, key=lambda each: each.standing.out_until), len(left) == 1
        self._turn += 1
        return well[self._turn % len(well)], len(left) == 1

    async def _exchange(self, address: _Address, request: httpx2.Request) -> httpx2.Response:
        address.busy += 1
        try:
            response = await address.transport.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            self._done(address)
            raise
        except BaseException as broken:
            if isinstance(broken, httpx2.TransportError):
                self._broke(address)
            self._done(address)
            raise
        if response.status_code in _AWAY:
            self._failed(address)
        else:
            address.standing.answered()
        response.stream = _Watched(self, address, response.stream)  # type: ignore[arg-type]  # it is asynchronous
        return response

    def _failed(self, address: _Address) -> None:
        now = self._clock()
        out = sum(each.standing.out_until > now for each in self._addresses)
        address.standing.failed(now, dispensable=2 * (out + 1) <= len(self._addresses))

    def _broke(self, address: _Address) -> None:
        self._failed(address)
        if self._clock() - self._looked >= LOOK_AFTER_LOSS:
            self._look_soon()

    def _done(self, address: _Address) -> None:
        address.busy -= 1
        if address.leaving and not address.busy:
            self._close(address)

    def _look_soon(self) -> None:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_up())

    async def _look(self) -> None:
        """Look the name up, together with whoever does so now; ConnectError if it has no address."""
        self._look_soon()
        assert self._looking is not None  # noqa: S101 - just made
        await asyncio.shield(self._looking)
        if not self._addresses:
            raise httpx2.ConnectError(f"{self._name} has no address")

    async def _look_up(self) -> None:
        try:
            found = await self._resolve(self._name, self._port)
        except (OSError, UnicodeError):  # UnicodeError: no name at all, such as one of 64 characters without a dot
            found = ()  # what was known stays
        finally:
            self._looking = None
            self._looked = self._clock()
        if found and not self._closed:
            self._take(found)

    def _take(self, found: Sequence[str]) -> None:
        """Keep the addresses that are still there, open the new ones, let go of the others."""
        known = {each.ip: each for each in self._addresses}
        chosen = [each for each in known if each in found][: self._idle]
        new = [each for each in found if each not in known]
        chosen += random.sample(new, min(len(new), self._idle - len(chosen)))
        share = self._idle // len(chosen)
        kept = known if len(chosen) == len(known) else {}  # their share of the idle connections has changed
        self._addresses = [kept.get(ip) or _Address(ip, self._connect(share)) for ip in chosen]
        for each in known.values():
            if each not in self._addresses:
                each.leaving = True
                if not each.busy:
                    self._close(each)

    def _close(self, address: _Address) -> None:
        task = asyncio.get_running_loop().create_task(address.transport.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Watched(httpx2.AsyncByteStream):
    """A response's body, which tells whether its connection broke, and when it is over."""

    def __init__(self, balance: Balance, address: _Address, stream: httpx2.AsyncByteStream) -> None:
        self._balance = balance
        self._address = address
        self._stream = stream
        self._over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except httpx2.TransportError:
            self._balance._broke(self._address)
            raise

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if not self._over:
                self._over = True
                self._balance._done(self._address)
