"""A clock that passes when told to, for what takes a clock of its own (`clock=…`, `now=…`)."""


class Clock:
    """Call it for the time in seconds; it begins at `now` and moves by `advance` alone."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; ValueError for a step back, which a monotonic clock never takes."""
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self.now += seconds
