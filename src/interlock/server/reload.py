"""Reload in development: changed files in the working directory call for other workers."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

log = logging.getLogger("interlock.server")

SUFFIXES = (".py", ".proto", ".binpb", ".toml", ".env")


class _Sources(DefaultFilter):
    """Code, contracts and images, settings; not what tools and services write."""

    def __call__(self, change: Change, path: str) -> bool:
        return path.endswith(SUFFIXES) and super().__call__(change, path)


async def on_changes(restart: Callable[[], Awaitable[None]], directory: Path | None = None) -> None:
    """Call `restart` after every change below `directory` (the working directory), for ever."""
    root = directory or Path.cwd()
    async for changes in awatch(root, watch_filter=_Sources(), debounce=200):
        names = sorted({str(Path(path).relative_to(root)) for _, path in changes})
        log.info("changed: %s%s", ", ".join(names[:3]), " …" if len(names) > 3 else "")
        await restart()
