"""Handlers bound to their operations: a user's method becomes a `Handler`, or is refused at start with a reason."""

import inspect
from collections.abc import AsyncIterator
from typing import Any

from interlock.call import Call, Handler, Reply
from interlock.contract.model import Operation


def bind(operation: Operation, owner: Any, name: str) -> Handler:
    """Return the Handler for `operation` that calls `owner`'s method `name`; TypeError if the method does not fit."""
    method = getattr(owner, name, None)
    where = f"{type(owner).__name__}.{name}"
    if method is None:
        raise TypeError(f"{where} is missing: {operation.path} has no handler")
    if operation.kind.server_streams:
        return _stream(operation, method, where)
    if not inspect.iscoroutinefunction(method):
        raise TypeError(f"{where} must be `async def`; blocking work goes through `await in_thread(…)`")
    return _single(operation, method, where)


def _single(operation: Operation, method: Any, where: str) -> Handler:
    reply_type = operation.reply_type

    async def handle(call: Call) -> Reply:
        reply = await method(call.request, call)
        if not isinstance(reply, reply_type):
            raise _wrong_reply(operation, where, reply)
        return reply

    return handle


def _stream(operation: Operation, method: Any, where: str) -> Handler:
    if inspect.isasyncgenfunction(method):

        async def handle(call: Call) -> Reply:
            return _checked(method(call.request, call), operation, where)

        return handle
    if not inspect.iscoroutinefunction(method):
        raise TypeError(f"{where} must be `async def` with `yield`, or return an async iterator from `async def`")

    async def open_stream(call: Call) -> Reply:
        return _checked(await method(call.request, call), operation, where)

    return open_stream


async def _checked(replies: AsyncIterator[Any], operation: Operation, where: str) -> AsyncIterator[Any]:
    reply_type = operation.reply_type
    try:
        async for reply in replies:
            if not isinstance(reply, reply_type):
                raise _wrong_reply(operation, where, reply)
            yield reply
    finally:
        close = getattr(replies, "aclose", None)
        if close is not None:
            await close()


def _wrong_reply(operation: Operation, where: str, reply: object) -> TypeError:
    return TypeError(f"{where} gave a {type(reply).__name__}; {operation.path} replies {operation.reply_type.__name__}")
