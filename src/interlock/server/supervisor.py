"""The parent process: starts workers, replaces those that die, rolls over to new ones, ends them well.

It imports neither the app nor grpcio, and holds the sockets, so that connections wait while workers come and go.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from interlock.server.application import StartError
from interlock.server.spawn import Spawner, Worker, ending

log = logging.getLogger("interlock.server")

KILL_MARGIN = 15.0
"""Seconds beyond the drain limit that a worker has to close connections and databases."""
STOP_ACCEPTING = 0.3
"""Seconds within which a worker that was told to end accepts no more."""
SETTLED = 30.0
"""Seconds after which a worker that dies counts as a first failure again."""
LONGEST_PAUSE = 10.0
INTERRUPTED = 130


class Supervisor:
    """Keeps `count` workers at work. `run` returns the exit code of the whole."""

    def __init__(
        self,
        spawner: Spawner,
        count: int,
        *,
        close_sockets: Callable[[], None],
        announce: Callable[[dict[str, Any]], None],
        refuse: Callable[[str], None],
        hang_limit: float = 0.0,
        end_limit: float | None = None,
        forgiving: bool = False,
    ) -> None:
        """Take what to spawn and whom to tell.

        `announce` gets a worker's facts once all are ready, `refuse` the reason why they cannot be. `end_limit`
        replaces the workers' own drain limit. `forgiving` waits for `restart` where a start fails, instead of giving up
        (reload in development).
        of giving up (reload in development).
        """
        self._spawner = spawner
        self._count = count
        self._close_sockets = close_sockets
        self._announce = announce
        self._refuse = refuse
        self._hang_limit = hang_limit
        self._end_limit = end_limit
        self._forgiving = forgiving
        self._in_charge: dict[int, Worker] = {}
        self._alive: set[Worker] = set()
        self._stopping = asyncio.Event()
        self._killing = asyncio.Event()
        self._changing = asyncio.Lock()
        self._failures = 0
        self._code = 0
        self._facts: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> int:
        """Start all workers, keep them until a signal ends the process, and end them."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._background(self.roll()))
        for each in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(each, self._pass_on, each)
        self._background(self._first_start())
        if self._hang_limit:
            self._background(self._look_for_hangs())
        await self._stopping.wait()
        return await self._end()

    def _pass_on(self, number: signal.Signals) -> None:
        """Hand a signal on to the workers that are ready for it."""
        for worker in self._in_charge.values():
            worker.signal(number)

    async def restart(self) -> None:
        """End all workers and start others: for development, where the code has changed."""
        async with self._changing:
            if self._stopping.is_set():
                return
            old = list(self._in_charge.values())
            self._in_charge.clear()
            await asyncio.gather(*(each.end(self._limit()) for each in old))
            await self._start_all()

    async def roll(self) -> None:
        """Replace all workers, one after the other, each told to drain once its successor is ready."""
        async with self._changing:
            log.info("SIGHUP: replacing %d workers", len(self._in_charge))
            for old in list(self._in_charge.values()):
                if self._stopping.is_set() or not await self._succeed(old):
                    return
            log.info("all workers are replaced")

    async def _first_start(self) -> None:
        async with self._changing:
            await self._start_all()

    async def _start_all(self) -> None:
        starts = await asyncio.gather(
            *(self._launch(number) for number in range(1, self._count + 1)), return_exceptions=True
        )
        failed = next((each for each in starts if isinstance(each, BaseException)), None)
        if failed is not None:
            if not self._stopping.is_set():
                self._give_up(failed)
        elif not self._stopping.is_set():
            self._announce(self._facts)

    async def _launch(self, number: int) -> None:
        """Put a new worker in charge once it is ready; `StartError` if it never is."""
        worker = await self._spawner.spawn(number)
        self._alive.add(worker)
        self._background(self._attend(worker))
        self._facts = await worker.ready
        self._in_charge[number] = worker
        self._background(self._retire(worker))

    async def _succeed(self, old: Worker) -> bool:
        """Put a new worker in the place of `old`, which then drains; tell whether that succeeded."""
        try:
            await self._launch(old.number)
        except StartError as error:
            log.error("the old workers go on, for a new one did not start: %s", error)  # noqa: TRY400
            return False
        self._background(old.end(self._limit()))
        return True

    async def _attend(self, worker: Worker) -> None:
        code = await worker.exited
        self._alive.discard(worker)
        if self._in_charge.get(worker.number) is worker and not self._stopping.is_set():
            del self._in_charge[worker.number]
            await self._replace(worker, code)

    async def _replace(self, dead: Worker, code: int) -> None:
        lived = asyncio.get_running_loop().time() - dead.started
        self._failures = 0 if lived > SETTLED else self._failures
        while not self._stopping.is_set():
            pause = min(LONGEST_PAUSE, 0.1 * 2**self._failures)
            self._failures += 1
            log.error("worker %d (pid %d) %s; another one starts in %g s", dead.number, dead.pid, ending(code), pause)
            await asyncio.sleep(pause)
            async with self._changing:
                if dead.number in self._in_charge or self._stopping.is_set():
                    return
                try:
                    await self._launch(dead.number)
                except StartError as error:
                    if not self._in_charge:
                        self._give_up(error)
                        return
                    log.error("worker %d did not start: %s", dead.number, error)  # noqa: TRY400
                else:
                    log.info("worker %d is replaced", dead.number)
                    return

    async def _retire(self, worker: Worker) -> None:
        await worker.retiring.wait()
        async with self._changing:
            if self._in_charge.get(worker.number) is worker and not self._stopping.is_set():
                log.info("worker %d (pid %d) has served its requests and is replaced", worker.number, worker.pid)
                await self._succeed(worker)

    async def _look_for_hangs(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._hang_limit / 2))
            now = asyncio.get_running_loop().time()
            for worker in self._in_charge.values():
                silent = now - worker.heard
                if silent > self._hang_limit:
                    log.error("worker %d (pid %d) is silent for %.0f s: killed", worker.number, worker.pid, silent)
                    worker.signal(signal.SIGKILL)

    def _give_up(self, error: BaseException) -> None:
        if not isinstance(error, StartError):
            raise error
        self._refuse(str(error))
        if self._forgiving:
            log.info("waiting for a change")
            for worker in self._alive:
                worker.signal(signal.SIGTERM)
            self._in_charge.clear()
            return
        self._code = 1
        self._stopping.set()

    def _interrupt(self) -> None:
        if self._stopping.is_set():
            self._code = INTERRUPTED
            self._killing.set()
        self._stopping.set()

    async def _end(self) -> int:
        workers = list(self._alive)
        self._background(self._refuse_connections())
        ends = asyncio.gather(*(each.end(self._limit()) for each in workers))
        killing = asyncio.create_task(self._killing.wait())
        await asyncio.wait((ends, killing), return_when=asyncio.FIRST_COMPLETED)
        if self._killing.is_set():
            for worker in workers:
                worker.signal(signal.SIGKILL)
        for worker, code in zip(workers, await ends, strict=True):
            if code and worker.was_ready and not self._killing.is_set():
                log.error("worker %d (pid %d) %s instead of ending well", worker.number, worker.pid, ending(code))
                self._code = 1
        tasks = [killing, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._spawner.close()
        return self._code

    async def _refuse_connections(self) -> None:
        """Close the ports for all processes, once the workers have stopped accepting by themselves."""
        await asyncio.sleep(self._grace() + STOP_ACCEPTING)
        self._close_sockets()

    def _grace(self) -> float:
        return float(self._facts.get("readiness_grace", 0.0))

    def _limit(self) -> float:
        if self._end_limit is not None:
            return self._end_limit
        return self._grace() + float(self._facts.get("drain_limit", 0.0)) + KILL_MARGIN

    def _background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the supervisor failed; all ends", exc_info=error)
            self._code = 1
            self._stopping.set()
