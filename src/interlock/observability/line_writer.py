"""Lines to a stream that may be slow: a thread writes, a bounded queue waits, what does not fit is counted and told."""

import atexit
import contextlib
import threading
from collections.abc import Callable
from typing import TextIO

MOST = 4 << 20
"""Characters that wait at most."""


class LineWriter:
    """Takes whole lines without ever waiting for `stream`; safe from any thread.

    At most `most` characters wait; lines beyond are dropped, counted, and told of by the line that `notice` makes of
    their number once there is room. A stream that is closed or full loses lines, not the process.
    """

    def __init__(self, stream: TextIO, *, most: int = MOST, notice: Callable[[int], str] | None = None) -> None:
        self.stream = stream
        self.dropped = 0
        self._most = most
        self._notice = notice or (lambda count: f"{count} log lines were dropped\n")
        self._untold = 0
        self._lines: list[str] = []
        self._size = 0
        self._busy = False
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> int:
        """Take lines; return their length, as a stream does."""
        with self._change:
            if self._size + len(text) > self._most:
                lost = text.count("\n") or 1
                self.dropped += lost
                self._untold += lost
                return len(text)
            self._lines.append(text)
            self._size += len(text)
            if self._thread is None:
                self._start()
            elif len(self._lines) == 1:
                self._change.notify_all()
        return len(text)

    def flush(self, limit: float = 1.0) -> bool:
        """Wait until all is written, `limit` seconds at most; tell whether it is."""
        if threading.current_thread() is self._thread:
            return False
        with self._change:
            return self._change.wait_for(lambda: not self._lines and not self._busy, limit)

    def isatty(self) -> bool:
        """Tell what the stream tells."""
        return self.stream.isatty()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="interlock-log", daemon=True)
        self._thread.start()
        atexit.register(self.flush)

    def _run(self) -> None:
        while True:
            with self._change:
                self._busy = False
                self._change.notify_all()
                self._change.wait_for(lambda: bool(self._lines))
                lines, self._lines, self._busy = self._lines, [], True
            self._put("".join(lines))
            with self._change:  # what is being written counts as waiting
                self._size -= sum(map(len, lines))
                untold, self._untold = self._untold, 0
            if untold:
                self._put(self._notice(untold))

    def _put(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # gone or closed: there is no place left to say so
            with self._change, contextlib.suppress(MemoryError):
                self.dropped += text.count("\n")
