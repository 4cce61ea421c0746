"""Calls for tests of the transaction rules: a KEYED operation with its chain, and how it is called."""

from collections.abc import Iterable
from typing import Any

from interlock.call import Call, Direction, Handler, Layer, Principal, Reply, compose, current_call
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Kind, Operation
from interlock.data.unit import unit_of_work
from interlock.metadata import Metadata
from tests.sample.gen.sample.v1.sample_pb import CreateThingRequest, Thing

KEYED = Operation(
    service="sample.v1.SampleService",
    name="CreateThing",
    python_name="create_thing",
    kind=Kind.UNARY,
    request_type=CreateThingRequest,
    reply_type=Thing,
    idempotency=Idempotency.KEYED,
)


def new_call(name: str = "a", *, key: str | None = None, subject: str = "alice", **options: Any) -> Call:
    """Return a served call that asks for a thing."""
    metadata = Metadata([("idempotency-key", key)] if key is not None else [])
    return Call(
        KEYED, metadata=metadata, request=CreateThingRequest(name=name), principal=Principal(subject=subject), **options
    )


async def run(handler: Handler, call: Call, layers: Iterable[Layer] = ()) -> Reply:
    """Send a call through `layers` and the unit of work, as a front does."""
    chain = compose([*layers, unit_of_work(call.direction)], call.operation, handler)
    token = current_call.set(call)
    try:
        return await chain(call)
    finally:
        current_call.reset(token)
        call.end()


__all__ = ["KEYED", "Direction", "new_call", "run"]
