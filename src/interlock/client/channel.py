"""Where a client's calls go: its transport, and the chain of each operation, composed once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from interlock.call import Handler, Layer, compose
from interlock.contract.model import Operation
from interlock.contract.stub import Rpc, ServiceStub
from interlock.protocols.deprecation_notice import Notice
from interlock.resilience.policies import Policies

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.protocols.client_tls import Tls
    from interlock.protocols.connect_client import ConnectOptions


class Transport(Protocol):
    """Where calls go: a handler per operation, and something to close."""

    def handler(self, operation: Operation) -> Handler:
        """Return the handler that sends calls of `operation`."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Bound:
    """An operation as it is called: its composed chain, its timeout in seconds, who looks whether it is deprecated."""

    operation: Operation
    handler: Handler
    timeout: float
    notice: Notice


class Channel:
    """What the views of one client share: the transport and the chain of each operation, composed once."""

    def __init__(
        self, stub: ServiceStub, transport: Transport, layers: Iterable[Layer], policies: Policies | None = None
    ) -> None:
        self._stub = stub
        self.transport = transport
        self.protocol: str = getattr(transport, "protocol", "")  # a transport of a user's own may not say
        self._layers = tuple(layers)
        self._policies = policies or Policies()
        self._bound: dict[str, Bound] = {}

    def bind(self, rpc: Rpc[Any, Any]) -> Bound:
        """Return the operation ready to be called."""
        found = self._bound.get(rpc.path)
        if found is None:
            operation = self._stub.operation(rpc)
            handler = compose(self._layers, operation, self.transport.handler(operation))
            limit = self._policies.of(operation).timeout or operation.timeout
            timeout = float("inf") if limit is None else limit.total_seconds()
            found = self._bound[rpc.path] = Bound(operation, handler, timeout, Notice(operation.path))
        return found


def transport_to(
    target: "str | App | Transport", tls: "Tls | None", connections: int, connect: "ConnectOptions | None"
) -> Transport:
    """Return the transport that a client's target names, see `Client`; ValueError for a string that names none."""
    if isinstance(target, str):
        if target.startswith(("http://", "https://")):
            from interlock.protocols.connect_client import ConnectTransport  # noqa: PLC0415 - httpx2 only where used

            return ConnectTransport(target, tls=tls, options=connect)
        from interlock.protocols.grpc_client import GrpcTransport  # noqa: PLC0415 - grpcio only where it is used

        if "://" in target:
            raise ValueError(f"{target!r} is no target; write host:port for gRPC, http:// or https:// for Connect")

        return GrpcTransport(target, tls=tls, connections=connections)
    in_process = getattr(target, "in_process", None)
    return in_process() if in_process is not None else target  # type: ignore[return-value]
