"""Every mistake of a contract: one wrong contract a row, what is said of it, and at which line (`// here`)."""

from pathlib import Path

import pytest

from interlock.contract.load import load
from interlock.contract.mistakes import ContractError
from tests.contract.protos import HEADER, image_of, rpc, service

OPEN = "option (interlock.v1.method) = { unauthenticated: true };"


def route(text: str) -> str:
    return rpc(f"option (google.api.http) = {{ {text} }};  // here")


def method(text: str, **more: str) -> str:
    return rpc(f"option (interlock.v1.method).{text};  // here", **more)


def event(options: str, fields: str = "string id = 1;") -> str:
    return f"message Made {{\n{fields}\noption (interlock.v1.event) = {{ {options} }};  // here\n}}"


def deprecated(text: str) -> str:
    return method(f"deprecation = {{ {text} }}")


def two(first: str, second: str) -> str:
    return service(
        f"rpc First(Query) returns (Answer) {{ {OPEN} option (google.api.http) = {{ {first} }}; }}\n"
        f"rpc Second(Query) returns (Answer) {{ {OPEN} option (google.api.http) = {{ {second} }}; }}  // here"
    )


MISTAKES = {
    "path syntax": (route('get: "/v1/{id"'), "'{' without '}'"),
    "path without slash": (route('get: "v1"'), "must start with '/'"),
    "route without path": (route('body: "*"'), "must start with '/'"),
    "variable that is no field": (route('get: "/v1/{idd}"'), "{idd} is no field of Query; did you mean 'id'?"),
    "variable that is repeated": (route('get: "/v1/{tags}"'), "{tags} is repeated, not one value"),
    "variable that is a map": (route('get: "/v1/{labels}"'), "{labels} is repeated, not one value"),
    "variable that is bytes": (route('get: "/v1/{data}"'), "{data} is bytes, which no path can hold"),
    "variable that is a message": (route('get: "/v1/{inner}"'), "{inner} is a message, not one value"),
    "variable that is a timestamp": (route('get: "/v1/{at}"'), "{at} is a message, not one value"),
    "nested variable that is no field": (route('get: "/v1/{inner.no}"'), "{inner.no} is no field of Inner"),
    "variable through a scalar": (route('get: "/v1/{id.no}"'), "leads through 'id', which is no message in Query"),
    "body that is no field": (route('post: "/v1" body: "inne"'), "is no field of Query; did you mean 'inner'?"),
    "body on GET": (route('get: "/v1" body: "*"'), "a GET has no body"),
    "body on DELETE": (route('delete: "/v1" body: "inner"'), "a DELETE has no body"),
    "body that the path has": (route('post: "/v1/{id}" body: "id"'), "'id' is both in the path and the body"),
    "response body that is no field": (route('get: "/v1" response_body: "item"'), "is no field of Answer"),
    "bindings in bindings": (
        route('get: "/v1" additional_bindings { get: "/v2" additional_bindings { get: "/v3" } }'),
        "holds bindings of its own",
    ),
    "variable of an additional binding": (
        route('get: "/v1" additional_bindings { get: "/v2/{no}" }'),
        "{no} is no field of Query",
    ),
    "one route twice": (two('get: "/v1/{id}"', 'get: "/v1/{count}"'), "Things.First (t/v1/t.proto:"),
    "client stream on HTTP": (
        rpc('option (google.api.http) = { post: "/v1" body: "*" };  // here', request="stream Query"),
        "streams its requests, which HTTP cannot carry",
    ),
    "bidi stream on HTTP": (
        rpc(
            'option (google.api.http) = { post: "/v1" body: "*" };  // here',
            request="stream Query",
            reply="stream Answer",
        ),
        "streams its requests, which HTTP cannot carry",
    ),
    "no access": (
        service("rpc Find(Query) returns (Answer);  // here"),
        "says neither `permission` nor `unauthenticated: true`",
    ),
    "unauthenticated: false": (
        service("rpc Find(Query) returns (Answer) {  // here\noption (interlock.v1.method).unauthenticated = false; }"),
        "says neither `permission` nor `unauthenticated: true`",
    ),
    "permission syntax": (method('permission = "Orders"', access=""), "'Orders' is no permission"),
    "KEYED on GET": (
        rpc(
            'option (interlock.v1.method).idempotency = KEYED;  // here\noption (google.api.http) = { get: "/v1" };',
        ),
        "it is a GET, which needs no key",
    ),
    "KEYED on a stream": (method("idempotency = KEYED", reply="stream Answer"), "a stream's answer is not stored"),
    "KEYED without side effects": (
        rpc("option (interlock.v1.method).idempotency = KEYED;  // here\noption idempotency_level = NO_SIDE_EFFECTS;"),
        "but also NO_SIDE_EFFECTS",
    ),
    "timeout of 0": (method("timeout = {}"), "a timeout of 0 s cannot be"),
    "timeout below 0": (method("timeout = { seconds: -1 }"), "a timeout of -1 s cannot be"),
    "timeout above an hour": (method("timeout = { seconds: 3601 }"), "a timeout of 3601 s cannot be"),
    "limit of 0": (method("rate_limit = { per: { seconds: 1 } }"), "0 requests lets nobody through"),
    "limit without time": (method("rate_limit = { requests: 1 }"), "says no time above 0"),
    "reason syntax": (method('errors = "outOfStock"'), "'outOfStock' is no error reason"),
    "example that is no JSON": (method('examples = { name: "x" request: "{" }'), "example 'x' is no Query"),
    "example of another message": (method('examples = { request: "{\\"no\\": 1}" }'), "is no Query"),
    "example without a request": (method('examples = { name: "x" }'), "is no Query: it is empty"),
    "example's reply": (
        method('examples = { request: "{}" reply: "{\\"id\\": 1}" }'),
        "the reply of example '' is no Answer",
    ),
    "example nested too deep": (
        method(f'examples = {{ request: "{"[" * 20_000}" }}'),
        "nested more than 100 deep",
    ),
    "deprecation without a date": (deprecated('successor: "FindV2"'), "deprecated without a date"),
    "deprecation with no date": (deprecated('successor: "FindV2" since: "soon"'), "`since: 'soon'` is no date"),
    "deprecation on no day": (deprecated('successor: "F" sunset: "2026-02-30"'), "`sunset: '2026-02-30'` is no date"),
    "deprecation backwards": (
        deprecated('successor: "F" since: "2026-02-03" sunset: "2026-02-02"'),
        "its sunset lies before",
    ),
    "deprecation without successor": (deprecated('since: "2026-01-31"'), "deprecated without a successor"),
    "success ratio above 1": (method("objectives = { success_ratio: 99.9 }"), "a success_ratio of 99.9 cannot be"),
    "success ratio below 0": (method("objectives = { success_ratio: -1 }"), "a success_ratio of -1 cannot be"),
    "latency of 0": (method("objectives = { latency_p95: {} }"), "its latency_p95 is not above 0"),
    "objectives of a service": (
        service("", options="option (interlock.v1.service).objectives = { success_ratio: 2 };  // here"),
        "Things: a success_ratio of 2 cannot be",
    ),
    "event type syntax": (event('type: "OrderCreated" key: "id"'), "'OrderCreated' is no event type"),
    "event without a key": (event('type: "a.made"'), "has no key"),
    "event with a key that is no field": (event('type: "a.made" key: "idd"'), "none of its fields; did you mean 'id'"),
    "event keyed by a message": (event('type: "a.made" key: "i"', "Inner i = 1;"), "holds no single text or number"),
    "event keyed by a list": (event('type: "a.made" key: "i"', "repeated string i = 1;"), "holds no single text"),
    "event deprecated wrongly": (event('type: "a.made" key: "id" deprecation: {}'), "deprecated without"),
    "one event type twice": (
        event('type: "a.made" key: "id"').replace("Made", "A").replace("// here", "")
        + event('type: "a.made" key: "id"').replace("Made", "B"),
        "B and A (t/v1/t.proto:",
    ),
    "publishes nothing known": (
        service("", options='option (interlock.v1.service).publishes = "a.made";  // here'),
        "Things publishes 'a.made', but no message is that event",
    ),
    "subscribes to no event type": (
        service("", options='option (interlock.v1.service).subscribes = "Made";  // here'),
        "subscribes to 'Made', which is no event type",
    ),
    "one Python name twice": (
        service(
            f"rpc GetOrder(Query) returns (Answer) {{ {OPEN} }}\n"
            f"rpc Get_order(Query) returns (Answer) {{ {OPEN} }}  // here"
        ),
        "Things.Get_order and Things.GetOrder are both `get_order` in Python",
    ),
    "a keyword": (service(f"rpc Import(Query) returns (Answer) {{ {OPEN} }}  // here"), "which is a keyword there"),
    "a client's own method": (
        service(f"rpc Close(Query) returns (Answer) {{ {OPEN} }}  // here"),
        "which every client has already",
    ),
    "a consumer's name": (
        service(
            f"rpc OnOrderMade(Query) returns (Answer) {{ {OPEN} }}  // here",
            options='option (interlock.v1.service).subscribes = "order.made";',
        ),
        "as is the handler of the event 'order.made'",
    ),
    "filterable list": (
        "message L {\nrepeated string tags = 1 [(interlock.v1.field).filterable = true];  // here\n}",
        "L.tags is filterable, but it is repeated",
    ),
    "sortable map": (
        "message L {\nmap<string, string> m = 1 [(interlock.v1.field).sortable = true];  // here\n}",
        "L.m is sortable, but it is a map",
    ),
    "sortable message, nested": (
        "message L {\nmessage M {\nInner inner = 1 [(interlock.v1.field).sortable = true];  // here\n}\n}",
        "M.inner is sortable, but it is a message (Inner)",
    ),
    "attribute of traces with a wrong name": (
        'message L {\nstring m = 1 [(interlock.v1.field).trace_attribute = "Order Id"];  // here\n}',
        "L.m is shown in traces as 'Order Id', which is no attribute's name",
    ),
    "attribute of traces that is sensitive": (
        'message L {\nstring m = 1 [(interlock.v1.field) = {sensitive: true trace_attribute: "a"}];  // here\n}',
        "L.m is sensitive, and shown in traces",
    ),
    "attribute of traces that is a message": (
        'message L {\nmessage M {}\nM m = 1 [(interlock.v1.field).trace_attribute = "a"];  // here\n}',
        "L.m is shown in traces, but it is a message (M)",
    ),
    "what the compiler finds": (
        "message L {\nNowhere n = 1;  // here\n}",
        "cannot find `Nowhere` in this scope",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_remedy(name: str, tmp_path: Path) -> None:
    """Each mistake is found once or more, at its own line, and nothing else is found."""
    text, expected = MISTAKES[name]
    with pytest.raises(ContractError) as caught:
        load(image_of(tmp_path, text))
    lines = (HEADER + text).splitlines()
    line = next(number for number, each in enumerate(lines, 1) if "// here" in each)
    assert expected in str(caught.value)
    assert {str(each.source) for each in caught.value.mistakes} == {f"t/v1/t.proto:{line}"}
    assert all(each.remedy or name == "what the compiler finds" for each in caught.value.mistakes)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Mistakes of several kinds come in the order of their lines, a line of text each."""
    text = service(
        'rpc A(Query) returns (Answer) { option (google.api.http) = { get: "v1" }; }\n'
        "rpc B(Query) returns (Answer) { option (interlock.v1.method) = { permission: 'X' timeout: {} }; }\n"
    ) + event('type: "X"')
    with pytest.raises(ContractError) as caught:
        load(image_of(tmp_path, text))
    sources = [each.source.line for each in caught.value.mistakes]
    assert len(sources) == 6
    assert sources == sorted(sources)
    assert len(str(caught.value).splitlines()) == 6


ALLOWED = {
    "a literal beside a variable": two('get: "/v1/{id}"', 'get: "/v1/all"').replace("// here", ""),
    "one path with two verbs": two('get: "/v1/{id}"', 'delete: "/v1/{id}"').replace("// here", ""),
    "a variable in a message": route('get: "/v1/{inner.id}"'),
    "an enum in the path": route('get: "/v1/{color}"'),
    "all fields in the path and a body": rpc(
        'option (google.api.http) = { post: "/v1/{id}" body: "*" };', request="Inner"
    ),
    "a server stream on HTTP": rpc('option (google.api.http) = { get: "/v1" };', reply="stream Answer"),
    "SAFE on a POST": rpc(
        'option (interlock.v1.method).idempotency = SAFE; option (google.api.http) = { post: "/v1" };'
    ),
    "subscribing to what is declared elsewhere": service(
        "", options='option (interlock.v1.service) = { subscribes: "a.made" calls: "b.v1.Service" };'
    ),
    "sorting by a timestamp": "message L { google.protobuf.Timestamp at = 1 [(interlock.v1.field).sortable = true]; }",
    "a timeout of an hour": method("timeout = { seconds: 3600 }"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_is_no_mistake(name: str, tmp_path: Path) -> None:
    """Neighbours of the mistakes load without one."""
    load(image_of(tmp_path, ALLOWED[name]))
