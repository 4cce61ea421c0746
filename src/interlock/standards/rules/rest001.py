"""REST001: paths are collections, ids and sub-collections, in turn."""

import re
from collections.abc import Iterator

from interlock.contract.declared import DeclaredRpc
from interlock.contract.mistakes import Mistake
from interlock.contract.model import Source
from interlock.contract.rest_shape import page_field
from interlock.standards.declarations import Declarations, routes
from interlock.standards.language import is_plural, plural
from interlock.standards.rule import ContractRule

_BASE = re.compile(r"api|v[0-9]+((alpha|beta)[0-9]*)?")
_SEGMENT = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*\Z")
_VERB = re.compile(r"(get|list|create|add|update|delete|remove|set|fetch|find|search|cancel|do|make)([-_]|\Z)")
_ID = ("*", "**")


def _check(contract: Declarations) -> Iterator[Mistake]:
    for rpc in contract.declared.rpcs:
        for route in routes(rpc):
            segments = list(route.template.segments)
            while segments and _BASE.fullmatch(segments[0]):
                del segments[0]
            yield from _path(rpc, str(route.template), segments, route.source)


def _path(rpc: DeclaredRpc, path: str, segments: list[str], source: Source) -> Iterator[Mistake]:
    if not segments:
        yield Mistake(source, f"{rpc}: {path} names no collection", "name one: `/api/v1/orders`")
    before = ""
    for index, segment in enumerate(segments):
        if segment in _ID:
            if before in ("", *_ID):
                message = f"{rpc}: {path} has an id without its collection"
                yield Mistake(source, message, "write the collection before each id: `/orders/{order_id}`")
        else:
            after = segments[index + 1] if index + 1 < len(segments) else ""
            yield from (
                Mistake(source, f"{rpc}: {path}: {message}", remedy)
                for message, remedy in _literal(rpc, segment, before, after)
            )
        before = segment


def _literal(rpc: DeclaredRpc, segment: str, before: str, after: str) -> Iterator[tuple[str, str]]:
    if not _SEGMENT.match(segment):
        yield f"{segment!r} is not in lower case", "write lower-case words, joined by `-`"
        return
    if _VERB.match(segment):
        yield (
            f"{segment!r} is a verb",
            "let the HTTP method say it, or put it behind a colon: `/orders/{order_id}:cancel`",
        )
        return
    if before not in ("", *_ID):
        yield f"{segment!r} stands right behind {before!r}", f"nest it below an id: `/{before}/{{id}}/{segment}`"
    # below a resource there may be a single thing, such as its status; a list or what creates is a collection
    name = rpc.method.name
    single = not after and before in _ID and page_field(rpc.method.output) is None and not name.startswith("Create")
    if not single and not is_plural(segment):
        yield f"the collection {segment!r} is no plural", f"write `{plural(segment)}`"


REST001 = ContractRule(
    id="REST001",
    title="Collections are plural nouns, resources stand below them, and sub-resources are nested.",
    why="Who knows one path of an API can guess the others, and the HTTP method is the only verb.",
    wrong="""\
// Orders.
service OrderService {
  // Read an order.
  rpc GetOrder(GetOrderRequest) returns (Order) {
    option (google.api.http) = {get: "/api/v1/getOrder/{order_id}"};
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
