"""The gateway: an App whose handlers are clients.

It speaks every protocol that an App speaks, and routes what is EXTERNAL only; callers are authenticated, limited and
refused here as well as behind it.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from interlock.app import App, Mounted
from interlock.call import Call, Handler, Reply
from interlock.client import Client
from interlock.contract.gen.interlock.v1.options_pb import Exposure, Idempotency
from interlock.contract.model import Kind, Operation
from interlock.contract.stub import Rpc
from interlock.resilience.idempotency import key_of

if TYPE_CHECKING:
    from interlock.settings import Settings


def gateway(*clients: Client, settings: "Settings", **options: Any) -> App:
    """Make the gateway in front of the services that `clients` call; `options` are those of App.

    One OpenAPI document covers all of them. Errors come through as the services gave them. The clients are closed with
    the app; ValueError for a service without an EXTERNAL operation. In production a gateway decides itself which traces
    are sampled, unless `trace_heeds_callers` is set: else anybody could have every call of theirs recorded.
    """
    if settings.trace_heeds_callers is None and settings.environment == "production":
        settings = settings.model_copy(update={"trace_heeds_callers": False})
    mounted = [mount(each) for each in clients]
    closing = [each.close for each in clients]
    return App(*mounted, settings=settings, **{**options, "on_stop": [*options.get("on_stop", ()), *closing]})


def mount(client: Client) -> Mounted:
    """Return the EXTERNAL operations of a client's service, each handled by a call of it.

    The service's events are left out: they travel between the platform's services alone, and nobody outside is told.
    """
    stub = client.service
    contract = stub.image.contract
    service = contract.service(stub.name)
    rpcs = {rpc.path: rpc for rpc in stub.rpcs.values()}
    operations = tuple(
        stub.operation(rpcs[each.path]) for each in service.operations if each.exposure is Exposure.EXTERNAL
    )
    if not operations:
        raise ValueError(f"{service.name} has no EXTERNAL operation: nothing of it can be reached through a gateway")
    handlers = {each.path: _forward(client, rpcs[each.path], each) for each in operations}
    outside = replace(service, operations=operations, publishes=(), subscribes=())
    return Mounted(service=outside, contract=contract, handlers=handlers)


def _forward(client: Client, rpc: Rpc[Any, Any], operation: Operation) -> Handler:
    async def forward(call: Call) -> Reply:
        return await client.forward(rpc, call)

    async def forward_keyed(call: Call) -> Reply:
        key_of(call)  # the client would give a call without a key one of its own, and its repetition another
        return await client.forward(rpc, call)

    return forward_keyed if operation.idempotency is Idempotency.KEYED and rpc.kind is Kind.UNARY else forward
