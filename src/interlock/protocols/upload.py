"""The body of an RPC that may come over HTTP/1.1: what becomes of it and its caller once it is read, or is not."""

from collections.abc import MutableMapping
from typing import Any

from interlock.call import current_call
from interlock.metadata import Metadata
from interlock.protocols.departure import Departures
from interlock.protocols.rest_body import closing_after, may_follow, read_on
from interlock.protocols.serving import Receive, Scope, Send


class Upload:
    """`receive` and `send` of one request.

    Once the body is read whole, its caller is looked after. A body that is refused half-way over HTTP/1.1 is read past
    before the response ends: some clients write all before they read, and wait for ever on one who does not take it.
    """

    __slots__ = ("_departures", "_left_over", "_metadata", "_receive", "_scope", "_send")

    def __init__(
        self, metadata: Metadata, scope: Scope, receive: Receive, send: Send, *, departures: Departures
    ) -> None:
        self._metadata = metadata
        self._scope = scope
        self._receive = receive
        self._send = send
        self._departures = departures
        self._left_over = scope.get("http_version", "1.1")[:1] == "1" and may_follow(metadata, scope)

    async def receive(self) -> MutableMapping[str, Any]:
        """Receive the next event of the request."""
        event = await self._receive()
        if event.get("more_body"):
            return event
        self._left_over = False
        call = current_call.get()
        if event["type"] == "http.request" and call is not None:
            self._departures.watch(call, self._receive)
            call.on_end(lambda _: self._departures.forget(call))
        return event

    async def send(self, event: MutableMapping[str, Any]) -> None:
        """Send one event of the response."""
        if self._left_over:
            event = await self._refused(event)
        await self._send(event)

    async def _refused(self, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return what is to be sent of an event while the body is not read, and read past it before the last one."""
        call = current_call.get()
        admitted = call is not None and call.admitted
        if event["type"] == "http.response.start":
            closing = closing_after(self._metadata, self._scope, admitted=admitted)
            return {**event, "headers": [*event["headers"], *closing]}
        if event.get("more_body"):
            return event
        await self._send({**event, "more_body": True})
        await read_on(self._receive, admitted=admitted)
        return {**event, "body": b""}
