"""GRPC004: lists are read in pages, filtered and ordered, all the same way."""

from collections.abc import Iterator, Mapping

from protobuf import DescField, DescFieldValueScalar, DescMessage, ScalarType

from interlock.contract.declared import DeclaredRpc
from interlock.contract.mistakes import Mistake
from interlock.contract.rest_shape import element_of, is_repeated
from interlock.standards.declarations import Declarations
from interlock.standards.rule import ContractRule

_REQUEST = {
    "page_size": ScalarType.INT32,
    "page_token": ScalarType.STRING,
    "filter": ScalarType.STRING,
    "order_by": ScalarType.STRING,
}
_REPLY = {"next_page_token": ScalarType.STRING, "total_size": ScalarType.INT32}


def _check(contract: Declarations) -> Iterator[Mistake]:
    for rpc in contract.declared.rpcs:
        if rpc.method.name.startswith("List") and rpc.method.method_kind == "unary":
            yield from _fields(rpc, rpc.method.input, _REQUEST)
            yield from _fields(rpc, rpc.method.output, _REPLY)
            yield from _items(rpc)


def _fields(rpc: DeclaredRpc, message: DescMessage, wanted: Mapping[str, ScalarType]) -> Iterator[Mistake]:
    fields = {each.name: each for each in message.fields}
    for name, type_ in wanted.items():
        kind = type_.name.lower()
        if name not in fields:
            text = f"{rpc}: {message.name} has no `{name}`"
            yield Mistake(rpc.place.source, text, f"add `{kind} {name}`")
        elif not _is(fields[name], type_):
            text = f"{rpc}: `{name}` of {message.name} is no {kind}"
            yield Mistake(rpc.place.source, text, f"write `{kind} {name}`")


def _is(field: DescField, wanted: ScalarType) -> bool:
    return isinstance(field.value, DescFieldValueScalar) and field.value.scalar == wanted


def _items(rpc: DeclaredRpc) -> Iterator[Mistake]:
    reply = rpc.method.output
    lists = [each.name for each in reply.fields if is_repeated(each) and isinstance(element_of(each), DescMessage)]
    if len(lists) != 1:
        text = f"{rpc}: {reply.name} has {len(lists)} repeated messages, so nobody can tell which are the items"
        yield Mistake(rpc.place.source, text, "give it one repeated field, of the resource's message")


GRPC004 = ContractRule(
    id="GRPC004",
    title="A list takes page_size, page_token, filter and order_by; it returns items, next_page_token and total_size.",
    why=(
        "A list without pages works until it is long, and adding them later breaks its callers. With the same fields\n"
        "everywhere one iterator serves all lists. Methods called `List…` are lists."
    ),
    wrong="""\
// Orders.
service OrderService {
  // List orders.
  rpc ListOrders(ListOrdersRequest) returns (ListOrdersResponse) {
    option (interlock.v1.method) = {permission: "orders:read"};
  }
}

// An order.
message Order {
  // Given by the service.
  string id = 1;
}

// Lists orders.
message ListOrdersRequest {}

// All orders.
message ListOrdersResponse {
  // The orders.
  repeated Order orders = 1;
}
""",
    right="""\
// Orders.
service OrderService {
  // List orders.
  rpc ListOrders(ListOrdersRequest) returns (ListOrdersResponse) {
    option (interlock.v1.method) = {permission: "orders:read"};
  }
}

// An order.
message Order {
  // Given by the service.
  string id = 1;
}

// Lists orders.
message ListOrdersRequest {
  // At most so many.
  int32 page_size = 1;
  // `next_page_token` of the page before.
  string page_token = 2;
  // Which orders.
  string filter = 3;
  // In which order.
  string order_by = 4;
}

// A page of orders.
message ListOrdersResponse {
  // The orders of this page.
  repeated Order orders = 1;
  // Asks for the next page; empty on the last one.
  string next_page_token = 2;
  // How many there are in all.
  int32 total_size = 3;
}
""",
    check=_check,
)
