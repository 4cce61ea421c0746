"""Structured logs: one access line per call, and whatever else the process says, in one form."""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TextIO

from interlock.call import Call, Handler, Layer, Middleware, Outcome, Reply, current_call
from interlock.contract.model import Operation
from interlock.errors import Code

LogFormat = Literal["auto", "json", "pretty"]
_FAILED = frozenset((Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED))


def configure_logging(level: str = "info", form: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send all logs of the process to `stream` (stderr) as JSON lines or readable ones; `auto`: these in a terminal.

    Logs of the standard library come out in the same form. Colours are left out where NO_COLOR is set or the stream
    is no terminal.
    """
    import structlog  # noqa: PLC0415 - costs 30 ms, wanted by processes that serve only

    target = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_call,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    ]
    if wants_json(form, target):
        rendering: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        rendering = [structlog.dev.ConsoleRenderer(colors=_colours(target))]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[*shared[:1], structlog.stdlib.filter_by_level, *shared[1:],
                    structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )  # fmt: skip


def add_call(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the ids of the call that is being served into a line, a processor of structlog; its own values stand."""
    call = current_call.get()
    if call is not None:
        line.setdefault("request_id", call.request_id)
        if call.trace is not None:
            line.setdefault("trace_id", call.trace.trace_id)
            line.setdefault("span_id", call.trace.span_id)
    return line


def wants_json(form: LogFormat, stream: TextIO) -> bool:
    """Tell whether lines to `stream` are JSON in that form."""
    return form == "json" or (form == "auto" and not stream.isatty())


def _colours(stream: TextIO) -> bool:
    import os  # noqa: PLC0415 - only here

    return stream.isatty() and "NO_COLOR" not in os.environ


class AccessLog:
    """Writes one line per served call, rendered once, several lines a write.

    With `failures_only` calls that succeeded leave none. Lines wait at most `delay` seconds or until `batch` are
    there. `write` takes the text of whole lines.
    """

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        *,
        json_lines: bool = True,
        failures_only: bool = False,
        batch: int = 64,
        delay: float = 0.2,
    ) -> None:
        self._failures_only = failures_only
        self._write = write or sys.stderr.write
        self._render = _json_line if json_lines else _readable_line
        self._batch = batch
        self._delay = delay
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def record(self, outcome: Outcome) -> None:
        """Take the line of an ended call."""
        if self._failures_only and outcome.error is None:
            return
        self._lines.append(self._render(outcome))
        if len(self._lines) >= self._batch:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            text = "".join(self._lines)
            self._lines.clear()
            self._write(text)


def log(access_log: AccessLog) -> Layer:
    """Write an access line when a call has ended, streams when they are over."""

    def layer(_operation: Operation) -> Middleware:
        record = access_log.record

        async def write_line(call: Call, proceed: Handler) -> Reply:
            call.on_end(record)
            return await proceed(call)

        return write_line

    return layer


@lru_cache(maxsize=4096)
def _facts(endpoint: str, protocol: str, code: Code | None) -> str:
    """Return what many lines have in common; all of it comes from the contract and the code."""
    level = "info" if code is None else "error" if code in _FAILED else "warning"
    name = "OK" if code is None else code.name
    return (
        f'"level": "{level}", "event": "call", "endpoint": {json.dumps(endpoint)}, "protocol": "{protocol}", '
        f'"status_code": "{name}"'
    )


def _timestamp() -> str:
    now = time.time()
    second = int(now)
    return f"{_second(second)}.{int((now - second) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _json_line(outcome: Outcome) -> str:
    call, error = outcome.call, outcome.error
    line = (
        f'{{"timestamp": "{_timestamp()}", {_facts(call.operation.path, call.protocol, error and error.code)}, '
        f'"response_time_ms": {outcome.duration * 1000:.3f}, "request_id": "{call.request_id}"'
    )
    if call.trace is not None:
        line += f', "trace_id": "{call.trace.trace_id}", "span_id": "{call.trace.span_id}"'
    if call.principal is not None:
        line += f', "principal": {_quoted(call.principal.subject)}'
    if error is not None:
        line += f', "reason": {json.dumps(error.reason)}, "error": {json.dumps(error.message)}'
    return line + "}\n"


_quoted = lru_cache(maxsize=4096)(json.dumps)


def _readable_line(outcome: Outcome) -> str:
    call, error = outcome.call, outcome.error
    line = (
        f"{_timestamp()[11:23]} {outcome.code.name:<17} {outcome.duration * 1000:8.2f} ms  "
        f"{call.operation.path}  {call.protocol}  {call.request_id}"
    )
    return f"{line}  {_one_line(f'{error.reason}: {error.message}')}\n" if error is not None else line + "\n"


def _one_line(text: str) -> str:
    """Escape line ends and what a terminal would obey; the text may hold what a caller sent."""
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
