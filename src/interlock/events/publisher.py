"""Publishing: a message becomes an event, checked, stamped and bounded, and lands in the outbox or at the broker."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from protobuf import Message
from protobuf.wkt import Empty

from interlock.call import Call, Direction, Handler, Layer, Reply, compose, current_call
from interlock.contract.model import Event, Kind, Operation, Service
from interlock.deadline import NEVER
from interlock.errors import Error, Internal, InvalidArgument
from interlock.events.broker import Broker
from interlock.events.envelope import EVENT_BYTES, Envelope, EventTooLarge, bounded, to_attributes
from interlock.metadata import Metadata
from interlock.stamps import uuid7

if TYPE_CHECKING:
    from interlock.data.transaction import Transaction

SCHEMA = "proto:"
"""What stands before a message's full name in `dataschema`, which CloudEvents wants to be a URI."""

Store = Callable[[Envelope], Awaitable[None]]


class InvalidEvent(ValueError):
    """What should be published is no event of the service, breaks its contract, or has no key: a fault in the code."""


class Publication:
    """The event of a PUBLISHED call, in `call.incoming`: its message, and where it is to be stored."""

    __slots__ = ("id", "request", "store")

    def __init__(self, request: Message[Any], store: Store) -> None:
        self.id = uuid7()
        self.request = request
        self.store = store

    async def message(self) -> Message[Any]:
        """Return the event's message."""
        return self.request


@dataclass(frozen=True, slots=True)
class _Published:
    operation: Operation
    handle: Handler


class Publisher:
    """Publishes the events that `services` declare (`publishes`); called with a transaction it fills the outbox.

    `events` are those of the contract, `layers` those of PUBLISHED calls (trace, metrics, validate), `limit` is the
    largest event in bytes; `broker` is where `publish` goes. As `database.publisher` it is what `tx.publish` calls.
    """

    def __init__(
        self,
        services: Sequence[Service],
        events: Iterable[Event],
        *,
        layers: Sequence[Layer] = (),
        limit: int = EVENT_BYTES,
        broker: Broker | None = None,
    ) -> None:
        self._limit = limit
        self._broker = broker
        self._published: Mapping[str, _Published] = {
            event.message_type.desc().type_name: self._prepare(service, event, layers)
            for event in events
            for service in reversed(services)
            if event.type in service.publishes
        }

    async def __call__(self, tx: "Transaction", message: Message[Any]) -> str:
        """Store the event in the outbox, within `tx`, and return its id.

        InvalidEvent for what the contract does not let the services publish, EventTooLarge above the limit.
        """
        from interlock.data import outbox  # noqa: PLC0415 - with SQLAlchemy, wanted by services with a database

        async def store(envelope: Envelope) -> None:
            row = outbox.OutboxRow(
                id=envelope.id,
                type=envelope.type,
                partition_key=envelope.partition_key,
                data=envelope.data,
                attributes=to_attributes(envelope),
            )
            await outbox.insert(tx, row)

        return await self._publish(message, store)

    async def publish(self, message: Message[Any]) -> str:
        """Send the event to the broker now, whatever becomes of any transaction; return its id.

        Besides what publishing in a transaction raises, BrokerUnavailable.
        """
        broker = self._broker
        if broker is None:
            raise RuntimeError("this publisher has no broker; publish in a transaction, or hand it one")

        async def store(envelope: Envelope) -> None:
            await broker.publish([envelope])

        return await self._publish(message, store)

    def _prepare(self, service: Service, event: Event, layers: Sequence[Layer]) -> _Published:
        operation = Operation(
            service=service.name,
            name=event.type,
            python_name="publish",
            kind=Kind.UNARY,
            request_type=event.message_type,
            reply_type=Empty,
            tier=service.tier,
            deprecation=event.deprecation,
            comment=event.comment,
            source=event.source,
        )
        return _Published(operation, compose(layers, operation, _stamp(operation, event, self._limit)))

    async def _publish(self, message: Message[Any], store: Store) -> str:
        name = message.desc().type_name
        published = self._published.get(name)
        if published is None:
            known = ", ".join(sorted(self._published)) or "none"
            raise InvalidEvent(f"{name} is no event that is published here ({known}); declare it: `publishes: …`")
        publication = Publication(message, store)
        call = _call(published.operation, publication)
        error: Error | None = None
        try:
            await published.handle(call)
        except InvalidArgument as wrong:
            error = wrong
            raise InvalidEvent(f"the event {published.operation.name} breaks its contract: {wrong}") from wrong
        except BaseException as raised:
            error = raised if isinstance(raised, Error) else Internal("the event was not published")
            raise
        finally:
            call.end(error)
        return publication.id


def _call(operation: Operation, publication: Publication) -> Call:
    cause = current_call.get()
    metadata = Metadata()
    if cause is not None:
        metadata.add("x-request-id", cause.request_id)
        if cause.trace is not None:
            metadata.add("traceparent", cause.trace.traceparent)
    return Call(
        operation,
        metadata=metadata,
        deadline=cause.deadline if cause is not None else NEVER,
        direction=Direction.PUBLISHED,
        request=publication.request,
        principal=cause.principal if cause is not None else None,
        trace=cause.trace if cause is not None else None,
        protocol="event",
        incoming=publication,
    )


def _stamp(operation: Operation, event: Event, limit: int) -> Handler:
    """Return the end of a chain: the message in its envelope, bounded, stored."""
    desc = event.message_type.desc()
    key = next(each.local_name for each in desc.fields if each.name == event.key)
    schema = SCHEMA + desc.type_name

    async def stamp(call: Call) -> Reply:
        publication = call.incoming
        assert isinstance(publication, Publication)  # noqa: S101 - as _call makes it
        value = getattr(call.request, key)
        if value in ("", None):
            raise InvalidEvent(f"the event {event.type} has no {event.key}, which is its key")
        envelope = Envelope(
            id=publication.id,
            source=operation.service,
            type=event.type,
            partition_key=str(value),
            subject=str(value),
            time=datetime.now(UTC),
            data_schema=schema,
            traceparent=call.trace.traceparent if call.trace is not None else "",
            request_id=call.request_id,
            data=call.request.to_binary(),
        )
        await publication.store(bounded(envelope, limit))
        return Empty()

    return stamp


__all__ = ["EventTooLarge", "InvalidEvent", "Publication", "Publisher"]
