"""INT002: what the outside may call has a REST route."""

from collections.abc import Iterator

from interlock.contract.gen.interlock.v1.options_pb import Exposure
from interlock.contract.mistakes import Mistake
from interlock.contract.model import Kind
from interlock.contract.names import snake_case
from interlock.standards.declarations import Declarations
from interlock.standards.language import plural
from interlock.standards.rule import ContractRule


def _check(contract: Declarations) -> Iterator[Mistake]:
    for rpc in contract.declared.rpcs:
        if rpc.options.exposure != Exposure.EXTERNAL or rpc.http or Kind(rpc.method.method_kind).client_streams:
            continue
        noun = plural(snake_case(rpc.method.parent.name.removesuffix("Service")))
        message = f"{rpc} is EXTERNAL, but has no REST route"
        remedy = f'add `option (google.api.http) = {{get: "/api/v1/{noun}/…"}};`, or leave EXTERNAL out'
        yield Mistake(rpc.where("exposure"), message, remedy)


INT002 = ContractRule(
    id="INT002",
    title="What the outside may call has a REST route.",
    why=(
        "Outside callers come over REST. A stream of replies has a REST form too (events, or a line each); only a\n"
        "stream of requests has none, and is not asked for one."
    ),
    wrong="""\
// Orders.
service OrderService {
  // Read an order.
  rpc GetOrder(GetOrderRequest) returns (Order) {
    option (interlock.v1.method) = {permission: "orders:read" exposure: EXTERNAL};
  }
}

// Reads an order.
message GetOrderRequest {
  // Which order.
  string order_id = 1;
}

// An order.
message Order {
  // Given by the service.
  string id = 1;
}
""",
    right="""\
// Orders.
service OrderService {
  // Read an order.
  rpc GetOrder(GetOrderRequest) returns (Order) {
    option (google.api.http) = {get: "/api/v1/orders/{order_id}"};
    option (interlock.v1.method) = {permission: "orders:read" exposure: EXTERNAL};
  }
}

// Reads an order.
message GetOrderRequest {
  // Which order.
  string order_id = 1;
}

// An order.
message Order {
  // Given by the service.
  string id = 1;
}
""",
    check=_check,
)
