"""What the tests of this room stand on: a clock set by hand, handlers that fail as told, a transport with layers."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from interlock import (
    Call,
    Deadline,
    Direction,
    Error,
    Handler,
    Layer,
    Metadata,
    Middleware,
    Operation,
    Reply,
    Unavailable,
)
from interlock.call import compose
from interlock.client import Transport
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from tests.sample.gen.sample.v1.sample_pb import EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE


class ManualClock:
    """A clock that stands still until it is moved; its `sleep` moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Pass the time at once, and remember how much."""
        self.slept.append(seconds)
        self.now += seconds


def operation(idempotency: Idempotency = Idempotency.SAFE, **changed: Any) -> Operation:
    """Return a unary operation with that idempotency."""
    return replace(SAMPLE_SERVICE.operation(ECHO), idempotency=idempotency, **changed)


def sent(called: Operation, *, deadline: Deadline | None = None, key: str = "") -> Call:
    """Return a call as a client makes it."""
    call = Call(called, Metadata([("idempotency-key", key)] if key else []), direction=Direction.SENT)
    call.wants_metadata = True
    if deadline is not None:
        call.deadline = deadline
    return call


class Callee:
    """A handler that raises what it is given, one after another, then answers; keeps every call it got."""

    def __init__(self, errors: Iterable[BaseException] = ()) -> None:
        self.errors: Iterator[BaseException] = iter(errors)
        self.calls: list[Call] = []
        self.ends: list[str] = []

    async def __call__(self, call: Call) -> Reply:
        """Fail or answer."""
        self.calls.append(call)
        call.on_end(lambda outcome: self.ends.append(outcome.code.name))
        error = next(self.errors, None)
        if error is not None:
            raise error
        return EchoResponse(text="here")


def failing(errors: Sequence[Error], seen: list[Call] | None = None) -> Layer:
    """Return a layer that raises these errors, one a call, before it lets calls pass."""
    left = list(errors)

    def layer(_operation: Operation) -> Middleware:
        async def fail(call: Call, proceed: Handler) -> Reply:
            if seen is not None:
                seen.append(call)
            call.reply_headers.add("x-test-left", str(len(left)))
            if left:
                raise left.pop(0)
            return await proceed(call)

        return fail

    return layer


class Layered:
    """A transport with layers around it, as a client's stack has them."""

    def __init__(self, inner: Transport, layers: Sequence[Layer]) -> None:
        self._inner = inner
        self._layers = layers

    def handler(self, operation: Operation) -> Handler:
        """Return the inner transport's handler inside the layers."""
        return compose(self._layers, operation, self._inner.handler(operation))

    async def close(self) -> None:
        """Close the inner transport."""
        await self._inner.close()


def received(error: Error, *, final: bool = False) -> Error:
    """Return the error as a transport gives it."""
    error.received = True
    error.final = final
    return error


def noting(ends: list[str]) -> Layer:
    """Return a layer that notes how every call through it ended."""

    def layer(_operation: Operation) -> Middleware:
        async def note(call: Call, proceed: Handler) -> Reply:
            call.on_end(lambda outcome: ends.append(outcome.code.name))
            return await proceed(call)

        return note

    return layer


def breaking_off() -> Layer:
    """Return a layer whose streams fail after their first message."""

    def layer(_operation: Operation) -> Middleware:
        async def cut(call: Call, proceed: Handler) -> Reply:
            return first_of(await proceed(call))

        return cut

    async def first_of(replies: Any) -> AsyncIterator[Any]:
        yield await anext(replies)
        await replies.aclose()
        raise received(Unavailable("broke off"))

    return layer
