"""The last errors of the process, and what its tasks do: for an operator who looks."""

import asyncio
import io
import logging
import os
import traceback
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from interlock.call import Outcome, current_call

MOST = 50
LONGEST = 4096
"""Characters that are kept of a message, and of a traceback."""
TASKS = 500
"""Tasks that are told of."""


KINDS = ("errors", "warnings", "calls")


def kind_of(line: Mapping[str, Any]) -> str:
    """Tell of which kind a line is that was kept."""
    if "status_code" in line:
        return "calls"
    return "warnings" if line.get("level") == "warning" else "errors"


class RecentErrors(logging.Handler):
    """Keeps the last errors, warnings and failed calls, each kind apart, with the ids of the calls; bounded."""

    def __init__(self, most: int = MOST) -> None:
        super().__init__(logging.WARNING)
        self._kinds: dict[str, deque[dict[str, Any]]] = {kind: deque(maxlen=most) for kind in KINDS}
        self.count = 0
        """How many there were."""

    def recall(self, lines: list[dict[str, Any]]) -> None:
        """Keep lines of another worker, older than its own."""
        for line in reversed(lines):
            self._kept(line).appendleft(line)
        self.count += len(lines)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All that is kept."""
        return [line for kept in self._kinds.values() for line in kept]

    def _kept(self, line: dict[str, Any]) -> deque[dict[str, Any]]:
        return self._kinds[kind_of(line)]

    def failed(self, outcome: Outcome) -> None:
        """Keep what is known of a call that failed by the service's fault."""
        call, error = outcome.call, outcome.error
        if error is None:
            return
        line: dict[str, Any] = {
            "timestamp": datetime.now(UTC).isoformat(),
            "pid": os.getpid(),
            "event": "call",
            "endpoint": call.operation.path,
            "protocol": call.protocol,
            "status_code": error.code.name,
            "reason": error.reason,
            "error": error.message[:LONGEST],
            "response_time_ms": round(outcome.duration * 1000, 3),
            "request_id": call.request_id,
        }
        if call.trace is not None:
            line["trace_id"] = call.trace.trace_id
        self._kept(line).append(line)
        self.count += 1

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "pid": record.process,
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": _message(record)[:LONGEST],
        }
        call = current_call.get()
        if call is not None:
            line["endpoint"] = call.operation.path
            line["request_id"] = call.request_id
            if call.trace is not None:
                line["trace_id"] = call.trace.trace_id
        if record.exc_info is not None and record.exc_info[1] is not None:
            raised = record.exc_info[1]
            line["cause"] = f"{type(raised).__name__}: {(str(raised).splitlines() or [''])[0]}"[:LONGEST]
            line["exception"] = "".join(traceback.format_exception(record.exc_info[1]))[-LONGEST:]
        self._kept(line).append(line)
        self.count += 1


def _message(record: logging.LogRecord) -> str:
    if isinstance(record.msg, dict):  # structlog hands on its line
        return str(record.msg.get("event", record.msg))
    try:
        return record.getMessage()
    except Exception as broken:
        return f"{record.msg!r} ({type(broken).__name__} in its arguments)"


def tasks() -> list[dict[str, Any]]:
    """Return the tasks of this event loop: name, coroutine, and where each waits, innermost last."""
    found = []
    for task in sorted(asyncio.all_tasks(), key=lambda each: each.get_name())[:TASKS]:
        text = io.StringIO()
        task.print_stack(limit=8, file=text)
        coroutine = task.get_coro()
        found.append(
            {
                "name": task.get_name(),
                "coroutine": getattr(coroutine, "__qualname__", str(coroutine)),
                "stack": [line.strip() for line in text.getvalue().splitlines()[1:]],
            }
        )
    return found
