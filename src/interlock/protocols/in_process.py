"""Calls without sockets: the client's side and the front's in one, so that they behave as over the wire.

Every message is encoded and decoded into the callee's class, the callee runs in its own task with a fresh context,
and an error reaches the caller as its status, rebuilt.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from typing import Any

from protobuf import Message

from interlock.call import Call, Cancellation, Direction, Handler, Reply, current_call
from interlock.contract.model import Operation
from interlock.deadline import NEVER, Deadline, monotonic
from interlock.errors import UNPROCESSED, DeadlineExceeded, Error, Internal, TooLarge, Unavailable, Unimplemented
from interlock.protocols.serving import Endpoint, InFlight, Limits, closing, failure
from interlock.protocols.status import from_status, to_status

GRACE = 0.2
"""Seconds past its deadline that a caller waits for the callee to notice it."""


class InProcess:
    """Transport to the endpoints of an app in this process; `find` returns the endpoint at an RPC path, or None."""

    protocol = "in-process"

    def __init__(self, find: Callable[[str], Endpoint | None], in_flight: InFlight, limits: Limits) -> None:
        self._find = find
        self._in_flight = in_flight
        self._limits = limits

    def handler(self, operation: Operation) -> Handler:
        """Return the handler that sends calls of `operation` to the app."""

        async def send(call: Call) -> Reply:
            endpoint = self._find(operation.path)
            if endpoint is None:
                raise Unimplemented(f"the app does not serve {operation.path}")
            if self._in_flight.closed:
                raise Unavailable("the app is shutting down, or was stopped")
            visit = _Visit(call, endpoint, self._in_flight, self._limits)
            if operation.kind.server_streams:
                return visit.stream()
            return await visit.single()

        return send

    async def close(self) -> None:
        """Nothing to close: the app is not ours."""


class _Visit:
    """One call on both sides: the caller's, and the callee's in its own task.

    The caller's stream of requests is iterated in a task with the caller's context, and both streams go through
    queues of one message, so that a slow side holds the other back.
    """

    def __init__(self, call: Call, endpoint: Endpoint, in_flight: InFlight, limits: Limits) -> None:
        self._call = call
        self._endpoint = endpoint
        self._in_flight = in_flight
        self._limits = limits
        self._requests: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
        self._replies: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
        self._broken_requests: BaseException | None = None
        self._left = False
        limit = Deadline(monotonic() + endpoint.timeout) if endpoint.timeout != float("inf") else NEVER
        self._served = Call(
            endpoint.operation,
            metadata=call.metadata.copy(),
            deadline=min(call.deadline, limit),
            direction=Direction.SERVED,
            protocol="in-process",
            incoming=_Incoming(call, self._requests, endpoint.operation.request_type, limits.request_bytes),
        )

    async def single(self) -> Message[Any]:
        tasks = self._start()
        try:
            reply: Message[Any] = await self._next()
            await self._next()  # the end, or the error
            return reply
        finally:
            self._leave(tasks)

    async def stream(self) -> AsyncIterator[Message[Any]]:
        tasks = self._start()
        try:
            while (reply := await self._next()) is not None:
                yield reply
        finally:
            self._leave(tasks)

    def _start(self) -> "list[asyncio.Task[None]]":
        loop = asyncio.get_running_loop()
        self._served.task = loop.create_task(self._serve(), context=Context())
        tasks = [self._served.task]
        if self._call.operation.kind.client_streams:
            tasks.append(loop.create_task(self._upload()))
        return tasks

    async def _upload(self) -> None:
        try:
            async with closing(self._call.request):
                async for request in self._call.request:
                    self._served.touched = monotonic()
                    await self._requests.put(request.to_binary())
        except Exception as broken:
            self._broken_requests = broken
            self._served.cancel(Cancellation.CLIENT_GONE)
        await self._requests.put(None)

    async def _next(self) -> Any:
        at = self._call.deadline.at
        try:
            async with asyncio.timeout(None if at == float("inf") else max(0.0, at - monotonic()) + GRACE):
                item = await self._replies.get()
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed and the handler did not stop") from None
        if self._broken_requests is not None:
            raise self._broken_requests
        if isinstance(item, Error):
            item.received = True
            raise item
        return None if item is None else self._call.operation.reply_type.from_binary(item)

    def _leave(self, tasks: "list[asyncio.Task[None]]") -> None:
        self._left = True
        call, served = self._call, self._served
        if call.wants_metadata:
            call.reply_headers.extend(served.reply_headers)
            call.reply_trailers.extend(served.reply_trailers)
        served.cancel(Cancellation.CLIENT_GONE)
        for task in tasks[1:]:
            task.cancel()
        while not self._replies.empty():  # a callee that has ended may still wait to say so
            self._replies.get_nowait()

    async def _serve(self) -> None:
        served, error = self._served, None
        current_call.set(served)
        self._in_flight.add(served)
        try:
            reply = await self._endpoint.handle(served)
            if served.operation.kind.server_streams:
                messages: AsyncIterator[Message[Any]] = reply  # type: ignore[assignment]  # as its kind says
                async with closing(messages):
                    async for message in messages:
                        served.touched = monotonic()
                        await self._reply(message)
            else:
                await self._reply(reply)  # type: ignore[arg-type]  # and the others' a message
            if served.cancellation is not None:
                error = failure(served, asyncio.CancelledError())
        except BaseException as raised:
            error = failure(served, raised)
        finally:
            self._in_flight.remove(served)
            served.end(error)
        if not self._left:
            await self._replies.put(None if error is None else _rebuilt(error, served))

    async def _reply(self, message: Message[Any]) -> None:
        data = message.to_binary()
        if len(data) > self._limits.reply_bytes:
            raise TooLarge(f"the reply of {len(data)} bytes is larger than the limit of {self._limits.reply_bytes}")
        await self._replies.put(data)


def _rebuilt(error: Error, served: Call) -> Error:
    """Pass an error through its wire form, so that in process nobody sees more of it than elsewhere."""
    status = to_status(error, served.operation.service)
    rebuilt = from_status(status.code, status.message, list(status.details))
    rebuilt.final = error.final
    rebuilt.unsent = UNPROCESSED in error.metadata
    rebuilt.metadata = (*error.metadata, *served.reply_trailers.items())
    return rebuilt


class _Incoming:
    """The caller's request or stream of requests, encoded and decoded into the callee's class."""

    __slots__ = ("_call", "_limit", "_requests", "_type")

    def __init__(
        self, call: Call, requests: "asyncio.Queue[bytes | None]", message_type: type[Message[Any]], limit: int
    ) -> None:
        self._call = call
        self._requests = requests
        self._type = message_type
        self._limit = limit

    async def message(self) -> Message[Any]:
        return self._decode(self._call.request.to_binary())

    async def messages(self) -> AsyncIterator[Message[Any]]:
        while (data := await self._requests.get()) is not None:
            yield self._decode(data)

    def _decode(self, data: bytes) -> Message[Any]:
        if len(data) > self._limit:
            raise TooLarge(f"the message of {len(data)} bytes is larger than the limit of {self._limit}")
        try:
            return self._type.from_binary(data)
        except Exception as broken:
            raise Internal(f"the request is no valid {self._type.desc().type_name}") from broken
