"""GRPC006: health and reflection answer over gRPC."""

from collections.abc import AsyncIterator
from typing import Any, cast

from protobuf import Message, Oneof

from interlock.call import Call, Direction
from interlock.contract.builtin import operations_of
from interlock.contract.gen.grpc.health.v1 import health_pb
from interlock.contract.gen.grpc.reflection.v1 import reflection_pb
from interlock.contract.mistakes import Mistake
from interlock.contract.model import Source
from interlock.deadline import Deadline
from interlock.errors import Error, NotFound
from interlock.protocols.client_tls import Tls
from interlock.protocols.grpc_client import GrpcTransport
from interlock.standards.live.target import PLACEHOLDER, Observed, Target
from interlock.standards.rule import LiveRule

_CHECK = next(each for each in operations_of(health_pb.desc()) if each.name == "Check")
_REFLECT = operations_of(reflection_pb.desc())[0]
_BUILT_IN = "grpc."
_ADD_HEALTH = "serve grpc.health.v1.Health, SERVING for the empty name"
_ADD_REFLECTION = "serve grpc.reflection.v1.ServerReflection, on the API port"


async def _probe(target: Target) -> Observed:
    tls = Tls(authorities=target.authorities) if target.secure else None
    transport = GrpcTransport(target.address, tls=tls)
    try:
        breaches = [*await _health(target, transport), *await _reflection(target, transport)]
    finally:
        await transport.close()
    note = "which kinds of RPC there are is the contract's choice; only the two of health and reflection were called"
    return Observed(breaches=tuple(breaches), notes=(note,))


async def _health(target: Target, transport: GrpcTransport) -> list[Mistake]:
    source = Source(_CHECK.path)
    check = transport.handler(_CHECK)
    found: list[Mistake] = []
    try:
        reply = await check(_call(target, _CHECK, health_pb.HealthCheckRequest()))
        serving = health_pb.HealthCheckResponse.ServingStatus.SERVING
        if not isinstance(reply, health_pb.HealthCheckResponse) or reply.status != serving:
            found.append(Mistake(source, "the server does not call itself SERVING", _ADD_HEALTH))
    except Error as error:
        return [Mistake(source, f"health cannot be asked: {error}", _ADD_HEALTH)]
    try:
        await check(_call(target, _CHECK, health_pb.HealthCheckRequest(service=PLACEHOLDER)))
        found.append(Mistake(source, "health knows a service that is not there", "answer NOT_FOUND for unknown names"))
    except NotFound:
        pass
    except Error as error:
        message = f"health of an unknown service is {error.code.name}"
        found.append(Mistake(source, message, "answer NOT_FOUND for unknown names"))
    return found


async def _reflection(target: Target, transport: GrpcTransport) -> list[Mistake]:
    source = Source(_REFLECT.path)
    reply = await _reflect(target, transport, Oneof("list_services", "*"))
    if isinstance(reply, str):
        return [Mistake(source, f"reflection cannot be asked: {reply}", _ADD_REFLECTION)]
    listed = reply.message_response
    names = [each.name for each in listed.value.service] if listed and listed.field == "list_services_response" else []
    own = [each for each in names if not each.startswith(_BUILT_IN)]
    if not own:
        return [Mistake(source, "reflection lists no service of the contract", "hand it the services that are served")]
    found = []
    for name in own:
        reply = await _reflect(target, transport, Oneof("file_containing_symbol", name))
        files = None if isinstance(reply, str) else reply.message_response
        if files is None or files.field != "file_descriptor_response" or not files.value.file_descriptor_proto:
            found.append(Mistake(source, f"reflection has no file for {name}", "hand it the contract's descriptors"))
    return found


async def _reflect(
    target: Target, transport: GrpcTransport, asked: Any
) -> "reflection_pb.ServerReflectionResponse | str":
    """Ask reflection one thing; return its answer, or why there is none."""

    async def requests() -> AsyncIterator[Message[Any]]:
        yield reflection_pb.ServerReflectionRequest(message_request=asked)

    try:
        replies = await transport.handler(_REFLECT)(_call(target, _REFLECT, requests()))
        async for reply in cast("AsyncIterator[Message[Any]]", replies):
            if isinstance(reply, reflection_pb.ServerReflectionResponse):
                return reply
    except Error as error:
        return str(error)
    return "it ended without an answer"


def _call(target: Target, operation: Any, request: Any) -> Call:
    deadline = Deadline.after(target.timeout)
    return Call(operation=operation, request=request, deadline=deadline, direction=Direction.SENT)


GRPC006 = LiveRule(
    id="GRPC006",
    title="Health and reflection answer over gRPC.",
    why="Balancers ask health before they send calls; people and tools call a service without its contract at hand.",
    wrong="$ buf curl --list-services http://localhost:8080\nFailure: unimplemented",
    right="$ buf curl --list-services http://localhost:8080\napi.order.v1.OrderService\ngrpc.health.v1.Health",
    probe=_probe,
)
