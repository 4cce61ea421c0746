"""A server stream over REST, in the form that Accept chooses: newline-delimited JSON, server-sent events, or a file."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from protobuf import Message

from interlock.call import Call
from interlock.deadline import monotonic
from interlock.errors import Cancelled, Error
from interlock.protocols.rest_error import error_body
from interlock.protocols.rest_reply import FileWriter, Headers, ReplyWriter
from interlock.protocols.serving import Scope, Send, closing, left

LINES, EVENTS = b"application/x-ndjson", b"text/event-stream"
FIRST_BEAT = 1.0
"""Seconds after which a silent stream of events sends its head: until then a failure still has a status of its own."""

_VARY = (b"vary", b"accept")


class Form(Protocol):
    """How messages stand in the body; `beat` is what keeps proxies awake, empty where the form has nothing for it."""

    beat: bytes

    def headers(self) -> Headers:
        """Return what the form says in the head, once the first message is known."""
        ...

    def part(self, call: Call, message: Message[Any], /) -> bytes:
        """Return one message."""
        ...

    def end(self, call: Call, error: Error | None, /) -> bytes | None:
        """Return what stands at the end, None where a failure can't be told but by cutting the body off."""
        ...


class Lines:
    """A line `{"data": …}` each, a last `{"error": …}` on failure."""

    beat = b""

    def __init__(self, writer: ReplyWriter) -> None:
        self._writer = writer

    def headers(self) -> Headers:
        """See `Form`."""
        return [(b"content-type", LINES), _VARY]

    def part(self, _call: Call, message: Message[Any]) -> bytes:
        """See `Form`."""
        return self._writer.data(message) + b"\n"

    def end(self, call: Call, error: Error | None) -> bytes | None:
        """See `Form`."""
        return b"" if error is None else error_body(error, call.request_id) + b"\n"


class Events:
    """Server-sent events (HTML Living Standard §9.2): each with its number as `id`, then one of type `end` or `error`.

    What a browser sends as `Last-Event-ID` when it comes again, the handler finds in the call's metadata.
    """

    beat = b":\n\n"

    def __init__(self, writer: ReplyWriter) -> None:
        self._writer = writer
        self._count = 0

    def headers(self) -> Headers:
        """See `Form`."""
        return [(b"content-type", EVENTS), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"), _VARY]

    def part(self, _call: Call, message: Message[Any]) -> bytes:
        """See `Form`."""
        self._count += 1
        return b"id: %d\ndata: %s\n\n" % (self._count, self._writer.data(message))

    def end(self, call: Call, error: Error | None) -> bytes | None:
        """See `Form`."""
        if error is None:
            return b"event: end\ndata: {}\n\n"
        return b"event: error\ndata: %s\n\n" % error_body(error, call.request_id)


class File:
    """Pieces of a file (`google.api.HttpBody`), whose first says the media type."""

    beat = b""

    def __init__(self, file: FileWriter) -> None:
        self._file = file
        self._kind = b"application/octet-stream"
        self._known = False

    def headers(self) -> Headers:
        """See `Form`."""
        return [(b"content-type", self._kind)]

    def part(self, call: Call, message: Message[Any]) -> bytes:
        """See `Form`."""
        kind, data = self._file.content(call, message)
        if not self._known:
            self._known, self._kind = True, kind
        return data

    def end(self, _call: Call, error: Error | None) -> bytes | None:
        """See `Form`."""
        return b"" if error is None else None


class Stream:
    """Sends one stream; `started` tells whether its head is out."""

    __slots__ = ("_call", "_form", "_over", "_send", "_sent", "_trailers", "_writing", "started")

    def __init__(self, call: Call, form: Form, scope: Scope, send: Send) -> None:
        self._call = call
        self._form = form
        self._send = send
        self._trailers = "http.response.trailers" in (scope.get("extensions") or ())
        self._writing = asyncio.Lock()
        self._sent = monotonic()
        self._over = False
        self.started = False

    async def messages(self, messages: AsyncIterator[Message[Any]], heartbeat: float) -> None:
        """Send the messages as they come, and after `heartbeat` silent seconds a sign of life (0: never)."""
        call, form = self._call, self._form
        beating = asyncio.ensure_future(self._beats(heartbeat)) if form.beat and heartbeat else None
        try:
            async with closing(messages):
                async for message in messages:
                    call.touched = monotonic()
                    part = form.part(call, message)
                    call.reply_bytes += len(part)
                    await self._write(part)
        finally:
            self._over = True
            if beating is not None and not self._writing.locked():  # else it ends once it has written
                beating.cancel()

    async def _beats(self, heartbeat: float) -> None:
        await asyncio.sleep(min(FIRST_BEAT, heartbeat))
        try:
            while not self._over:
                silent = monotonic() - self._sent
                if not self._writing.locked() and (silent >= heartbeat or not self.started):
                    await self._write(self._form.beat)
                await asyncio.sleep(max(0.001, heartbeat - (monotonic() - self._sent)))
        except Cancelled:
            if self._call.task is not None:
                self._call.task.cancel()

    async def _write(self, body: bytes) -> None:
        async with self._writing:
            try:
                await self.start()
                await self._send({"type": "http.response.body", "body": body, "more_body": True})
            except Exception as gone:  # whatever the server raises, nobody listens any longer
                raise left(self._call) from gone
            self._sent = monotonic()

    async def start(self) -> None:
        """Send the head, once."""
        if self.started:
            return
        self.started = True
        call = self._call
        headers = [*self._form.headers(), (b"x-request-id", call.request_id.encode()), *call.head]
        start = {"type": "http.response.start", "status": 200, "headers": headers}
        await self._send({**start, "trailers": True} if self._trailers else start)

    async def end(self, error: Error | None) -> None:
        """Send what is left, the call's trailers too where the server and the caller have them."""
        last = self._form.end(self._call, error)
        if last is None:
            return  # the server cuts off what is not complete, and the caller sees that
        async with self._writing:
            await self.start()
            await self._send({"type": "http.response.body", "body": last, "more_body": False})
            if self._trailers:
                trailers = list(self._call.tail)
                await self._send({"type": "http.response.trailers", "headers": trailers, "more_trailers": False})
