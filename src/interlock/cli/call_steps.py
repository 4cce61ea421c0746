"""The steps of one call and how long each took, for `interlock call --timing`."""

import asyncio
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

# what the HTTP engine tells (httpcore's `trace` extension), by the last part of its name, and the step that ends there
_ENDS = {
    "connect_tcp.complete": "TCP connect",
    "connect_tcp.failed": "TCP connect",
    "start_tls.complete": "TLS",
    "start_tls.failed": "TLS",
    "send_request_body.complete": "request",
    "receive_response_headers.complete": "first byte",
    "receive_response_body.complete": "body",
}


class Steps:
    """Seconds by step, in the order in which the steps ended; each begins where the one before it ended."""

    def __init__(self) -> None:
        self._marked = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def mark(self, step: str) -> None:
        """Note that a step is over; of a step that comes twice the first counts."""
        now = time.perf_counter()
        if step not in self.seconds:
            self.seconds[step] = now - self._marked
            self._marked = now

    async def look_up(self, host: str, port: int) -> None:
        """Resolve a name, as the connection will again; an address needs none, and what fails is told by the call."""
        with suppress(ValueError):
            ip_address(host)
            return
        with suppress(OSError):
            await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.mark("name lookup")

    async def trace(self, event: str, _facts: Mapping[str, Any]) -> None:
        """Take what the HTTP engine tells of a request."""
        step = _ENDS.get(event.partition(".")[2])
        if step is not None:
            self.mark(step)

    def text(self) -> str:
        """Return a line for people."""
        return "  ".join(f"{step} {seconds * 1000:.1f} ms" for step, seconds in self.seconds.items())

    def milliseconds(self) -> dict[str, float]:
        """Return what programs read."""
        return {step: round(seconds * 1000, 3) for step, seconds in self.seconds.items()}
