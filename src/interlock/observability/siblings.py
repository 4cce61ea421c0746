"""What workers of one service tell each other through a directory: the log level in force, and their last errors.

Files are replaced whole, so that none is ever read half-written. Each worker looks once a second.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger("interlock.admin")

_LEVEL = "log.level"
_ERRORS = ".errors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A log level that an operator chose, and until when in epoch seconds (None: until it is changed again)."""

    level: str
    until: float | None = None


class Siblings:
    """One worker's part in `directory`, which is made when something is told, in the parent's, which must be there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._own = f"{os.getpid()}{_ERRORS}"
        self._seen: tuple[int, int] | None = None

    def tell_level(self, chosen: Level) -> None:
        """Have the others take a level; OSError if the directory can't be written."""
        self._replace(_LEVEL, asdict(chosen))
        self._seen = self._stamp()

    def new_level(self) -> Level | None:
        """Return the level that was told since the last look, or before this worker began."""
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return None
        self._seen = stamp
        found = _read(self._directory / _LEVEL)
        return Level(**found) if found else None

    def tell_errors(self, lines: list[dict[str, Any]]) -> None:
        """Show the last errors of this worker to the others; OSError if the directory can't be written."""
        self._replace(self._own, lines)

    def errors(self) -> list[dict[str, Any]]:
        """Return the last errors that the others told."""
        return [line for path in self._others() for line in _read(path) or ()]

    def inherit(self) -> list[dict[str, Any]]:
        """Take over what those told that are gone, so that a crash does not take its errors with it."""
        found: list[dict[str, Any]] = []
        for path in self._others():
            if not _lives(path.name.removesuffix(_ERRORS)):
                found += _read(path) or ()
                path.unlink(missing_ok=True)
        return found

    def _others(self) -> Iterator[Path]:
        return (path for path in sorted(self._directory.glob(f"*{_ERRORS}")) if path.name != self._own)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = (self._directory / _LEVEL).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _replace(self, name: str, document: object) -> None:
        self._directory.mkdir(exist_ok=True)  # no more than that: a parent that has ended leaves no directory behind
        draft = self._directory / f"{name}.{os.getpid()}.new"
        draft.write_text(json.dumps(document, default=str))
        with contextlib.suppress(FileNotFoundError):  # the parent has ended and removed the directory
            draft.replace(self._directory / name)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as wrong:
        log.warning("%s can't be read: %s", path, wrong)
        return None


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
