"""REST002: paths begin with `/api/` and the version that their package has."""

from collections.abc import Iterator

from interlock.contract.mistakes import Mistake
from interlock.standards.declarations import Declarations, routes
from interlock.standards.rule import ContractRule


def _check(contract: Declarations) -> Iterator[Mistake]:
    for rpc in contract.declared.rpcs:
        last = rpc.method.parent.file.proto.package.rpartition(".")[2]
        version = last if last[:1] == "v" and last[1:2].isdigit() else "v1"
        for route in routes(rpc):
            if route.template.segments[:2] != ("api", version):
                message = f"{rpc}: {route.template} does not begin with /api/{version}"
                yield Mistake(route.source, message, f"write `/api/{version}/…`, the version of the package")


REST002 = ContractRule(
    id="REST002",
    title="Paths begin with /api/ and the version that the package has.",
    why="REST callers see the version where RPC callers see it in the package's name; a gateway routes by it.",
    wrong="""\
// Orders.
service OrderService {
  // Read an order.
  rpc GetOrder(GetOrderRequest) returns (Order) {
    option (google.api.http) = {get: "/orders/{order_id}"};
    option (interlock.v1.method) = {permission: "orders:read"};
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
    option (interlock.v1.method) = {permission: "orders:read"};
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
