"""The directory that the workers of one parent share: gone when the parent ends, and swept up when it was killed."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "interlock-metrics-"
_LOCK = "parent.lock"


class SharedDirectory:
    """A directory for this user alone, between its making and `close`; those of parents that were killed go first."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        draft = self.path / f"{_LOCK}.new"
        self._lock = os.open(draft, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        draft.rename(self.path / _LOCK)  # locked before others can see it; the system lets go however this one ends

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(directory: Path) -> None:
    for each in directory.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if each.lstat().st_uid == os.getuid() and not _held(each / _LOCK):
                shutil.rmtree(each, ignore_errors=True)


def _held(path: Path) -> bool:
    """Tell whether a living process holds the lock; OSError where there is none."""
    lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
