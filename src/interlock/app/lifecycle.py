"""The life of an app: what is opened at its start and closed at its end, and the ASGI lifespan that asks for both."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from interlock.defaults import Parts
from interlock.protocols.serving import Receive, Send

Hook = Callable[[], Awaitable[None]]


def opening(parts: Parts, *, verifies: bool) -> list[Hook]:
    """Return what opens the parts of an app, in order; keys of tokens are read only where it `verifies` any."""
    hooks: list[Hook] = [parts.tracing.start, parts.metrics.start]
    if parts.verifier is not None and verifies:
        hooks.append(parts.verifier.start)
    if parts.database is not None:
        hooks.append(parts.database.start)
    if parts.purge is not None:
        hooks.append(parts.purge.start)
    if parts.api_keys is not None:
        hooks.append(parts.api_keys.start)
    return hooks


def closing(parts: Parts) -> list[Hook]:
    """Return what closes the parts again, in order."""
    hooks: list[Hook] = []
    if parts.purge is not None:
        hooks.append(parts.purge.stop)
    if parts.database is not None:
        hooks.append(parts.database.stop)
    if parts.api_keys is not None:
        hooks.append(parts.api_keys.close)
    if parts.verifier is not None:
        hooks.append(parts.verifier.close)
    return [*hooks, parts.limiter.close, parts.metrics.stop, parts.tracing.stop]


async def lifespan(app: AbstractAsyncContextManager[Any], receive: Receive, send: Send) -> None:
    """Start and stop `app` as a server without a runner of its own asks for it (ASGI lifespan)."""
    while True:
        event = await receive()
        kind = event["type"].removeprefix("lifespan.")
        try:
            if kind == "startup":
                await app.__aenter__()
            else:
                await app.__aexit__(None, None, None)
        except Exception as error:
            await send({"type": f"lifespan.{kind}.failed", "message": str(error)})
        else:
            await send({"type": f"lifespan.{kind}.complete"})
        if kind == "shutdown":
            return


async def within(limit: float, waiting: Coroutine[Any, Any, None]) -> None:
    """Wait for `waiting`, at most `limit` seconds."""
    try:
        await asyncio.wait_for(waiting, limit)
    except TimeoutError:
        return
