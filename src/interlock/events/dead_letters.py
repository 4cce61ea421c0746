"""Dead letters: the layer that gives an event up, and what an operator does with those given up.

They are kept by the broker, so that services without a database have them too, and one place shows a whole platform's.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from interlock.call import Call, Cancellation, Handler, Layer, Middleware, Reply
from interlock.contract.model import Operation
from interlock.errors import Code, DeadlineExceeded, Error, Internal
from interlock.events.arrival import Arrival, arrival
from interlock.events.broker import UNREADABLE, Broker, BrokerUnavailable, DeadLetter, LeaseLost

log = logging.getLogger("interlock")

FINAL = frozenset((Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED))
"""Codes of the consumer's own errors that no repetition heals."""

CAUSE_LENGTH = 2048
"""How many characters of a cause are kept."""


PAGE = 500
"""How many dead letters are asked for at a time."""


class UnknownLetter(LookupError):
    """There is no dead letter of that id."""


class CannotReplay(ValueError):
    """What is kept is no event that anybody could process."""


def dead_letter(broker: Broker) -> Layer:
    """Keep on `broker` an event whose last attempt failed, or that failed for good; then let the error go on.

    It stands behind `attempts`, which says whether there are more.
    """

    def layer(_operation: Operation) -> Middleware:
        async def give_up(call: Call, proceed: Handler) -> Reply:
            arrived = arrival(call)
            if arrived.exhausted:
                raised = Internal(f"{arrived.attempts - 1} attempts were begun and none was ended")
                await _bury(broker, call, arrived, raised)
                raise raised
            try:
                return await proceed(call)
            except asyncio.CancelledError:
                if call.cancellation is Cancellation.DEADLINE and arrived.last:
                    late = DeadlineExceeded("the deadline passed before the event was processed")
                    await _bury(broker, call, arrived, late)
                raise
            except (LeaseLost, BrokerUnavailable):
                raise
            except Exception as error:
                if (arrived.last or _is_final(error)) and not (arrived.away is not None and await arrived.away(error)):
                    await _bury(broker, call, arrived, error)
                raise

        return give_up

    return layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which dead letters are meant: those that fit everything given; nothing given means all.

    `group` is the service that gave the event up, `type` the event's type, `key` its partition key, `code` the error's
    (`INTERNAL`), `reason` a part of its cause in any case, `since` and `until` bounds of when it was given up.
    """

    group: str = ""
    type: str = ""
    key: str = ""
    code: str = ""
    reason: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is given."""
        return self == Selection()

    def fits(self, letter: DeadLetter) -> bool:
        """Tell whether a letter is meant."""
        return (
            self.group in ("", letter.group)
            and self.type in ("", letter.envelope.type)
            and self.key in ("", letter.envelope.partition_key)
            and self.code.upper() in ("", letter.code)
            and self.reason.casefold() in letter.cause.casefold()
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at <= self.until)
        )


async def select(
    broker: Broker, selection: Selection | None = None, *, limit: int | None = None
) -> AsyncIterator[DeadLetter]:
    """Yield the dead letters that `selection` means, by id, `limit` at most; they may be removed meanwhile."""
    wanted, after, left = selection or Selection(), "", limit
    while left is None or left > 0:
        page = await broker.dead_letters(wanted.group, limit=PAGE, after=after)
        for letter in filter(wanted.fits, page):
            if left is not None:
                if left <= 0:
                    return
                left -= 1
            yield letter
        if len(page) < PAGE:
            return
        after = page[-1].id


async def show(broker: Broker, letter_id: str) -> DeadLetter:
    """Return one dead letter; UnknownLetter if there is none of that id."""
    letter = await broker.dead_letter(letter_id)
    if letter is None:
        raise UnknownLetter(f"there is no dead letter {letter_id!r}; `list` shows those there are")
    return letter


async def replay(broker: Broker, letter_id: str) -> DeadLetter:
    """Send a dead letter's event to the group that gave it up, and no other; return the letter, now removed.

    It comes behind the events of its key that were published meanwhile, with a new `attempt_id`. Should this be cut off
    half-way, the letter is still there, and may be replayed again: a service with an inbox processes it once.
    UnknownLetter if there is none of that id, CannotReplay if what is kept is no event.
    """
    letter = await show(broker, letter_id)
    if letter.code == UNREADABLE:
        raise CannotReplay(f"the dead letter {letter_id!r} is no event ({letter.cause}); `discard` removes it")
    await broker.publish([letter.envelope.replayed()], group=letter.group)
    await broker.remove_dead_letter(letter_id)
    return letter


async def discard(broker: Broker, letter_id: str) -> DeadLetter:
    """Remove a dead letter for good and return it; UnknownLetter if there is none of that id."""
    letter = await show(broker, letter_id)
    await broker.remove_dead_letter(letter_id)
    return letter


def _is_final(raised: Exception) -> bool:
    return isinstance(raised, Error) and not raised.received and raised.code in FINAL


async def _bury(broker: Broker, call: Call, arrived: Arrival, raised: Exception) -> None:
    envelope = arrived.delivery.envelope
    code = raised.code if isinstance(raised, Error) and not raised.received else Code.INTERNAL
    letter = DeadLetter(
        group=call.operation.service,
        envelope=envelope,
        code=code.name,
        cause=f"{type(raised).__name__}: {raised}"[:CAUSE_LENGTH],
        attempts=arrived.attempts,
        at=datetime.now(UTC),
        traceparent=call.trace.traceparent if call.trace is not None else envelope.traceparent,
    )
    await broker.bury(letter)
    arrived.buried = True
    log.error("%s gave up event %s after %d attempts: %s", call.operation, envelope.id, arrived.attempts, letter.cause)
