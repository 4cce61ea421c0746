"""Which operation is meant, with which requests, and how one of its calls is sent."""

from collections.abc import Sequence
from typing import Any

from protobuf import Message

from interlock.bench.plan import Refused
from interlock.bench.run import Send
from interlock.call import Call, Direction, Handler
from interlock.contract.builtin import operations_of
from interlock.contract.gen.grpc.health.v1 import health_pb
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Contract, Operation
from interlock.contract.names import nearest
from interlock.deadline import NEVER, Deadline
from interlock.errors import Error, InvalidArgument
from interlock.metadata import Metadata
from interlock.protocols.json_codec import from_json
from interlock.stamps import uuid7

DEEPEST = 100
"""How deep the JSON of a request may be nested."""


def find_operation(contract: Contract, name: str) -> Operation:
    """Return the operation called `/pkg.Service/Method`, `Service/Method` or `Method`, where only one is.

    A dot may stand for the slash, and the health service is always known. Refused names those there are.
    """
    operations = [*contract.operations.values(), *operations_of(health_pb.desc())]
    wanted = "." + name.replace("/", ".").removeprefix(".")
    found = [each for each in operations if each.path.replace("/", ".").endswith(wanted)]
    exact = [each for each in found if each.path.replace("/", ".") == wanted]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        raise Refused(f"{name!r} may be {' or '.join(each.path for each in found)}; write one of them in full")
    known = [each.path for each in contract.operations.values()]
    meant = nearest(name, [*known, *(each.name for each in operations)])
    raise Refused(f"there is no operation {name!r}{meant}; there are: {', '.join(known) or 'none'}")


def only_operation(contract: Contract) -> Operation:
    """Return the one operation that can be loaded without being named: it has examples and no stream of requests."""
    found = [each for each in contract.operations.values() if each.examples and not each.kind.client_streams]
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused("no operation of the contract has examples: name one with --method, and its request with --json")
    raise Refused(f"several operations have examples, name one with --method: {', '.join(each.path for each in found)}")


def requests_of(operation: Operation, text: str | None = None) -> Sequence[Message[Any]]:
    """Return the request that the JSON `text` is, else the requests of the contract's examples.

    Refused where neither is there, where the text is no such message (naming the fields), or requests are a stream.
    """
    if operation.kind.client_streams:
        raise Refused(f"{operation} takes a stream of requests; only single requests can be sent from here")
    texts = [text] if text is not None else [each.request for each in operation.examples]
    if not texts:
        raise Refused(f"{operation} has no example in its contract: give a request with --json '{{…}}'")
    try:
        return [from_json(operation.request_type, each.encode(), depth=DEEPEST) for each in texts]
    except InvalidArgument as error:
        fields = "; ".join(f"{each.field}: {each.description}" for each in error.violations)
        wrong = f"the request is no {operation.request_type.desc().type_name}: {error.message}"
        raise Refused(f"{wrong} ({fields})" if fields else wrong) from error


def begin(operation: Operation, request: Message[Any], metadata: Metadata, timeout: float | None) -> Call:
    """Return the call of one request; `timeout` in seconds, None for none. A KEYED one gets a key of its own."""
    deadline = Deadline.after(timeout) if timeout is not None else NEVER
    call = Call(operation, metadata.copy(), deadline, Direction.SENT, request)
    if operation.idempotency is Idempotency.KEYED and "idempotency-key" not in call.metadata:
        call.metadata.add("idempotency-key", uuid7())
    return call


def sender(
    operation: Operation,
    handler: Handler,
    requests: Sequence[Message[Any]],
    *,
    metadata: Metadata | None = None,
    timeout: float = 10.0,
) -> Send:
    """Return what sends one arrival: the requests in turn, each to the end of its stream, nothing sent twice.

    A failure is called by its code (`UNAVAILABLE`), with the reason where that says more (`NOT_FOUND NO_SUCH_ORDER`).
    """
    given = metadata if metadata is not None else Metadata()

    async def send(index: int) -> str:
        call = begin(operation, requests[index % len(requests)], given, timeout)
        try:
            reply: Any = await handler(call)
            if operation.kind.server_streams:
                async for _ in reply:
                    pass
        except Error as error:
            call.end(error)
            return error.code.name if error.reason == error.rest_code else f"{error.code.name} {error.reason}"
        call.end()
        return ""

    return send
