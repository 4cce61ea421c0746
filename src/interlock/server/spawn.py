"""Worker processes as the parent sees them: started with inherited sockets, heard over a pipe."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from interlock.server.application import StartError
from interlock.server.shared import SharedDirectory
from interlock.server.worker import START_FAILED, Plan

log = logging.getLogger("interlock.server")


@dataclass(slots=True, eq=False, kw_only=True)
class Worker:
    """One worker process. `ready` holds its facts or a `StartError`; `exited` its exit code, negative for a signal."""

    number: int
    process: asyncio.subprocess.Process
    ready: "asyncio.Future[dict[str, Any]]"
    retiring: asyncio.Event = field(default_factory=asyncio.Event)
    started: float
    heard: float
    exited: "asyncio.Task[int]" = field(init=False)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def was_ready(self) -> bool:
        """Whether it has ever answered requests."""
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def end(self, limit: float) -> int:
        """Tell it to drain, wait at most `limit` seconds, then kill it; return the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(asyncio.shield(self.exited), limit)
        except TimeoutError:
            log.error("worker %d (pid %d) did not end within %g s: killed", self.number, self.pid, limit)  # noqa: TRY400
            self.signal(signal.SIGKILL)
            return await self.exited


DIRECTORY, SLOT = "INTERLOCK_METRICS_DIRECTORY", "INTERLOCK_WORKER"
"""How a worker finds its siblings' metrics; as in observability/snapshots.py, which the parent does not import."""


class Spawner:
    """Starts workers of one target on sockets that this process bound; holds their lifeline."""

    def __init__(
        self,
        target: str,
        api: Sequence[socket.socket],
        operations: Sequence[socket.socket],
        *,
        log_level: str,
        log_format: str,
        start_limit: float,
    ) -> None:
        self._target = target
        self._api = api
        self._operations = operations
        self._log_level = log_level
        self._log_format = log_format
        self._start_limit = start_limit
        self._lifeline, self._held = os.pipe()
        self._shared = SharedDirectory()

    async def spawn(self, number: int) -> Worker:
        """Start a worker; it is not ready yet."""
        reading, writing = os.pipe()
        plan = Plan(
            target=self._target,
            number=number,
            api=[each.fileno() for each in self._api],
            operations=[each.fileno() for each in self._operations],
            report=writing,
            lifeline=self._lifeline,
            log_level=self._log_level,
            log_format=self._log_format,
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *plan.command(),
                pass_fds=plan.descriptors(),
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, DIRECTORY: str(self._shared.path), SLOT: str(number)},
            )
        finally:
            os.close(writing)
        loop = asyncio.get_running_loop()
        worker = Worker(
            number=number, process=process, ready=loop.create_future(), started=loop.time(), heard=loop.time()
        )
        worker.ready.add_done_callback(lambda done: done.cancelled() or done.exception())  # not every start is awaited
        worker.exited = asyncio.create_task(_heard_out(worker, reading, self._start_limit))
        return worker

    def close(self) -> None:
        """Let go of the lifeline; workers that still run end."""
        os.close(self._held)
        os.close(self._lifeline)
        self._shared.close()


async def _heard_out(worker: Worker, descriptor: int, start_limit: float) -> int:
    """Take in what the worker reports until it has ended; return its exit code."""
    overdue = asyncio.get_running_loop().call_later(start_limit, _overdue, worker, start_limit)
    try:
        async for message in _messages(descriptor):
            worker.heard = asyncio.get_running_loop().time()
            if "ready" in message and not worker.ready.done():
                overdue.cancel()
                worker.ready.set_result(message["ready"])
            elif "failed" in message and not worker.ready.done():
                worker.ready.set_exception(StartError(message["failed"]))
            elif "retire" in message:
                worker.retiring.set()
        code = await worker.process.wait()
    finally:
        overdue.cancel()
    if not worker.ready.done():
        worker.ready.set_exception(StartError(f"worker {worker.number} (pid {worker.pid}) {ending(code)} at its start"))
    return code


def _overdue(worker: Worker, limit: float) -> None:
    if not worker.ready.done():
        worker.ready.set_exception(
            StartError(f"the app was not ready within {limit:g} s (start_limit, INTERLOCK_START_LIMIT)")
        )
        worker.signal(signal.SIGKILL)


async def _messages(descriptor: int) -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader(limit=1 << 20)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        while line := await reader.readline():
            yield json.loads(line)
    finally:
        transport.close()


def ending(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return "could not start its app" if code == START_FAILED else f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
