"""SEC003: each method names the permission it needs."""

from collections.abc import Iterator
from dataclasses import replace

from interlock.contract.declared import NO_SIDE_EFFECTS, DeclaredRpc
from interlock.contract.gen.interlock.v1.options_pb import Idempotency, MethodOptions
from interlock.contract.mistakes import Mistake
from interlock.contract.rules.operations import operation_mistakes
from interlock.standards.declarations import Declarations, routes
from interlock.standards.rule import ContractRule


def _check(contract: Declarations) -> Iterator[Mistake]:
    for rpc in contract.declared.rpcs:
        access = rpc.options.access
        yield from operation_mistakes(replace(rpc, options=MethodOptions(access=access)))  # what it says of access
        if access is not None and access.field == "unauthenticated" and access.value and not _only_reads(rpc):
            message = f"{rpc} lets anybody change something"
            remedy = "name the permission that it needs; unauthenticated is for what only reads"
            yield Mistake(rpc.where("unauthenticated"), message, remedy)


def _only_reads(rpc: DeclaredRpc) -> bool:
    options = rpc.method.proto.options
    declared = options is not None and options.idempotency_level == NO_SIDE_EFFECTS
    verbs = {route.verb for route in routes(rpc)}
    return declared or rpc.options.idempotency == Idempotency.SAFE or verbs == {"GET"}


SEC003 = ContractRule(
    id="SEC003",
    title="Each method names the permission that it needs; what changes something is never open to anybody.",
    why=(
        "Access is denied unless the contract grants it, so who may do what can be read in one place and checked\n"
        "before a request's body is. Roles hold permissions: `orders:create`, `orders:*` or `*`."
    ),
    wrong="""\
// Orders.
service OrderService {
  // Cancel an order.
  rpc CancelOrder(CancelOrderRequest) returns (CancelOrderResponse) {
    option (interlock.v1.method) = {unauthenticated: true};
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
