"""What an operator may see and change of a running process, as plain values; who may is asked elsewhere."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from interlock.contract.effective import duration
from interlock.observability.health import Health
from interlock.observability.logging import LEVELS, AccessLog, log_level, set_log_level
from interlock.observability.recent import KINDS, RecentErrors, kind_of, tasks
from interlock.observability.siblings import Level, Siblings

log = logging.getLogger("interlock.admin")

PATH = "/admin"
PERMISSION = "interlock:admin"
"""What the roles of an operator who asks from elsewhere must hold."""

LOOK = 1.0
"""Seconds between two looks at what the other workers tell."""

LONGEST = 7 * 86400.0
"""Seconds for which a log level may be set; a level without a limit stays."""

Answer = tuple[int, Any]


class Admin:
    """The pages below `/admin` of one process. `contract` gives what is in force, `overview` a few facts more."""

    def __init__(
        self,
        health: Health,
        access_log: AccessLog | None,
        contract: Callable[[], Any],
        overview: Callable[[], dict[str, Any]],
        siblings: Siblings | None = None,
    ) -> None:
        self.errors = RecentErrors()
        self._siblings = siblings
        self._looking: asyncio.Task[None] | None = None
        self._return: asyncio.TimerHandle | None = None
        self._until: float | None = None
        self._health = health
        self._access_log = access_log
        self._contract = contract
        self._overview = overview
        self._usual = log_level()
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

    async def start(self) -> None:
        """Keep the last errors, and begin to look at what the other workers tell."""
        self._usual = log_level()
        logging.getLogger().addHandler(self.errors)
        if self._access_log is not None:
            self._access_log.failed = self.errors.failed
        if self._siblings is not None and self._looking is None:
            self.errors.recall(self._siblings.inherit())
            self._looking = asyncio.create_task(self._look(self._siblings), name="admin")

    async def stop(self) -> None:
        """Look no more."""
        logging.getLogger().removeHandler(self.errors)
        looking, self._looking = self._looking, None
        self._stay()
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self, siblings: Siblings) -> None:
        told = 0
        while True:
            try:
                chosen = siblings.new_level()
                if chosen is not None:
                    self._take(chosen)
                if self.errors.count != told:
                    told = self.errors.count
                    siblings.tell_errors(self.errors.lines)
            except Exception:  # such as a full disk: the next look may do better
                log.debug("what workers share can't be read or written", exc_info=True)
            await asyncio.sleep(LOOK)

    def set_level(self, level: str) -> None:
        """Log from `level` on, in this worker; ValueError for what is no level."""
        before = log_level()
        self._stay()
        set_log_level(level)
        if self._access_log is not None:
            self._access_log.failures_only = level in ("warning", "error")
        if level != before:
            log.warning("the log level is %s now, it was %s", level, before)

    def toggle_debug(self) -> None:
        """Log everything, or what was logged before."""
        if log_level() == "debug":
            self.set_level("info" if self._usual == "debug" else self._usual)
        else:
            self.set_level("debug")

    def _take(self, chosen: Level) -> None:
        left = None if chosen.until is None else chosen.until - time.time()
        if left is not None and left <= 0:
            return
        self.set_level(chosen.level)
        if left is not None:
            self._until = chosen.until
            self._return = asyncio.get_running_loop().call_later(left, self.set_level, self._usual)

    def _stay(self) -> None:
        self._until = None
        if self._return is not None:
            self._return.cancel()
            self._return = None

    def dump_tasks(self) -> None:
        """Write what the tasks do into the log, a line each."""
        found = tasks()
        log.warning("%d tasks", len(found))
        for each in found:
            log.warning("task %s: %s: %s", each["name"], each["coroutine"], " | ".join(each["stack"]) or "not begun")

    def _change_level(self, body: bytes) -> Answer:
        try:
            chosen = _chosen(json.loads(body))
            self._take(chosen)
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            wanted = '{"level": "debug"}, or info, warning, error; "for": "10m" sets how long, at most 168h'
            return 400, {"error": f"the body must be {wanted}"}
        if self._siblings is None:
            return 200, self._in_force_level()
        try:
            self._siblings.tell_level(chosen)
        except OSError as error:
            return 500, {**self._in_force_level(), "error": f"the other workers could not be told: {error}"}
        return 200, {**self._in_force_level(), "workers": "all, within a second"}

    def _in_force_level(self) -> dict[str, Any]:
        until = None if self._until is None else datetime.fromtimestamp(self._until, UTC).isoformat(timespec="seconds")
        return {"level": log_level(), "until": until, "pid": os.getpid()}

    async def _index(self) -> Any:
        return {"pid": os.getpid(), "log_level": log_level(), **self._overview(), "pages": sorted(self._pages)}

    async def _tasks(self) -> Any:
        return {"pid": os.getpid(), "tasks": tasks()}

    async def _errors(self) -> Any:
        lines = self.errors.lines
        if self._siblings is not None:
            lines += self._siblings.errors()
        lines.sort(key=lambda line: str(line.get("timestamp")))
        return {"pid": os.getpid(), **{kind: [each for each in lines if kind_of(each) == kind] for kind in KINDS}}

    async def _failing(self) -> Any:
        return {"serving": self._health.serving, "checks": sorted(self._health.checks), "failing": await self._failed()}

    async def _failed(self) -> dict[str, str]:
        return await self._health.failing()

    async def _in_force(self) -> Any:
        return self._contract()

    async def _level(self) -> Any:
        return self._in_force_level()


def _chosen(document: Any) -> Level:
    if not isinstance(document, dict):
        document = {"level": document}
    level, limit = str(document["level"]).lower(), document.get("for")
    if level not in LEVELS or not document.keys() <= {"level", "for"}:
        raise ValueError(document)
    seconds = None if limit is None else duration(str(limit)).total_seconds()
    if seconds is not None and not 0 < seconds <= LONGEST:
        raise ValueError(limit)
    return Level(level=level, until=None if seconds is None else time.time() + seconds)
