"""Operations of the services that every app brings along (health, reflection): open to anybody, without REST routes."""

from protobuf import DescFile

from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import DEFAULT_TIMEOUT, Kind, Operation
from interlock.contract.names import snake_case


def operations_of(file: DescFile) -> list[Operation]:
    """Return the operations of the services in a generated module's file."""
    return [
        Operation(
            service=service.type_name,
            name=method.name,
            python_name=snake_case(method.name),
            kind=Kind(method.method_kind),
            request_type=method.input.type,
            reply_type=method.output.type,
            unauthenticated=True,
            idempotency=Idempotency.SAFE,
            timeout=DEFAULT_TIMEOUT if method.method_kind == "unary" else None,
        )
        for service in file.services
        for method in service.methods
    ]
