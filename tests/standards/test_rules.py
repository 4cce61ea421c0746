"""A table a rule: what it finds, and what it lets pass."""

from pathlib import Path

import pytest

from interlock.standards import CONTRACT_RULES, LIVE_RULES, ContractRule, Page, explain
from interlock.standards.language import is_past, is_plural, plural
from interlock.standards.rules.evt001 import EVT001
from interlock.standards.rules.grpc001 import GRPC001
from interlock.standards.rules.grpc002 import GRPC002
from interlock.standards.rules.grpc003 import GRPC003
from interlock.standards.rules.grpc004 import GRPC004
from interlock.standards.rules.int002 import INT002
from interlock.standards.rules.int003 import INT003
from interlock.standards.rules.rest001 import REST001
from interlock.standards.rules.rest002 import REST002
from interlock.standards.rules.sec003 import SEC003
from interlock.standards.rules.sec006 import SEC006
from tests.standards.protos import checked, findings, get, method

PAGED = {
    "page_size": "int32 page_size = 2;",
    "page_token": "string page_token = 3;",
    "filter": "string filter = 4;",
    "order_by": "string order_by = 5;",
}
PAGE = {
    "next_page_token": "string next_page_token = 2;",
    "total_size": "int32 total_size = 3;",
    "items": "repeated Order orders = 1;",
}


def listing(without: str = "", extra: str = "") -> str:
    """Return a service with a sound list, one field left out of it."""
    request = "".join(text for name, text in PAGED.items() if name != without)
    reply = "".join(text for name, text in PAGE.items() if name != without)
    return f"""\
service OrderService {{
  rpc ListOrders(ListOrdersRequest) returns (ListOrdersResponse) {{
    option (interlock.v1.method) = {{permission: "orders:read"}};
  }}
}}
message Order {{ string id = 1; }}
message ListOrdersRequest {{ {request} }}
message ListOrdersResponse {{ {reply} {extra} }}
"""


def event(type_: str, name: str = "OrderCreated", key: str = "order_id", field: str = "string order_id = 1;") -> str:
    """Return an event and its publisher."""
    return f"""\
service OrderService {{ option (interlock.v1.service) = {{publishes: "{type_}"}}; }}
message {name} {{
  option (interlock.v1.event) = {{type: "{type_}" key: "{key}"}};
  {field}
}}
"""


@pytest.mark.parametrize("rule", CONTRACT_RULES, ids=lambda rule: rule.id)
def test_the_wrong_example_is_found_with_line_and_remedy(rule: ContractRule, tmp_path: Path) -> None:
    """What a rule's page calls wrong is found by it, at a line, with a remedy."""
    found = findings(tmp_path, rule, rule.wrong)
    assert found
    assert all(each.source.line > 0 and each.source.file.endswith("order.proto") and each.remedy for each in found)


@pytest.mark.parametrize("rule", CONTRACT_RULES, ids=lambda rule: rule.id)
def test_the_right_example_passes_every_rule(rule: ContractRule, tmp_path: Path) -> None:
    """What a rule's page calls right is right for all of them."""
    assert checked(tmp_path, rule.right).findings == ()


@pytest.mark.parametrize("page", [*CONTRACT_RULES, *LIVE_RULES], ids=lambda page: page.id)
def test_every_rule_has_a_page(page: Page) -> None:
    """A page says what, why, wrong, right, and how to silence it where that goes."""
    text = explain(page)
    assert text.startswith(f"{page.id}: {page.title}\n\n")
    assert page.why in text
    assert all(line in text for line in (*page.wrong.splitlines(), *page.right.splitlines()))
    assert (f"interlock:ignore {page.id}" in text) == isinstance(page, ContractRule)


TABLE = [
    (GRPC001, "package api.order.v2;\nmessage Order {}", 0),
    (GRPC001, "package api.order.v1beta1;\nmessage Order {}", 0),
    (GRPC001, "package api.order.v0;\nmessage Order {}", 1),
    (GRPC001, "package v1;\nmessage Order {}", 1),
    (GRPC002, "// An order.\nmessage Order {\n  // Given.\n  string id = 1;\n}", 0),
    (GRPC002, "message Order { string id = 1; }", 2),
    (GRPC002, "// An order.\n// buf:lint:ignore MESSAGE_PASCAL_CASE\nmessage order {}", 1),
    (GRPC003, method("GetOrder"), 0),
    (GRPC003, method("DeleteOrder", reply="google.protobuf.Empty"), 0),
    (GRPC003, method("GetOrder", request="OrderRequest"), 1),
    (GRPC003, method("GetOrder", request="google.protobuf.Empty"), 1),
    (GRPC003, method("GetOrder", reply="google.protobuf.Timestamp"), 1),
    (GRPC003, method("CancelOrder", reply="GetOrderResponse"), 1),
    (GRPC003, method("CancelOrder", reply="google.protobuf.Empty"), 1),
    (GRPC003, method("GetOrder") + method("GetOrder").split("message")[0].replace("OrderService", "AdminService"), 1),
    (GRPC004, listing(), 0),
    *((GRPC004, listing(without=name), 1) for name in {**PAGED, **PAGE}),
    (GRPC004, listing(extra="repeated Order more = 9;"), 1),
    (GRPC004, listing(without="page_size").replace("page_token", "page_size"), 3),
    (GRPC004, method("GetOrder"), 0),
    (INT002, method("GetOrder", access='permission: "orders:read" exposure: EXTERNAL'), 1),
    (INT002, method("GetOrder", access='permission: "orders:read" exposure: INTERNAL'), 0),
    (
        INT002,
        method("GetOrder", options=get("/api/v1/orders/{order_id}"), access='permission: "a:b" exposure: EXTERNAL'),
        0,
    ),
    (
        INT002,
        method("SendOrders", access='permission: "a:b" exposure: EXTERNAL').replace("(Send", "(stream Send"),
        0,
    ),
    (INT003, event("order.created"), 0),
    (INT003, event("order.created").replace('publishes: "order.created"', 'owner: "a"'), 1),
    (INT003, event("order.created").replace('publishes: "order.created"', 'subscribes: "order.created"'), 2),
    (INT003, event("order.created") + event("order.created").split("\n")[0].replace("OrderService", "B"), 1),
    (REST001, method("GetOrder", options=get("/api/v1/orders/{order_id}")), 0),
    (REST001, method("GetOrder", options=get("/api/v1/orders/{order_id}:track")), 0),
    (REST001, method("GetOrder", options=get("/api/v1/orders/{order_id}/status")), 0),
    (REST001, method("GetOrder", options=get("/api/v1/orders/{order_id}/items")), 0),
    (REST001, method("GetOrder", options=get("/api/v1/order/{order_id}")), 1),
    (REST001, method("GetOrder", options=get("/api/v1/addresses/{order_id}")), 0),
    (REST001, method("GetOrder", options=get("/api/v1/address/{order_id}")), 1),
    (REST001, method("GetOrder", options=get("/api/v1/{order_id}")), 1),
    (REST001, method("GetOrder", options=get("/api/v1/orders/items/{order_id}")), 1),
    (REST001, method("GetOrder", options=get("/api/v1/Orders/{order_id}")), 1),
    (REST001, method("GetOrder", options=get("/api/v1/cancel/{order_id}")), 1),
    (REST001, method("GetOrder", options=get("/api/v1")), 1),
    (REST001, method("CreateItem", options=get("/api/v1/orders/{order_id}/item")), 1),
    (REST002, method("GetOrder", options=get("/api/v1/orders/{order_id}")), 0),
    (REST002, method("GetOrder", options=get("/v1/orders/{order_id}")), 1),
    (REST002, method("GetOrder", options=get("/api/v2/orders/{order_id}")), 1),
    (REST002, "package api.order.v2;\n" + method("GetOrder", options=get("/api/v2/orders/{order_id}")), 0),
    (EVT001, event("order.created"), 0),
    (EVT001, event("order.checked_out", "OrderCheckedOut"), 0),
    (EVT001, event("order.sent", "OrderSent"), 0),
    (EVT001, event("order.create", "OrderCreate"), 1),
    (EVT001, event("order.created", "OrderMade"), 1),
    (EVT001, event("created", "Created"), 1),
    (EVT001, event("order.created", key=""), 1),
    (EVT001, event("order.created", key="id"), 1),
    (SEC003, method("GetOrder", access='permission: "orders:read"'), 0),
    (SEC003, method("GetOrder", access="exposure: INTERNAL"), 1),
    (SEC003, method("GetOrder", access='permission: "read orders"'), 1),
    (SEC003, method("GetOrder", access="unauthenticated: true"), 1),
    (SEC003, method("GetOrder", access="unauthenticated: true idempotency: SAFE"), 0),
    (SEC003, method("GetOrder", options=get("/api/v1/orders/{order_id}"), access="unauthenticated: true"), 0),
    (SEC006, "message Card { string card_number = 1; int32 token = 2; string next_page_token = 3; }", 1),
    (SEC006, "message Card { message Holder { string email = 1; } map<string, string> a = 1; Holder b = 2; }", 1),
    (SEC006, "message Card { string cvv = 1 [(interlock.v1.field) = {sensitive: true}]; }", 0),
    (SEC006, "message Card { string kept_secret_level = 1; string tokens_used = 2; }", 0),
    (
        SEC006,
        event("order.created", field="string order_id = 1 [(interlock.v1.field) = {sensitive: true}];"),
        1,
    ),
    (
        SEC006,
        method("GetOrder", options=get("/api/v1/orders/{order_id}")).replace(
            "order_id = 1", "order_id = 1 [(interlock.v1.field).sensitive = true]"
        ),
        1,
    ),
]


@pytest.mark.parametrize("rule, text, count", TABLE, ids=[f"{row[0].id}-{n}" for n, row in enumerate(TABLE)])
def test_a_rule_finds_what_breaks_it(rule: ContractRule, text: str, count: int, tmp_path: Path) -> None:
    """A rule finds so much in a contract, and nothing where the contract keeps it."""
    found = findings(tmp_path, rule, text)
    assert len(found) == count, found


def test_an_event_needs_its_publisher_in_the_same_check(tmp_path: Path) -> None:
    """Publisher and subscriber in different packages meet when both are checked."""
    subscriber = (
        'package api.pay.v1;\nservice PayService { option (interlock.v1.service) = {subscribes: "order.created"}; }'
    )
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert len(findings(alone, INT003, subscriber)) == 1
    assert findings(together, INT003, subscriber, event("order.created")) == []


@pytest.mark.parametrize("word", ["orders", "people", "addresses", "order-items", "statuses", "line_items", "stocks"])
def test_plurals_are_known(word: str) -> None:
    """A plural is taken for one."""
    assert is_plural(word)


@pytest.mark.parametrize(
    "word, several", [("order", "orders"), ("status", "statuses"), ("category", "categories"), ("day", "days")]
)
def test_a_singular_is_told_with_its_plural(word: str, several: str) -> None:
    """A singular is no plural, and its plural is one."""
    assert not is_plural(word)
    assert plural(word) == several
    assert is_plural(several)


@pytest.mark.parametrize("verb, past", [("paid", True), ("status_changed", True), ("create", False), ("red", False)])
def test_the_past_is_known(verb: str, past: bool) -> None:
    """A past participle is told from other words."""
    assert is_past(verb) is past
