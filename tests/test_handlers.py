"""Handlers bound to operations, and the mistakes that are told at start."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from interlock import Call
from interlock.contract.stub import Rpc
from interlock.handlers import bind
from tests.sample.gen.sample.v1.sample_pb import CountUpResponse, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import COUNT_UP, ECHO, SAMPLE_SERVICE


class Owner:
    """Methods that fit and methods that do not."""

    not_callable = 3

    def __init__(self) -> None:
        self.closed = False

    async def single(self, request: Any, call: Call) -> EchoResponse:
        return EchoResponse(text="one")

    async def wrong_reply(self, request: Any, call: Call) -> Any:
        return "text"

    async def no_reply(self, request: Any, call: Call) -> None:
        return None

    def sync(self, request: Any, call: Call) -> EchoResponse:
        return EchoResponse()

    async def generator(self, request: Any, call: Call) -> AsyncIterator[Any]:
        try:
            for number in range(3):
                yield CountUpResponse(number=number)
        finally:
            self.closed = True

    async def opened(self, request: Any, call: Call) -> AsyncIterator[Any]:
        return self.generator(request, call)

    async def wrong_message(self, request: Any, call: Call) -> AsyncIterator[Any]:
        yield CountUpResponse(number=1)
        yield EchoResponse()

    async def list_instead(self, request: Any, call: Call) -> Any:
        return [CountUpResponse()]

    async def bare(self, request: Any, call: Call) -> Any:
        return Bare()

    def sync_generator(self, request: Any, call: Call) -> Any:
        yield CountUpResponse()


class Bare:
    """An async iterator with nothing to close."""

    def __aiter__(self) -> "Bare":
        return self

    async def __anext__(self) -> CountUpResponse:
        raise StopAsyncIteration


async def run(rpc: Rpc[Any, Any], owner: Owner, name: str) -> Any:
    """Bind a method, call it, and return its reply, a stream's as a list."""
    operation = SAMPLE_SERVICE.operation(rpc)
    reply: Any = await bind(operation, owner, name)(Call(operation))
    return [each async for each in reply] if rpc.kind.server_streams else reply


async def test_a_coroutine_answers_a_unary_call() -> None:
    """An async method that returns the reply fits."""
    assert (await run(ECHO, Owner(), "single")).text == "one"


@pytest.mark.parametrize("name", ["generator", "opened"])
async def test_a_stream_is_a_generator_or_returns_one(name: str) -> None:
    """`async def` with yield and `async def` that returns an async iterator both fit, and are closed at the end."""
    owner = Owner()
    assert [each.number for each in await run(COUNT_UP, owner, name)] == [0, 1, 2]
    assert owner.closed


async def test_an_iterator_without_aclose_fits() -> None:
    """A plain async iterator need not be closable."""
    assert await run(COUNT_UP, Owner(), "bare") == []


@pytest.mark.parametrize("name", ["generator", "opened"])
async def test_closing_a_stream_closes_the_method(name: str) -> None:
    """A stream that is left early runs the method's finally."""
    owner = Owner()
    operation = SAMPLE_SERVICE.operation(COUNT_UP)
    replies: Any = await bind(operation, owner, name)(Call(operation))
    await anext(replies)
    await replies.aclose()
    assert owner.closed


@pytest.mark.parametrize("name", ["wrong_reply", "no_reply"])
async def test_a_reply_of_the_wrong_type_is_told_with_its_place(name: str) -> None:
    """What is not the operation's reply never reaches the wire, and the message says who gave it."""
    with pytest.raises(TypeError, match=f"Owner.{name} gave a .*replies EchoResponse"):
        await run(ECHO, Owner(), name)


async def test_a_wrong_message_inside_a_stream_is_told() -> None:
    """Every message of a stream is checked, not the first only."""
    with pytest.raises(TypeError, match="wrong_message gave a EchoResponse"):
        await run(COUNT_UP, Owner(), "wrong_message")


async def test_a_list_is_no_stream() -> None:
    """A method that returns a list where a stream is due fails as what it is."""
    with pytest.raises(TypeError, match="async for"):
        await run(COUNT_UP, Owner(), "list_instead")


@pytest.mark.parametrize(
    "rpc, name, text",
    [
        (ECHO, "absent", "Owner.absent is missing: /sample.v1.SampleService/Echo has no handler"),
        (ECHO, "sync", "must be `async def`; blocking work goes through"),
        (ECHO, "generator", "must be `async def`; blocking work"),
        (ECHO, "not_callable", "must be `async def`"),
        (COUNT_UP, "sync_generator", "must be `async def` with `yield`"),
        (COUNT_UP, "sync", "must be `async def` with `yield`"),
    ],
)
def test_a_method_that_does_not_fit_is_refused_at_start(rpc: Rpc[Any, Any], name: str, text: str) -> None:
    """Binding tells what is wrong and what to write instead."""
    with pytest.raises(TypeError, match=text):
        bind(SAMPLE_SERVICE.operation(rpc), Owner(), name)


async def test_a_wrapped_method_fits_while_it_stays_async() -> None:
    """A decorator may stand around a handler as long as it is `async def` itself."""

    def noted(method: Callable[..., Any]) -> Callable[..., Any]:
        async def around(request: Any, call: Call) -> Any:
            await asyncio.sleep(0)
            return await method(request, call)

        return around

    owner = Owner()
    owner.single = noted(owner.single)  # type: ignore[method-assign]
    assert (await run(ECHO, owner, "single")).text == "one"
