"""Bulkheads of an app's clients as metrics, also of clients that come and go."""

from collections.abc import Mapping

from interlock.observability.bulkheads import Bulkheads
from interlock.observability.metrics import Metrics


class Client:
    """What has bulkheads to one neighbour."""

    def __init__(self, running: int, waiting: int, refused: int) -> None:
        self.now = running, waiting, refused

    def places(self) -> Mapping[str, tuple[int, int, int]]:
        return {"/a/B": self.now}


def test_two_clients_are_one_line_and_a_count_outlives_both() -> None:
    """Calls are of those that live; refusals of all that ever did."""
    metrics = Metrics("orders")
    bulkheads = Bulkheads(metrics)
    first, second = Client(2, 1, 10), Client(3, 0, 4)
    bulkheads.add("stock:80", first.places)
    bulkheads.add("stock:80", second.places)
    assert shown(metrics) == {"running": 5, "waiting": 1, "refused": 14}
    first.now = 0, 0, 11
    assert shown(metrics)["refused"] == 15
    del first, second
    assert shown(metrics) == {"refused": 15}
    third = Client(1, 0, 2)
    bulkheads.add("stock:80", third.places)
    assert shown(metrics) == {"running": 1, "waiting": 0, "refused": 17}


def shown(metrics: Metrics) -> dict[str, float]:
    """Return the numbers by what they are of."""
    found = {}
    for line in metrics.exposition()[1].decode().splitlines():
        if line.startswith(("service_bulkhead_calls{", "service_bulkhead_refused_total{")):
            state = next((each for each in ("running", "waiting") if each in line), "refused")
            found[state] = float(line.rpartition(" ")[2])
    return found
