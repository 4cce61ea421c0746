"""GRPC003: a request message for each method, and a reply that says what it is."""

from collections.abc import Iterator

from interlock.contract.declared import DeclaredRpc
from interlock.contract.mistakes import Mistake
from interlock.contract.rest_shape import EMPTY, WELL_KNOWN
from interlock.standards.declarations import Declarations
from interlock.standards.rule import ContractRule


def _check(contract: Declarations) -> Iterator[Mistake]:
    takes: dict[str, DeclaredRpc] = {}
    for rpc in contract.declared.rpcs:
        yield from _request(rpc, takes)
        yield from _reply(rpc)


def _request(rpc: DeclaredRpc, takes: dict[str, DeclaredRpc]) -> Iterator[Mistake]:
    name, taken = f"{rpc.method.name}Request", rpc.method.input
    if taken.name != name or taken.type_name.startswith(WELL_KNOWN):
        message = f"{rpc} takes {_shown(taken.type_name)}, not a request message of its own"
        yield Mistake(rpc.place.source, message, f"let it take a message `{name}`, which may be empty")
        return
    other = takes.setdefault(taken.type_name, rpc)
    if other is not rpc:
        message = f"{rpc} takes {name}, as {other} does"
        yield Mistake(rpc.place.source, message, "give each method a request message of its own")


def _reply(rpc: DeclaredRpc) -> Iterator[Mistake]:
    reply, method = rpc.method.output, rpc.method.name
    own = f"{method}Response"
    if reply.type_name == EMPTY:
        if not method.startswith("Delete"):
            message = f"{rpc} returns Empty, which can never say anything"
            yield Mistake(rpc.place.source, message, f"return the resource, or a message `{own}`, which may be empty")
    elif reply.type_name.startswith(WELL_KNOWN) or reply.name.endswith("Request"):
        message = f"{rpc} returns {_shown(reply.type_name)}, which is no reply"
        yield Mistake(rpc.place.source, message, f"return the resource, or a message `{own}`")
    elif reply.name.endswith("Response") and reply.name != own:
        message = f"{rpc} returns {reply.name}, the reply of another method"
        yield Mistake(rpc.place.source, message, f"return the resource, or a message `{own}`")


def _shown(type_name: str) -> str:
    return type_name if type_name.startswith(WELL_KNOWN) else type_name.rpartition(".")[2]


GRPC003 = ContractRule(
    id="GRPC003",
    title="Each method has its own request message, and returns its own reply message or the resource itself.",
    why=(
        "A message that two methods share cannot grow for one of them alone. `Empty` cannot grow at all: only a\n"
        "deletion, after which there is nothing to tell, may return it."
    ),
    wrong="""\
// Orders.
service OrderService {
  // Cancel an order.
  rpc CancelOrder(OrderRef) returns (google.protobuf.Empty) {
    option (interlock.v1.method) = {permission: "orders:cancel"};
  }
}

// Names an order.
message OrderRef {
  // Which order.
  string order_id = 1;
}
""",
    right="""\
// Orders.
service OrderService {
  // Cancel an order.
  rpc CancelOrder(CancelOrderRequest) returns (CancelOrderResponse) {
    option (interlock.v1.method) = {permission: "orders:cancel"};
  }
}

// Cancels an order.
message CancelOrderRequest {
  // Which order.
  string order_id = 1;
}

// An order was cancelled.
message CancelOrderResponse {}
""",
    check=_check,
)
