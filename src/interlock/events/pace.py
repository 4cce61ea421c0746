"""How many events of a type share one transaction: more while that goes well, one for a while after it did not."""

HOLD = 0.05
"""Seconds for which events that are done with wait for those behind them, so that they commit together."""

_FIRST_PATIENCE, _LONGEST_PATIENCE = 4, 512


class Pace:
    """The size of the next batch, between one and `most`.

    It doubles with each batch that went well, as far as that fits into `hold` at the speed of the last. When one was
    undone, events run alone, at first four of them, and twice as many each time it happens again soon.
    """

    __slots__ = ("_calm", "_most", "_patience", "hold", "size")

    def __init__(self, most: int, *, size: int = 1, hold: float = HOLD) -> None:
        self.size = size
        self.hold = hold
        self._most = most
        self._patience = 0
        self._calm = 0

    def went_well(self, count: int, seconds: float) -> None:
        """Learn that `count` events were handled and committed, each of which took `seconds`."""
        fits = int(min(self.hold / seconds, self._most)) if seconds > 0 else self._most
        if self.size == 1 and self._calm < self._patience:
            self._calm += count
            return
        self._calm += count
        if self.size > 1 and self._calm > 8 * self._patience:
            self._patience = 0
        self.size = max(1, min(self._most, fits, 2 * self.size))

    def went_wrong(self) -> None:
        """Learn that a batch was undone."""
        self.size = 1
        self._calm = 0
        self._patience = min(_LONGEST_PATIENCE, 2 * self._patience or _FIRST_PATIENCE)
