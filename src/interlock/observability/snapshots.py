"""Metrics of all workers of a service in one scrape: each leaves snapshots in a directory that they share.

A worker owns two files, `SLOT-ID.json`, replaced whole each time, and `SLOT-ID.lock`, on which it holds a lock: the
system releases that however the worker ends, so a file is never taken for a living worker's after a kill -9. What only
grows is folded into `base.json` once its worker is gone, so that totals never go backwards; gauges go with the worker.
"""

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from interlock.observability.families import GROWING, Family, decode, encode, merged, to_json
from interlock.observability.siblings import Siblings

log = logging.getLogger("interlock.metrics")

DIRECTORY = "INTERLOCK_METRICS_DIRECTORY"
"""The variable by which the parent tells its workers where their snapshots go."""
SLOT = "INTERLOCK_WORKER"
"""The variable that holds a worker's number."""

_BASE = "base.json"
_TRIES = 5


def shared(service: str, environment: Mapping[str, str] = os.environ) -> "Snapshots | None":
    """Return the snapshots that this process shares with its siblings, None where no parent named a directory."""
    directory = environment.get(DIRECTORY)
    return Snapshots(Path(directory), service, environment.get(SLOT, "0")) if directory else None


def siblings(service: str, environment: Mapping[str, str] = os.environ) -> Siblings | None:
    """Return what else workers of a service share; None where no parent named a directory."""
    directory = environment.get(DIRECTORY)
    return Siblings(Path(directory) / quote(service, safe="")) if directory else None


class Snapshots:
    """One worker's part in a shared directory, between `open` and `close`; several services may share it."""

    def __init__(self, directory: Path, service: str, slot: str = "0") -> None:
        self._directory = directory / quote(service, safe="")
        self._name = f"{quote(slot, safe='')}-{uuid4().hex}"
        self._lock: int | None = None

    @property
    def readings(self) -> Path:
        """The file in which workers hand each other what one of them asked for."""
        return self._directory / "asked.readings"

    def open(self) -> None:
        """Be there for the others, and fold in those that are gone. OSError if the directory can't be written."""
        self._directory.mkdir(parents=True, exist_ok=True)
        draft = self._directory / f"{self._name}.new"
        self._lock = os.open(draft, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        draft.rename(self._directory / f"{self._name}.lock")  # locked before others can see it
        self._fold()

    def write(self, own: list[Family]) -> None:
        """Leave what this worker has counted so far."""
        self._replace(f"{self._name}.json", encode(own))

    def close(self) -> None:
        """Let go: what was written last counts on, as that of any worker that is gone."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def others(self) -> list[Family]:
        """Return what all other workers have counted: the living, and those that are gone in what only grows."""
        for _ in range(_TRIES):
            before = self._stamp()
            base, folded = self._base()
            counted = folded | {self._name}
            parts = [base, *(self._read(path) for path in self._snapshots() if path.stem not in counted)]
            if self._stamp() == before:  # else one was folded meanwhile, and may be missing or counted twice
                break
        return merged(parts)

    def _snapshots(self) -> list[Path]:
        return sorted(path for path in self._directory.glob("*.json") if path.name != _BASE)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = (self._directory / _BASE).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _read(self, path: Path) -> list[Family]:
        try:
            found = decode(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError) as wrong:
            log.warning("%s is no snapshot of metrics: %s", path, wrong)
            return []
        lives = self._lives(path)
        return [each for each in found if lives or each.type in GROWING]

    def _lives(self, snapshot: Path) -> bool:
        try:
            lock = os.open(snapshot.with_suffix(".lock"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _base(self) -> tuple[list[Family], set[str]]:
        try:
            document = json.loads((self._directory / _BASE).read_bytes())
            return decode(document["families"]), set(document["folded"])
        except FileNotFoundError:
            return [], set()

    def _fold(self) -> None:
        """Add those that are gone to the base; only one worker at a time does so, another one lets it."""
        guard = os.open(self._directory / "fold.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fold_guarded()
        except BlockingIOError:
            return
        finally:
            os.close(guard)

    def _fold_guarded(self) -> None:
        base, folded = self._base()
        found = self._snapshots()
        gone = [path for path in found if path.stem != self._name and not self._lives(path)]
        fresh = [path for path in gone if path.stem not in folded]
        if fresh:
            total = merged([base, *(self._read(path) for path in fresh)])
            named = sorted(folded.intersection(path.stem for path in found) | {path.stem for path in fresh})
            self._replace(_BASE, {"families": encode(total), "folded": named})
        # only now: one that is named in the base and still there is not counted again
        for path in gone:
            path.unlink(missing_ok=True)
        for path in self._directory.glob("*.lock"):
            if path.name != "fold.lock" and not path.with_suffix(".json").exists() and not self._lives(path):
                path.unlink(missing_ok=True)

    def _replace(self, name: str, document: object) -> None:
        draft = self._directory / f"{name}.{self._name}.new"
        draft.write_bytes(to_json(document))
        with contextlib.suppress(FileNotFoundError):  # the parent has ended and removed the directory
            draft.replace(self._directory / name)
