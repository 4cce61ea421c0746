"""What is told of requests that never reached the chain of an operation: a number and an access line, as of others."""

from collections.abc import Callable, Iterable

from interlock.call import Outcome
from interlock.contract.model import Operation
from interlock.observability.logging import AccessLog
from interlock.observability.measure import Meter
from interlock.observability.metrics import Metrics


class Refusals:
    """Records them for one app; `access_log` is None where no lines are written."""

    def __init__(self, metrics: Metrics, meters: Iterable[Meter], access_log: AccessLog | None) -> None:
        self._metrics = metrics
        self._meters = (metrics.served, *meters)
        self._access_log = access_log

    def of(self, operation: Operation) -> Callable[[Outcome], None]:
        """Return what records a call of `operation` whose head was refused."""
        records = [record for meter in self._meters if (record := meter(operation)) is not None]
        if self._access_log is not None:
            records.append(self._access_log.record)

        def record_all(outcome: Outcome) -> None:
            for record in records:
                record(outcome)

        return record_all

    def unmatched(self, method: str, outcome: Outcome) -> None:
        """Record a request that reached no operation; `method` is the HTTP verb, or `GRPC` or `CONNECT`."""
        if outcome.error is not None:
            self._metrics.refused(method, outcome.error, outcome.duration)
        if self._access_log is not None:
            self._access_log.record(outcome)
