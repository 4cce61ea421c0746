"""A whole platform at work in a test: all in one process, or a process each, which can be killed and started again."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from interlock.platform import Platform, Running, run_here, run_split
from interlock.platform.platform import load
from interlock.platform.running import restart_service
from interlock.testing.callers import C, Callers
from interlock.testing.surroundings import Surroundings

if TYPE_CHECKING:
    import httpx2


class ServedPlatform:
    """A platform that serves until its block, or the test, ends."""

    def __init__(self, running: Running, callers: Callers) -> None:
        self.running = running
        self._callers = callers

    def client(self, kind: type[C], *roles: str, subject: str = "tester", at: str = "gateway", **options: Any) -> C:
        """Return a typed gRPC client of the gateway, or of the service named `at`, with a token of those roles."""
        address = self.running.gateway if at == "gateway" else self.running.services[at]
        return self._callers.client(kind, str(address), roles, subject, options)

    def http(self, *roles: str, subject: str = "tester") -> "httpx2.AsyncClient":
        """Return an HTTP client of the gateway's REST."""
        return self._callers.http(self.running.gateway.url, roles, subject)

    async def kill(self, name: str) -> None:
        """Kill the process of a service, as `kill -9` does; RuntimeError for a platform in one process."""
        process = self.running.processes.get(name)
        if process is None:
            there = ", ".join(self.running.processes) or "none: start the platform with split=True"
            raise RuntimeError(f"no process runs {name!r}; there are {there}")
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def restart(self, name: str) -> None:
        """Start the service again at its address, and wait until it is ready."""
        await restart_service(self.running, name)


@asynccontextmanager
async def platform_running(
    platform: Platform | str, surroundings: Surroundings, *, split: bool = False, **settings: Any
) -> AsyncIterator[ServedPlatform]:
    """Run a platform while the block runs, its gateway on a free port; `Platforms` says what the arguments are.

    The services' settings stand in the environment meanwhile, so one platform at a time.
    """
    found = load(platform) if isinstance(platform, str) else platform
    callers = Callers(surroundings.keys)
    if split:
        settings = settings | {"log_level": settings.get("log_level", "error")}
    with surroundings.around(settings), _importable():
        async with (run_split if split else run_here)(found) as running:
            try:
                yield ServedPlatform(running, callers)
            finally:
                await asyncio.shield(callers.close())


class Platforms:
    """The fixture `platform`: starts a platform that ends with the test."""

    def __init__(self, stack: AsyncExitStack, surroundings: Surroundings) -> None:
        self._stack = stack
        self._surroundings = surroundings

    async def __call__(self, platform: Platform | str, *, split: bool = False, **settings: Any) -> ServedPlatform:
        """Start a platform, given itself or as `module:name`: in this process, or with `split` a process each.

        What is given besides are settings, as every service of it reads them; `{name}` in a database URL stands for
        the service, where the service's settings say so.
        """
        return await self._stack.enter_async_context(
            platform_running(platform, self._surroundings, split=split, **settings)
        )


class _importable:  # noqa: N801 - a context manager, used like a function
    """Let processes that are started import what this one can, also what pytest put on the path."""

    def __enter__(self) -> None:
        self._before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(each for each in sys.path if each))

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = self._before
