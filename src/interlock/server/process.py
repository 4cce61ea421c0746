"""One process that serves: the app is made, started, served until told to stop, drained and stopped."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from interlock.server.application import load
from interlock.server.service import Service

log = logging.getLogger("interlock.server")

INTERRUPTED = 130


def run(
    target: str,
    api: Sequence[socket.socket],
    operations: Sequence[socket.socket],
    *,
    ready: Callable[[Service], None],
    attend: Callable[[Service, Callable[[], None]], None] = lambda _service, _stop: None,
    supervised: bool = False,
) -> int:
    """Serve `target` on these sockets until SIGTERM (or Ctrl-C); return the exit code.

    A `supervised` process leaves Ctrl-C and the end of the port to its parent. `ready` is called once requests are
    answered; `attend` right before, with the service and what makes it stop.
    `StartError` where the app is not fit to serve.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        closed = runner.run(
            _run(lambda: Service(load(target), api, operations, shared=supervised), ready, attend, supervised)
        )
        if not closed:
            log.warning("a connection did not close in time; the process ends without it")
            _leave(0)
    return 0


async def _run(
    make: Callable[[], Service],
    ready: Callable[[Service], None],
    attend: Callable[[Service, Callable[[], None]], None],
    supervised: bool,
) -> bool:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    if not supervised:
        loop.add_signal_handler(signal.SIGINT, _interrupt, stopped)
    service = make()
    loop.add_signal_handler(signal.SIGHUP, _hang_up, service)
    admin = getattr(service.app, "admin", None)  # an application of another kind may have none
    if admin is not None:
        loop.add_signal_handler(signal.SIGUSR1, admin.toggle_debug)
        loop.add_signal_handler(signal.SIGUSR2, admin.dump_tasks)
    attend(service, stopped.set)
    starting = asyncio.create_task(service.start())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        await service.app.stop()
        return True
    await starting
    _settle()
    ready(service)
    await stopping
    return await service.drain()


def _settle() -> None:
    """Spare the garbage collector what start-up made: it stays, and would be walked again and again.

    A call makes some 50 short-lived containers, nearly all freed by their reference counts; so the collector looks
    less often, too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _interrupt(stopped: asyncio.Event) -> None:
    if stopped.is_set():
        _leave(INTERRUPTED)
    stopped.set()


_checks: set["asyncio.Task[None]"] = set()


def _hang_up(service: Service) -> None:
    log.info("SIGHUP: looking at the certificate files; new code needs a restart, or two workers and more")
    check = asyncio.create_task(service.check_certificates())
    _checks.add(check)
    check.add_done_callback(_checks.discard)


def _leave(code: int) -> None:
    """End at once: what would be waited for does not end by itself."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - an optional wheel on some platforms
    except ImportError:
        return None
    return uvloop.new_event_loop
