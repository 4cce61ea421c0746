"""What an operator may see and change of a running process, as plain values; who may is asked elsewhere."""

import json
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from interlock.observability.health import Health
from interlock.observability.logging import AccessLog, log_level, set_log_level
from interlock.observability.recent import RecentErrors, tasks

log = logging.getLogger("interlock.admin")

PATH = "/admin"
PERMISSION = "interlock:admin"
"""What the roles of an operator who asks from elsewhere must hold."""

Answer = tuple[int, Any]


class Admin:
    """The pages below `/admin` of one process. `contract` gives what is in force, `overview` a few facts more."""

    def __init__(
        self,
        health: Health,
        access_log: AccessLog | None,
        contract: Callable[[], Any],
        overview: Callable[[], dict[str, Any]],
    ) -> None:
        self.errors = RecentErrors()
        self._health = health
        self._access_log = access_log
        self._contract = contract
        self._overview = overview
        self._usual: str | None = None
        self._pages: dict[str, Callable[[], Awaitable[Any]]] = {
            PATH: self._index,
            f"{PATH}/tasks": self._tasks,
            f"{PATH}/errors": self._errors,
            f"{PATH}/health": self._failing,
            f"{PATH}/contract": self._in_force,
            f"{PATH}/log-level": self._level,
        }

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Return status and document of one request."""
        page = self._pages.get(path.rstrip("/"))
        if page is None:
            return 404, {"error": f"there is {', '.join(self._pages)}"}
        if method in ("GET", "HEAD"):
            return 200, await page()
        if method == "PUT" and page == self._level:
            return self._change_level(body)
        return 405, {"error": "GET shows; PUT changes /admin/log-level alone"}

    def set_level(self, level: str) -> None:
        """Log from `level` on; ValueError for what is no level."""
        before = log_level()
        set_log_level(level)
        if self._access_log is not None:
            self._access_log.failures_only = level in ("warning", "error")
        if level != before:
            log.warning("the log level is %s now, it was %s", level, before)

    def toggle_debug(self) -> None:
        """Log everything, or what was logged before."""
        if log_level() == "debug":
            self.set_level(self._usual or "info")
        else:
            self._usual = log_level()
            self.set_level("debug")

    def dump_tasks(self) -> None:
        """Write what the tasks do into the log, a line each."""
        found = tasks()
        log.warning("%d tasks", len(found))
        for each in found:
            log.warning("task %s: %s: %s", each["name"], each["coroutine"], " | ".join(each["stack"]) or "not begun")

    def _change_level(self, body: bytes) -> Answer:
        try:
            document = json.loads(body)
            level = document["level"] if isinstance(document, dict) else document
            self.set_level(str(level).lower())
        except (ValueError, KeyError, RecursionError):
            return 400, {"error": 'the body must be {"level": "debug"}, or info, warning, error'}
        return 200, {"level": log_level(), "pid": os.getpid()}

    async def _index(self) -> Any:
        return {"pid": os.getpid(), "log_level": log_level(), **self._overview(), "pages": sorted(self._pages)}

    async def _tasks(self) -> Any:
        return {"pid": os.getpid(), "tasks": tasks()}

    async def _errors(self) -> Any:
        return {"pid": os.getpid(), "errors": list(self.errors.lines)}

    async def _failing(self) -> Any:
        return {"serving": self._health.serving, "checks": sorted(self._health.checks), "failing": await self._failed()}

    async def _failed(self) -> dict[str, str]:
        return await self._health.failing()

    async def _in_force(self) -> Any:
        return self._contract()

    async def _level(self) -> Any:
        return {"level": log_level(), "pid": os.getpid()}
