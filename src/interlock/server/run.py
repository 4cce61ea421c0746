"""`serve`: the whole process as `interlock serve` runs it, with one process or a parent and its workers."""

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from interlock.server.application import StartError
from interlock.server.banner import banner
from interlock.server.sockets import close, listen, silence

if TYPE_CHECKING:
    from interlock.server.service import Service
    from interlock.settings import Settings

RELOAD_END_LIMIT = 2.0
"""Seconds that a worker gets to end when its code has changed."""

log = logging.getLogger("interlock.server")


def serve(target: str, settings: "Settings | None" = None, *, reload: bool = False) -> int:
    """Serve `module:make` until SIGTERM or Ctrl-C; return the exit code: 0 if all ended well, 1 if it could not start.

    Addresses, workers and logs are taken from `settings` (default: what the environment says), because they are
    needed before the app is made; all else from the settings of the app. Call it from a main thread without a loop.
    """
    try:
        chosen = settings or _read()
        api, operations = _bind(chosen)
    except StartError as error:
        sys.stderr.write(f"interlock: {error}\n")
        return 1
    try:
        if reload or chosen.workers > 1 or chosen.max_requests:
            return _serve_with_workers(target, chosen, api, operations, reload=reload)
        return _serve_here(target, chosen, api, operations)
    finally:
        close([*api, *operations])


def _read() -> "Settings":
    from pydantic import ValidationError  # noqa: PLC0415
    from pydantic_settings import SettingsError  # noqa: PLC0415

    from interlock.settings import ProcessSettings, explain  # noqa: PLC0415

    try:
        return ProcessSettings()
    except (ValidationError, SettingsError) as error:
        raise StartError(explain(error)) from error


def _bind(settings: "Settings") -> tuple[list[socket.socket], list[socket.socket]]:
    api = listen(settings.host, settings.port, "port")
    if not settings.operations_port:
        return api, []
    try:
        return api, listen(settings.operations_host, settings.operations_port, "operations_port")
    except StartError:
        close(api)
        raise


def _serve_here(
    target: str, settings: "Settings", api: Sequence[socket.socket], operations: Sequence[socket.socket]
) -> int:
    from interlock.observability.logging import configure_logging  # noqa: PLC0415
    from interlock.server.process import run  # noqa: PLC0415
    from interlock.server.worker import facts  # noqa: PLC0415

    configure_logging(settings.log_level, settings.log_format, queued=True)

    def ready(service: "Service") -> None:
        told = facts(service)
        _tell_late(told["early"], settings)
        _announce(told, api, operations, f"pid {os.getpid()}")

    try:
        return run(target, api, operations, ready=ready)
    except StartError as error:
        _refuse(str(error), settings.log_format)
        return 1


def _serve_with_workers(
    target: str,
    settings: "Settings",
    api: Sequence[socket.socket],
    operations: Sequence[socket.socket],
    *,
    reload: bool,
) -> int:
    from interlock.server.spawn import Spawner  # noqa: PLC0415
    from interlock.server.supervisor import Supervisor  # noqa: PLC0415

    _configure_parent_log(settings)
    processes = f"pid {os.getpid()}, {settings.workers} worker{'s' if settings.workers > 1 else ''}"

    def announce(facts: dict[str, Any]) -> None:
        _tell_late(facts["early"], settings)
        _announce(facts, api, operations, processes + (", reloads on changes" if reload else ""))

    async def supervise() -> int:
        spawner = Spawner(
            target,
            api,
            operations,
            log_level=settings.log_level,
            log_format=settings.log_format,
            start_limit=settings.start_limit.total_seconds(),
        )
        supervisor = Supervisor(
            spawner,
            settings.workers,
            close_sockets=lambda: silence(api),
            announce=announce,
            hang_limit=settings.hang_limit.total_seconds() if settings.environment == "production" else 0.0,
            end_limit=RELOAD_END_LIMIT if reload else None,
            refuse=lambda text: _refuse(text, settings.log_format),
            forgiving=reload,
        )
        if not reload:
            return await supervisor.run()
        from interlock.server.reload import on_changes  # noqa: PLC0415

        watching = asyncio.create_task(on_changes(supervisor.restart))
        try:
            return await supervisor.run()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    return asyncio.run(supervise())


def _refuse(text: str, log_format: str) -> None:
    """Say why nothing is served: to a person, unless the log is certainly read by a program."""
    if log_format == "json":
        log.error("cannot serve: %s", text)
    else:
        sys.stderr.write(f"interlock: cannot serve: {text}\n")


def _tell_late(made: dict[str, Any], settings: "Settings") -> None:
    """Warn of settings that `make()` gave its app and that the process had to read before."""
    from interlock.settings import Settings  # noqa: PLC0415 - read by now

    for name, value in made.items():
        given = getattr(settings, name)
        if value not in (given, Settings.model_fields[name].default):
            log.warning(
                "the app's settings say %s=%r, which is ignored: it is needed before the app is made, and stays %r; "
                "set INTERLOCK_%s, %s in interlock.toml, or --%s",
                *(name, value, given, name.upper(), name, name.replace("_", "-")),
            )


def _announce(
    facts: dict[str, Any], api: Sequence[socket.socket], operations: Sequence[socket.socket], processes: str
) -> None:
    lines = banner(
        api,
        operations,
        tls=facts["tls"],
        mutual=facts["mutual"],
        about=facts["about"],
        processes=processes,
        environment=facts["environment"],
    )
    sys.stdout.write(lines + "\n")
    sys.stdout.flush()


def _configure_parent_log(settings: "Settings") -> None:
    """Log like the workers do, without what they import for it."""
    handler = logging.StreamHandler(sys.stderr)
    wants_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    handler.setFormatter(_JsonLines() if wants_json else logging.Formatter("%(asctime)s [%(levelname)s] %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
