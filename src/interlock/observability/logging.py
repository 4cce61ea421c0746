"""Structured logs: one access line per call, and whatever else the process says, in one form."""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from random import random
from typing import Any, Literal, TextIO

from interlock.call import Call, Handler, Layer, Middleware, Outcome, Reply, TraceContext, current_call
from interlock.contract.model import Operation
from interlock.errors import Code, Error
from interlock.observability.line_writer import LineWriter
from interlock.observability.masking import Masked, mask, mask_arguments
from interlock.stamps import timestamp

LogFormat = Literal["auto", "json", "pretty"]
LEVELS = ("debug", "info", "warning", "error")
FAILED = frozenset((Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED))


def configure_logging(
    level: str = "info", form: LogFormat = "auto", stream: TextIO | None = None, *, queued: bool = False
) -> None:
    """Send all logs of the process to `stream` (stderr) as JSON lines or readable ones; `auto`: these in a terminal.

    Logs of the standard library come out in the same form. Colours are left out where NO_COLOR is set or the stream
    is no terminal. `queued`: a thread writes, so that a disk or pipe that is slow or full stops nobody; access lines
    go the same way.
    """
    import structlog  # noqa: PLC0415 - costs 30 ms, wanted by processes that serve only

    global _queue  # noqa: PLW0603 - as the standard library's logging, one for a process
    target: Any = stream or sys.stderr
    if queued:
        _queue = target = LineWriter(target, notice=_notice if wants_json(form, target) else None)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        add_call,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        mask_arguments,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        mask,
    ]
    if wants_json(form, target):
        rendering: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        colours = _colours(target)
        # without the values of local variables, which may be tokens and bodies
        failed = structlog.dev.RichTracebackFormatter("truecolor" if colours else None, show_locals=False)
        rendering = [_readable, structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=failed)]
    handler = _Queued(target) if queued else logging.StreamHandler(target)
    handler.addFilter(Masked())
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
        wrapper_class=structlog.stdlib.BoundLogger,  # hands what is to be formatted to the processors
        cache_logger_on_first_use=False,
    )  # fmt: skip


_queue: LineWriter | None = None


class _Queued(logging.StreamHandler[Any]):
    """Hands lines to the queue, and waits for it at the end only, not after each line."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)


def _notice(count: int) -> str:
    facts = {"level": "warning", "event": "log lines were dropped", "logger": "interlock.log", "dropped": count}
    return json.dumps({"timestamp": timestamp(), **facts}) + "\n"


def write_lines(text: str) -> None:
    """Write lines where the process's log goes, without waiting where it is queued."""
    (_queue or sys.stderr).write(text)


def dropped_lines() -> int:
    """Return how many lines had no room in the queue of the log."""
    return 0 if _queue is None else _queue.dropped


def log_level() -> str:
    """Return the least level that is logged."""
    return logging.getLevelName(logging.getLogger().level).lower()


def set_log_level(level: str) -> None:
    """Log from this level on: debug, info, warning or error; ValueError for another."""
    if level not in LEVELS:
        raise ValueError(f"the level must be one of {', '.join(LEVELS)}")
    logging.getLogger().setLevel(level.upper())


def add_call(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the ids of the call that is being served into a line, a processor of structlog; its own values stand."""
    call = current_call.get()
    if call is not None:
        line.setdefault("request_id", call.request_id)
        if call.trace is not None:
            line.setdefault("trace_id", call.trace.trace_id)
            line.setdefault("span_id", call.trace.span_id)
    return line


def _readable(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what a terminal would obey, and indent further lines of a text, which else pass for lines of the log."""
    for key, value in line.items():
        if type(value) is str and not value.isprintable():
            line[key] = "\n    ".join(map(one_line, value.split("\n")))
    return line


def wants_json(form: LogFormat, stream: TextIO) -> bool:
    """Tell whether lines to `stream` are JSON in that form."""
    return form == "json" or (form == "auto" and not stream.isatty())


def _colours(stream: TextIO) -> bool:
    import os  # noqa: PLC0415 - only here

    return stream.isatty() and "NO_COLOR" not in os.environ


class AccessLog:
    """Writes one line per served call, rendered once, several lines a write.

    With `failures_only` calls that succeeded leave none; else the share `successes` of them does, from 0 to 1, and all
    that are sampled for a trace. Lines wait at most `delay` seconds or until `batch` are
    there. `write` takes the text of whole lines.
    """

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        *,
        json_lines: bool = True,
        failures_only: bool = False,
        successes: float = 1.0,
        batch: int = 64,
        delay: float = 0.2,
    ) -> None:
        self.failures_only = failures_only
        """Whether calls that succeeded leave no line; may be changed at any time."""
        self.failed: Callable[[Outcome], None] | None = None
        """Who else is told of calls that failed by the service's fault."""
        self._successes = successes
        self._write = write or write_lines
        self._render = _json_line if json_lines else _readable_line
        self._batch = batch
        self._delay = delay
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def record(self, outcome: Outcome) -> None:
        """Take the line of an ended call."""
        if outcome.error is None and (self.failures_only or (self._successes < 1.0 and self._left_out(outcome))):
            return
        if self.failed is not None and outcome.error is not None and outcome.error.code in FAILED:
            self.failed(outcome)
        self._lines.append(self._render(outcome))
        if len(self._lines) >= self._batch:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self.flush)

    def _left_out(self, outcome: Outcome) -> bool:
        trace = outcome.call.trace
        return (trace is None or not trace.sampled) and random() >= self._successes  # noqa: S311 - a share, not a secret

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

        def write_line(call: Call, proceed: Handler) -> Awaitable[Reply]:
            call.on_end(record)
            return proceed(call)

        return write_line

    return layer


@lru_cache(maxsize=4096)
def _facts(endpoint: str, protocol: str, code: Code | None) -> str:
    """Return what many lines have in common; all of it comes from the contract and the code."""
    level = "info" if code is None else "error" if code in FAILED else "warning"
    name = "OK" if code is None else code.name
    return (
        f'"level": "{level}", "event": "call", "endpoint": {json.dumps(endpoint)}, "protocol": "{protocol}", '
        f'"status_code": "{name}"'
    )


def _json_line(outcome: Outcome) -> str:
    call, error = outcome.call, outcome.error
    trace, principal = call.trace, call.principal
    return (
        f'{{"timestamp": "{timestamp()}", {_facts(call.operation.path, call.protocol, error and error.code)}, '
        f'"response_time_ms": {outcome.duration * 1000:.3f}, "request_id": "{call.request_id}"'
        f"{'' if trace is None else _traced(trace)}"
        f"{'' if principal is None else _named(principal.subject)}"
        f"{'' if error is None else _failed(error)}}}\n"
    )


def _traced(trace: TraceContext) -> str:
    return f', "trace_id": "{trace.trace_id}", "span_id": "{trace.span_id}"'


def _failed(error: Error) -> str:
    return f', "reason": {json.dumps(error.reason)}, "error": {json.dumps(error.message)}'


@lru_cache(maxsize=4096)
def _named(subject: str) -> str:
    return f', "principal": {json.dumps(subject)}'


def _readable_line(outcome: Outcome) -> str:
    call, error = outcome.call, outcome.error
    line = (
        f"{timestamp()[11:23]} {outcome.code.name:<17} {outcome.duration * 1000:8.2f} ms  "
        f"{call.operation.path}  {call.protocol}  {call.request_id}"
    )
    return f"{line}  {one_line(f'{error.reason}: {error.message}')}\n" if error is not None else line + "\n"


def one_line(text: str) -> str:
    """Escape line ends and what a terminal would obey; the text may hold what a caller sent."""
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
