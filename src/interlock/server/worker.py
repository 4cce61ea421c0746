"""A worker process: `python -m interlock.server.worker PLAN`, started by the supervisor and by nobody else.

It reports on a pipe, a JSON object a line: `ready` with facts, `failed` with a text, `beat`, `retire`. It ends when
its lifeline, a pipe that the parent holds open, does.
"""

import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from interlock.server.service import Service

BEAT = 2.0
"""Seconds between two signs of life."""

START_FAILED = 3
"""Exit code of a worker whose app is not fit to serve: to start another one helps nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a worker is told: the app, and descriptors that it inherits."""

    target: str
    number: int
    api: list[int]
    operations: list[int]
    report: int
    lifeline: int
    log_level: str
    log_format: str

    def descriptors(self) -> list[int]:
        """Return all that must be inherited."""
        return [*self.api, *self.operations, self.report, self.lifeline]

    def command(self) -> list[str]:
        """Return the command line of a worker that follows the plan."""
        return [sys.executable, "-m", "interlock.server.worker", json.dumps(asdict(self))]


EARLY = ("host", "port", "operations_host", "operations_port", "workers", "max_requests", "log_level", "log_format")
"""Settings that are needed before the app is made, so that what `make()` says of them comes too late."""


def facts(service: "Service") -> dict[str, Any]:
    """Return what the parent must know of a service that is ready."""
    settings = service.settings
    return {
        "early": {name: getattr(settings, name) for name in EARLY},
        "about": list(service.app.banner),
        "tls": settings.tls_certificate is not None,
        "mutual": settings.tls_client_authorities is not None,
        "environment": settings.environment,
        "readiness_grace": settings.readiness_grace.total_seconds(),
        "drain_limit": settings.drain_limit.total_seconds(),
    }


class Attendance:
    """The worker's side of its two pipes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tasks: list[Any] = []

    def tell(self, kind: str, value: object = True) -> None:
        """Report to the parent; without one there is nobody to tell."""
        with contextlib.suppress(OSError):
            os.write(self._plan.report, json.dumps({kind: value}).encode() + b"\n")

    def attend(self, service: "Service", stop: "Callable[[], None]") -> None:
        """Give signs of life, ask for a successor when due, and stop when the parent is gone."""
        import asyncio  # noqa: PLC0415

        async def beat() -> None:
            while True:
                self.tell("beat")
                await asyncio.sleep(BEAT)

        async def retire() -> None:
            await service.retire.wait()
            self.tell("retire")

        def orphaned() -> None:
            asyncio.get_running_loop().remove_reader(self._plan.lifeline)
            stop()

        asyncio.get_running_loop().add_reader(self._plan.lifeline, orphaned)
        self._tasks = [asyncio.create_task(beat()), asyncio.create_task(retire())]

    def ready(self, service: "Service") -> None:
        """Tell the parent that requests are answered."""
        self.tell("ready", facts(service))


def main(argument: str) -> int:
    """Work by the plan in `argument`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes on what it means
    from interlock.observability.logging import configure_logging  # noqa: PLC0415
    from interlock.server.application import StartError  # noqa: PLC0415
    from interlock.server.process import run  # noqa: PLC0415
    from interlock.server.sockets import adopt  # noqa: PLC0415

    plan = Plan(**json.loads(argument))
    for descriptor in plan.descriptors():
        os.set_inheritable(descriptor, False)
    configure_logging(plan.log_level, plan.log_format, queued=True)  # type: ignore[arg-type]
    attendance = Attendance(plan)
    try:
        return run(
            plan.target,
            adopt(plan.api),
            adopt(plan.operations),
            ready=attendance.ready,
            attend=attendance.attend,
            supervised=True,
        )
    except StartError as error:
        attendance.tell("failed", str(error))
        return START_FAILED


if __name__ == "__main__":
    # by its full name, so that its classes are those that other modules import
    from interlock.server import worker  # noqa: PLW0406

    sys.exit(worker.main(sys.argv[1]))
