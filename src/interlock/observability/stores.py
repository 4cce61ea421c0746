"""What is seen of a database and a broker: statements timed and traced, pools, what waits to be sent or read."""

from collections.abc import Mapping, Sequence
from time import time
from typing import TYPE_CHECKING, Protocol

from interlock.call import current_call

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.observability.metrics import Metrics
    from interlock.observability.tracing import Tracing


class Lagging(Protocol):
    """What of a broker is looked at here."""

    async def lag(self, group: str, types: Sequence[str]) -> int:
        """Return how many events wait for `group`."""
        ...

    async def count_dead_letters(self, group: str) -> int:
        """Return how many dead letters of `group` are kept."""
        ...


def observe_database(database: "Database", metrics: "Metrics", tracing: "Tracing") -> None:
    """Have each statement timed, in sampled calls as a span too, and the pools shown; before the database starts."""
    timed = metrics.database
    system = "postgresql" if database.is_postgresql else "sqlite"

    def measure(seconds: float, statement: object) -> None:
        call = current_call.get()
        trace = None if call is None else call.trace
        timed(seconds, "", trace)
        if trace is not None and trace.sampled:
            tracing.stated(trace, seconds, system, statement)

    def connections() -> Mapping[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for name, pool in database.pools.items():
            found[name, "in_use"] = pool.in_use
            found[name, "idle"] = pool.opened - pool.in_use
        return found

    database.measure = measure
    metrics.gauge(
        "service_database_connections", "Open connections, by pool and state.", connections, labels=("pool", "state")
    )
    metrics.gauge(
        "service_database_connections_limit",
        "The most connections of a pool.",
        lambda: {(name,): pool.size for name, pool in database.pools.items()},
        labels=("pool",),
    )
    metrics.gauge(
        "service_database_connections_awaited",
        "Those who wait for a connection.",
        lambda: {(name,): pool.waiting for name, pool in database.pools.items()},
        labels=("pool",),
    )


def observe_outbox(database: "Database", metrics: "Metrics") -> None:
    """Show how many events wait in the outbox, and for how long the oldest has."""
    from interlock.data.outbox import backlog  # noqa: PLC0415 - with SQLAlchemy, where there is a database

    async def depth() -> dict[tuple[str, ...], float]:
        return {(): (await backlog(database))[0]}

    async def oldest() -> dict[tuple[str, ...], float]:
        count, since = await backlog(database)
        return {(): max(0.0, time() - since) if count else 0.0}

    metrics.reading("service_outbox_events", "Events that wait to be sent, counted up to 10,000.", depth)
    metrics.reading("service_outbox_age_seconds", "How long the oldest event waits to be sent.", oldest)


def observe_lag(broker: Lagging, groups: Mapping[str, Sequence[str]], metrics: "Metrics") -> None:
    """Show how many events wait for each group, given with the types it consumes, and how many it gave up."""

    async def lag() -> dict[tuple[str, ...], float]:
        return {(group,): await broker.lag(group, types) for group, types in groups.items()}

    async def kept() -> dict[tuple[str, ...], float]:
        return {(group,): await broker.count_dead_letters(group) for group in groups}

    text = "Events that were given up and wait for an operator, by service."
    metrics.reading("service_dead_letters_kept", text, kept, labels=("group",), fresh=30.0)
    metrics.reading("service_event_lag", "Events that wait for a consumer, by its service.", lag, labels=("group",))
