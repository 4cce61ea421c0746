"""Connect called over HTTP (connectrpc.com/docs/protocol). A failed call raises the typed error with its details."""

from interlock.call import Handler
from interlock.contract.model import Kind, Operation
from interlock.protocols.connect_client_streams import StreamCalls
from interlock.protocols.connect_client_unary import UnaryCalls
from interlock.protocols.connect_host import ConnectHost, ConnectOptions

__all__ = ["ConnectOptions", "ConnectTransport"]


class ConnectTransport(ConnectHost):
    """Transport to a host, see `ConnectHost`, over connections that are shared by all clients of it."""

    protocol = "connect"

    def handler(self, operation: Operation) -> Handler:
        """Return the handler that sends calls of `operation`."""
        if operation.kind is Kind.UNARY:
            return UnaryCalls(self, operation).send
        return StreamCalls(self, operation).send
