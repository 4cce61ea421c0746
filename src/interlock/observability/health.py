"""Whether the process lives, whether it is ready, and the standard gRPC health service over the same answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import Context
from typing import Any

from interlock.call import Call
from interlock.contract.gen.grpc.health.v1.health_pb import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from interlock.errors import NotFound, Unavailable

Check = Callable[[], Awaitable[None]]
"""A named part that readiness depends on; raises while it is not well."""

_CHECK_LIMIT = 2.0
_Status = HealthCheckResponse.ServingStatus


class Health:
    """The state behind `/livez`, `/readyz` and `grpc.health.v1`.

    `serving` is set by the app: False before it started and once it drains. `checks` are asked by `failing`, all at
    once, each for two seconds at most; those who ask meanwhile share the answer, so that many cost no more than one.
    """

    def __init__(self, services: Iterable[str] = ()) -> None:
        self.services = tuple(services)
        self.checks: dict[str, Check] = {}
        self.draining = False
        self._serving = False
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[dict[str, str]] | None = None

    @property
    def serving(self) -> bool:
        """Whether the app takes calls."""
        return self._serving

    @serving.setter
    def serving(self, value: bool) -> None:
        self._serving = value
        self.draining = False
        self._announce()

    def drain(self) -> None:
        """Be not ready for good: watchers are told and let go, so that no drain waits for them."""
        self._serving = False
        self.draining = True
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def change(self) -> asyncio.Event:
        """What is set when `serving` changes from what it is now."""
        return self._changed

    async def failing(self) -> dict[str, str]:
        """Return what is not well, by name: empty means ready. The texts are for operators, not for callers."""
        if not self._serving:
            return {"serving": "starting or shutting down"}
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), context=Context())  # of no caller's trace
        return await asyncio.shield(self._looking)

    async def _look(self) -> dict[str, str]:
        names = list(self.checks)
        results = await asyncio.gather(
            *(asyncio.wait_for(_ask(self.checks[name]), _CHECK_LIMIT) for name in names), return_exceptions=True
        )
        return {
            name: _told(result)
            for name, result in zip(names, results, strict=True)
            if isinstance(result, BaseException)
        }


def _told(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer within {_CHECK_LIMIT:g} s"
    return f"{type(error).__name__}: {error}".rstrip(": ")


async def _ask(check: Check) -> None:
    await check()  # called in here, so that one which raises at once is not well, as any other


class HealthService:
    """`grpc.health.v1.Health` (grpc/doc/health-checking.md): the empty name and every service answer alike."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def check(self, request: HealthCheckRequest, _call: Call) -> HealthCheckResponse:
        """Answer for one service; NOT_FOUND for one that is not served here."""
        if request.service and request.service not in self._health.services:
            raise NotFound(f"no service {request.service!r} here")
        return HealthCheckResponse(status=await self._status())

    async def list(self, _request: HealthListRequest, _call: Call) -> HealthListResponse:
        """Answer for all services."""
        status = await self._status()
        names = ("", *self._health.services)
        return HealthListResponse(statuses={name: HealthCheckResponse(status=status) for name in names})

    async def watch(self, request: HealthCheckRequest, _call: Call) -> AsyncIterator[HealthCheckResponse]:
        """Tell the status now and whenever it changes; an unknown service is SERVICE_UNKNOWN, and may appear.

        Ends with UNAVAILABLE once the app drains, after it told so.
        """
        known = not request.service or request.service in self._health.services
        last: Any = None
        while True:
            change = self._health.change  # before the look: what changes while a message is on its way is not missed
            status = await self._status() if known else _Status.SERVICE_UNKNOWN
            if status != last:
                yield HealthCheckResponse(status=status)
                last = status
            if self._health.draining:
                raise Unavailable("the service is shutting down")
            await self._next_look(change)

    async def _next_look(self, change: asyncio.Event) -> None:
        try:
            await asyncio.wait_for(change.wait(), timeout=1.0 if self._health.checks else None)
        except TimeoutError:
            return

    async def _status(self) -> Any:
        return _Status.NOT_SERVING if await self._health.failing() else _Status.SERVING
