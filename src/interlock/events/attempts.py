"""The layer that counts attempts before they begin, so that a handler that kills its process is not tried for ever."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protobuf.wkt import Empty

from interlock.call import Call, Handler, Layer, Middleware, Reply
from interlock.contract.model import Operation
from interlock.events.arrival import arrival

if TYPE_CHECKING:
    from interlock.data.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """How often an event is tried before it is a dead letter, and how long it waits in between, in seconds.

    The delay doubles from `first` up to `longest`; between half of it and all of it is waited, by chance. As it stands
    an event is tried for about a minute, so a neighbour may restart meanwhile.
    """

    attempts: int = 12
    first: float = 0.1
    longest: float = 15.0

    def delay(self, attempt: int) -> float:
        """Return how long to wait behind the attempt of that number, from 1."""
        most = min(self.longest, self.first * 2.0 ** min(max(attempt, 1) - 1, 60))
        return random.uniform(most / 2, most)  # noqa: S311 - jitter, not a secret


def attempts(policy: Redelivery, database: "Database | None" = None) -> Layer:
    """Record at the broker that an attempt begins, and decide what follows if it fails.

    What a drain or a parent cancels is not counted. With a `database`, an event that comes again and was processed is
    a duplicate, which is not run; and a failure while the database is away or full counts for nothing: it goes out with
    `Arrival.attempts` 0.
    """

    def layer(operation: Operation) -> Middleware:
        seen, away = (_not_seen, _not_away) if database is None else _asking(database, operation.service)

        async def count_attempt(call: Call, proceed: Handler) -> Reply:
            arrived = arrival(call)
            delivery = arrived.delivery
            number = await delivery.attempt()
            if (number > 1 or delivery.envelope.replays) and await seen(delivery.envelope.id):
                arrived.duplicate = True
                return Empty()
            arrived.attempts = number
            arrived.last = number >= policy.attempts
            arrived.exhausted = number > policy.attempts
            arrived.retry_in = policy.delay(number)
            arrived.away = away
            try:
                return await proceed(call)
            except Exception as error:
                if not arrived.buried and await away(error):
                    arrived.attempts = 0
                raise

        return count_attempt

    return layer


async def _not_seen(_event_id: str) -> bool:
    return False


async def _not_away(_error: Exception) -> bool:
    return False


def _asking(
    database: "Database", consumer: str
) -> tuple[Callable[[str], Awaitable[bool]], Callable[[Exception], Awaitable[bool]]]:
    from interlock.data import inbox  # noqa: PLC0415 - with SQLAlchemy, wanted by services with a database only
    from interlock.data.failures import NoRoom  # noqa: PLC0415

    async def seen(event_id: str) -> bool:
        return await inbox.seen(database, consumer, event_id)

    async def away(error: Exception) -> bool:
        """Tell whether the database has no room, or does not answer; asked after failures only."""
        if isinstance(error, NoRoom):
            return True
        try:
            await database.check()
        except Exception:
            return True
        return False

    return seen, away
