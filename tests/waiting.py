"""Waiting for what happens soon, without guessing how soon."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], limit: float = 5.0) -> None:
    """Wait until `condition()` holds; TimeoutError after `limit` seconds."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - the condition may be about anything, another process included
            await asyncio.sleep(0.01)
