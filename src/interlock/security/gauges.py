"""What security asks of the metrics, which are its neighbour's."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol


class Gauges(Protocol):
    """Where a number is shown that is read when somebody asks."""

    def gauge(
        self,
        name: str,
        documentation: str,
        read: Callable[[], float | Mapping[tuple[str, ...], float]],
        *,
        labels: tuple[str, ...] = (),
        merge: Literal["sum", "max", "min"] = "sum",
    ) -> None:
        """Show it under `name`."""
        ...

    def counter(
        self, name: str, documentation: str, read: Callable[[], float | Mapping[tuple[str, ...], float]]
    ) -> None:
        """Show what only grows under `name`."""
        ...
