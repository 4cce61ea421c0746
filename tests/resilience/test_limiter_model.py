"""Rate limits held against the `limits` package, call by call, in a time that is set by hand."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from limits import RateLimitItemPerSecond
from limits.storage import memory
from limits.strategies import MovingWindowRateLimiter

from interlock.resilience.host_limit import HostLimit, HostTable
from interlock.resilience.rate_limit import SlidingLimit
from tests.resilience.ground import ManualClock

REQUESTS, WINDOW = 4, 16  # a slot is one second, so what is counted may be a second late
CALLERS = st.sampled_from("abc")
_FAST = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None


class Limiting(RuleBasedStateMachine):
    """Callers of one process, and the same callers of two workers who share a file, as time goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self._time = mock.patch.object(memory, "time", SimpleNamespace(time=self.clock))
        self._time.start()
        self._directory = tempfile.TemporaryDirectory(dir=_FAST)
        path, per = Path(self._directory.name) / "limits", timedelta(seconds=WINDOW)
        self.alone = SlidingLimit(REQUESTS, per, clock=self.clock)
        self.tables = [HostTable(path, rows=8) for _ in range(2)]
        self.workers = [HostLimit(each, "x", REQUESTS, per, clock=self.clock) for each in self.tables]
        self.storage = memory.MemoryStorage()
        self.reference = MovingWindowRateLimiter(self.storage)
        self.strict = RateLimitItemPerSecond(REQUESTS, WINDOW)
        self.record = RateLimitItemPerSecond(1000, 2 * WINDOW)

    def teardown(self) -> None:
        """Let go of the file and of the time."""
        for each in self.tables:
            each.close()
        self._directory.cleanup()
        self._time.stop()

    def passed(self, who: str, seconds: int) -> int:
        """Return how many calls of the caller passed in the last seconds, as the reference counts."""
        return self.storage.get_moving_window(self.record.key_for(who), 1000, seconds)[1]

    @rule(quarters=st.integers(0, 80))
    def time_passes(self, quarters: int) -> None:
        self.clock.now += quarters / 4

    @rule(caller=CALLERS, worker=st.integers(0, 1), times=st.integers(1, REQUESTS + 1))
    def ask(self, caller: str, worker: int, times: int) -> None:
        for _ in range(times):
            taken = self.alone.take(caller)
            assert self.workers[worker].take(caller) == taken
            if taken.allowed:
                assert self.passed(caller, WINDOW) < REQUESTS, "one more than the reference lets pass"
                assert self.reference.hit(self.record, caller)
            else:
                assert self.passed(caller, WINDOW + 1) >= REQUESTS, "refused, though a slot ago there was room"

    @rule(caller=CALLERS)
    def wait_as_told(self, caller: str) -> None:
        taken = self.alone.take(caller)
        assert self.workers[0].take(caller) == taken
        if taken.allowed:
            self.reference.hit(self.record, caller)
            return
        self.clock.now += taken.until_more
        before = self.passed(caller, WINDOW)
        self.ask(caller, 0, 1)
        assert self.passed(caller, WINDOW) == before + 1, "who waits as long as it was told passes"

    @invariant()
    def nobody_had_more_than_the_limit(self) -> None:
        """In no window that ends now."""
        assert all(self.passed(caller, WINDOW) <= REQUESTS for caller in "abc")


TestLimiting = Limiting.TestCase
TestLimiting.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
