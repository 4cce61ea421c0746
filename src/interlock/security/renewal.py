"""What must be fetched now and then, and is asked for by many calls: one fetch at a time, ahead of the end."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

log = logging.getLogger("interlock.security")

T = TypeVar("T")

PAUSE = 10.0
"""Seconds between two fetches that nothing but a failure or a refusal asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term(Generic[T]):
    """A value, in how many seconds to fetch the next one, and in how many this one counts no more."""

    value: T = field(repr=False)
    renew_in: float
    ends_in: float = float("inf")


class Renewed(Generic[T]):
    """Keeps the newest value of `fetch`, called `what` in the log. Belongs to one event loop.

    Once it is time the next value is fetched behind the calls, which wait only where the one there is counts no more.
    While that fails the old one is given out, and it is tried again every 10 s.
    """

    def __init__(
        self, fetch: Callable[[], Awaitable[Term[T]]], what: str, *, now: Callable[[], float] = time.time
    ) -> None:
        self._fetch = fetch
        self._what = what
        self._now = now
        self._term: Term[T] | None = None
        self._renew_at = float("-inf")
        self._ends_at = float("-inf")
        self._next_refresh = float("-inf")
        self._renewing: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a fetch is under way."""
        return self._renewing is not None

    async def get(self) -> T:
        """Return the value; what `fetch` raises where there is none that counts."""
        now = self._now()
        if now >= self._renew_at:
            task = self._begin()
            if now >= self._ends_at:
                await asyncio.shield(task)
        assert self._term is not None  # noqa: S101 - a fetch that failed has raised
        return self._term.value

    async def refresh(self) -> None:
        """Fetch another one now, for this one was refused; not twice in 10 s: then the one there may be newer."""
        if self._now() >= self._next_refresh:
            self._next_refresh = self._now() + PAUSE
            _ = self._begin()
        if self._renewing is not None:
            await asyncio.shield(self._renewing)

    def _begin(self) -> "asyncio.Task[None]":
        if self._renewing is None:
            # in a context of its own: several calls wait for it
            self._renewing = asyncio.get_running_loop().create_task(self._renew(), context=Context())
            self._renewing.add_done_callback(_looked_at)
        return self._renewing

    async def _renew(self) -> None:
        at = self._now()
        try:
            term = await self._fetch()
        except Exception as failed:
            if at >= self._ends_at:
                raise
            log.warning("%s could not be renewed; the old one is shown: %r", self._what, failed)
            self._renew_at = at + PAUSE
            return
        finally:
            self._renewing = None
        self._term = term
        self._renew_at = at + term.renew_in
        self._ends_at = at + term.ends_in


def _looked_at(task: "asyncio.Task[None]") -> None:
    """Take a failure that no call waited for; the next one gets its own."""
    if not task.cancelled():
        task.exception()
