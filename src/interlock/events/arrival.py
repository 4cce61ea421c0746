"""What the consumer's layers share about one event: how it came, how often it was tried, what becomes of it."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from protobuf import Message

from interlock.call import Call
from interlock.errors import InvalidArgument
from interlock.events.broker import Delivery


class Arrival:
    """The undecoded event of a CONSUMED call, in `call.incoming`; the layers leave there what they decided.

    `attempts` is the number of this attempt, 0 until it is recorded; `last` says that no other follows, `exhausted`
    that there were enough before this one, which must not run the handler. `retry_in` is the delay in seconds before
    the next. `buried` and `duplicate` events are done with, whatever the call's outcome. `away` asks of a failure
    whether it is the database that is away or full, in which case the event is not to blame.
    """

    __slots__ = ("_type", "attempts", "away", "buried", "delivery", "duplicate", "exhausted", "last", "retry_in")

    def __init__(self, delivery: Delivery, message_type: type[Message[Any]]) -> None:
        self.delivery = delivery
        self.attempts = 0
        self.last = False
        self.exhausted = False
        self.retry_in = 1.0
        self.buried = False
        self.duplicate = False
        self.away: Callable[[Exception], Awaitable[bool]] | None = None
        self._type = message_type

    @property
    def published(self) -> datetime:
        """When the event was published."""
        return self.delivery.envelope.time

    async def message(self) -> Message[Any]:
        """Return the event's message; InvalidArgument if the data is none of its type."""
        try:
            return self._type.from_binary(self.delivery.envelope.data)
        except Exception as broken:
            raise InvalidArgument(f"the event's data is no valid {self._type.desc().type_name}") from broken


def arrival(call: Call) -> Arrival:
    """Return what is known of the event of a CONSUMED call; TypeError for any other call."""
    if not isinstance(call.incoming, Arrival):
        raise TypeError(f"{call.operation} was not consumed from a broker; this layer is for CONSUMED calls")
    return call.incoming
