"""Dead letters: the layer that gives an event up, and what an operator does with those given up.

They are kept by the broker, so that services without a database have them too, and one place shows a whole platform's.
"""

import asyncio
import logging
from datetime import UTC, datetime

from interlock.call import Call, Cancellation, Handler, Layer, Middleware, Reply
from interlock.contract.model import Operation
from interlock.errors import Code, DeadlineExceeded, Error, Internal
from interlock.events.arrival import Arrival, arrival
from interlock.events.broker import Broker, BrokerUnavailable, DeadLetter, LeaseLost

log = logging.getLogger("interlock")

FINAL = frozenset((Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED))
"""Codes of the consumer's own errors that no repetition heals."""

CAUSE_LENGTH = 2048
"""How many characters of a cause are kept."""


class UnknownLetter(LookupError):
    """There is no dead letter of that id."""


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
                if (arrived.last or _is_final(error)) and not (arrived.away is not None and await arrived.away()):
                    await _bury(broker, call, arrived, error)
                raise

        return give_up

    return layer


async def show(broker: Broker, letter_id: str) -> DeadLetter:
    """Return one dead letter; UnknownLetter if there is none of that id."""
    letter = await broker.dead_letter(letter_id)
    if letter is None:
        raise UnknownLetter(f"there is no dead letter {letter_id!r}; `list` shows those there are")
    return letter


async def replay(broker: Broker, letter_id: str) -> DeadLetter:
    """Send a dead letter's event to the group that gave it up, and no other; return the letter, now removed.

    It comes behind the events of its key that were published meanwhile. UnknownLetter if there is none of that id.
    """
    letter = await show(broker, letter_id)
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
