"""Waiting for what happens soon, without guessing how soon."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def until(
    condition: Callable[[], Awaitable[T | None]], limit: float = 10.0, *, pause: float = 0.02
) -> T: ...  # an async condition


@overload
async def until(condition: Callable[[], T | None], limit: float = 10.0, *, pause: float = 0.02) -> T: ...


async def until(condition: Callable[[], Any], limit: float = 10.0, *, pause: float = 0.02) -> Any:
    """Wait until `condition()`, or what it returns to be awaited, is true, and return that.

    It is asked every `pause` seconds; TimeoutError, naming what it last returned, after `limit` seconds.
    """
    last: object = None
    try:
        async with asyncio.timeout(limit):
            while True:
                answer = condition()
                found = await answer if inspect.isawaitable(answer) else answer
                if found:
                    return found
                last = found
                await asyncio.sleep(pause)
    except TimeoutError:
        name = getattr(condition, "__qualname__", repr(condition))
        raise TimeoutError(f"{name} did not come true within {limit:g} s; it was {last!r} in the end") from None
