"""How many calls a process does well to run at once: a limit that falls when calls wait for each other.

Each operation has a baseline: how long its calls take when they do not wait. When calls take `TOLERANCE` times their
baselines, more of them at a time only wait longer, so the limit is set to what was running, less that excess.
"""

import math

TOLERANCE = 2.0
"""So many times their baselines calls may take before the limit falls."""
WINDOW = 0.1
"""Seconds, at least, over which calls are taken together."""
SAMPLES = 20
"""Calls, at least, that a window needs to say something."""
OUTLIER = 8.0
"""A call counts as at most so many baselines, so that a few slow ones do not look like a queue."""
PROBE_AFTER = 10.0
"""Seconds of shedding after which the baselines are measured anew, with few calls at a time."""
FORGETTING = 60.0
"""Seconds in which a baseline follows calls that became slower, while none is shed."""
LARGEST = 100_000.0


class Baseline:
    """How long the calls of one operation take, in this window and when they do not wait."""

    __slots__ = ("count", "expected", "total")

    def __init__(self) -> None:
        self.expected = 0.0
        self.count = 0
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count a call that took so long."""
        expected = self.expected
        if expected and seconds > expected * OUTLIER:
            seconds = expected * OUTLIER
        self.total += seconds
        self.count += 1


class AdaptiveLimit:
    """The limit, for one event loop; it never falls below `floor`. Times are in seconds of one monotonic clock."""

    __slots__ = ("_baselines", "_began", "_peak", "_probing", "_shed_since", "_slow", "floor", "limit", "shed")

    def __init__(self, floor: int = 32, start: int = 256) -> None:
        self.floor = floor
        self.limit = float(max(start, floor))
        self.shed = False  # whether a call was refused in this window
        self._slow = 0  # windows in a row in which calls were slow
        self._baselines: list[Baseline] = []
        self._began = 0.0
        self._peak = 0
        self._shed_since = 0.0
        self._probing = False

    def baseline(self) -> Baseline:
        """Return a new operation's baseline; its calls are added to it."""
        made = Baseline()
        self._baselines.append(made)
        return made

    def observe(self, now: float, running: int) -> None:
        """Look at the limit again, if the window is over; to be told after every call, with those running now."""
        self._peak = max(self._peak, running)
        if now - self._began >= WINDOW:
            self._look(now, running)

    def _look(self, now: float, running: int) -> None:
        used = [each for each in self._baselines if each.count]
        count = sum(each.count for each in used)
        if now - self._began < 10 * WINDOW and count < SAMPLES:
            return
        ratio = _ratio(used) if count >= SAMPLES else 1.0
        if self._probing:
            if running <= self.floor:
                self._probed(used, now, measured=count >= SAMPLES)
        elif self.shed and now - (self._shed_since or now) > PROBE_AFTER:
            self._probing, self.limit = True, float(self.floor)
        else:
            self._move(ratio)
            self._learn(used, min(now - self._began, 1.0), count)
            self._shed_since = (self._shed_since or now) if self.shed else 0.0
        for each in used:
            each.count, each.total = 0, 0.0
        self._began, self._peak, self.shed = now, running, False

    def _move(self, ratio: float) -> None:
        self._slow = self._slow + 1 if ratio > TOLERANCE else 0
        if self._slow > 1:  # one slow window may be a pause of the process
            wanted = min(self.limit, self._peak) * max(0.5, TOLERANCE / ratio)
            self.limit = max(float(self.floor), wanted)
        elif not self._slow and self._peak * 2 > self.limit:
            self.limit = min(LARGEST, self.limit + math.sqrt(self.limit))

    def _learn(self, used: list[Baseline], elapsed: float, count: int) -> None:
        """Let baselines fall with what was measured, and rise slowly, unless the wait of a queue is in it."""
        for each in used:
            mean = each.total / each.count
            if not each.expected:
                each.expected = mean
            elif mean < each.expected:
                each.expected += (mean - each.expected) * min(0.3, each.count / SAMPLES)
            elif not self.shed and count:
                each.expected += (mean - each.expected) * min(1.0, elapsed / FORGETTING)

    def _probed(self, used: list[Baseline], now: float, *, measured: bool) -> None:
        """Take what few calls at a time need as the baselines; the first window still holds calls from before."""
        if self._shed_since:
            self._shed_since = 0.0
        elif measured or now - self._began >= 10 * WINDOW:
            for each in used:
                each.expected = each.total / each.count
            self._probing = False


def _ratio(used: list[Baseline]) -> float:
    """Return how much longer calls took than their baselines, each operation by the time that it takes."""
    known = [each for each in used if each.expected]
    expected = sum(each.count * each.expected for each in known)
    return sum(each.total for each in known) / expected if expected else 1.0
