"""The last errors of the process, and what its tasks do: for an operator who looks."""

import asyncio
import io
import logging
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import Any

from interlock.call import current_call

MOST = 50
LONGEST = 4096
"""Characters that are kept of a message, and of a traceback."""
TASKS = 500
"""Tasks that are told of."""


class RecentErrors(logging.Handler):
    """Keeps the last lines of level ERROR and above, with the ids of their calls; bounded."""

    def __init__(self, most: int = MOST) -> None:
        super().__init__(logging.ERROR)
        self.lines: deque[dict[str, Any]] = deque(maxlen=most)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
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
            line["exception"] = "".join(traceback.format_exception(record.exc_info[1]))[-LONGEST:]
        self.lines.append(line)


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
