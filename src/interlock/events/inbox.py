"""The layer that makes an event's effect happen once: the inbox row is committed with what the handler changed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from protobuf.wkt import Empty

from interlock.call import Call, Handler, Layer, Middleware, Reply
from interlock.contract.model import Operation
from interlock.events.arrival import arrival
from interlock.events.broker import Delivery, LeaseLost

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import Transaction


class _SeenBefore(Exception):
    """The event was processed before; rolls the call's transaction back."""


def inbox(database: "Database") -> Layer:
    """Note the event in the call's transaction as processed by this service; stands right before `unit_of_work`.

    A duplicate is rolled back and counts as done. The partition's fencing number is checked in the same transaction:
    LeaseLost if a later holder of the partition has committed already.
    """
    from interlock.data import inbox as rows  # noqa: PLC0415 - with SQLAlchemy, wanted by services with a database
    from interlock.data.unit import delist, enlist  # noqa: PLC0415

    async def note_all(tx: "Transaction", noted: Sequence[tuple[str, Delivery]]) -> None:
        (consumer, last), ids = noted[-1], [each.envelope.id for _, each in noted]
        if not await rows.note_all(tx, consumer, ids, last.lease, last.fence):
            raise LeaseLost(f"of {len(ids)} events some were processed, or the lease {last.lease} has a later holder")

    def layer(operation: Operation) -> Middleware:
        consumer = operation.service

        async def deduplicate(call: Call, proceed: Handler) -> Reply:
            arrived = arrival(call)
            delivery = arrived.delivery

            async def note(tx: "Transaction", _reply: Reply) -> None:
                held, new = await rows.note(tx, consumer, delivery.envelope.id, delivery.lease, delivery.fence)
                if not held:
                    raise LeaseLost(f"the lease {delivery.lease} has a later holder, which has committed already")
                if not new:
                    raise _SeenBefore

            origin = f"{consumer}/{delivery.envelope.id}"
            token = enlist(database, note, origin, together=note_all, item=(consumer, delivery))
            try:
                return await proceed(call)
            except _SeenBefore:
                arrived.duplicate = True
                return Empty()
            finally:
                delist(token)

        return deduplicate

    return layer
