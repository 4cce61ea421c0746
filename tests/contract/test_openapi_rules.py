"""What the document says of rules, forms and facts, contract by contract."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interlock.contract.load import load
from interlock.contract.openapi import Credentials, openapi
from tests.contract.protos import image_of, service
from tests.protocols.orders import contract

RULE = "(buf.validate.field)"


def document(tmp_path: Path, message: str, rpc: str = "", options: str = "unauthenticated: true") -> Any:
    """Return the document of one RPC that takes `message`."""
    route = rpc or 'option (google.api.http) = { post: "/v1/things" body: "*" };'
    body = f"rpc Find(Asked) returns (Answer) {{ option (interlock.v1.method) = {{ {options} }}; {route} }}"
    return openapi(load(image_of(tmp_path, f"message Asked {{ {message} }}\n{service(body)}")))


def asked(tmp_path: Path, message: str) -> Any:
    return document(tmp_path, message)["components"]["schemas"]["Asked"]


DEMANDED: list[tuple[str, Any]] = [
    (f'string a = 1 [{RULE}.string = {{ min_len: 2 max_len: 5 }}];',
     {"type": "string", "minLength": 2, "maxLength": 5}),
    (f"string a = 1 [{RULE}.string.email = true];", {"type": "string", "format": "email"}),
    (f'string a = 1 [{RULE}.string.pattern = "^[a-z]+$"];', {"type": "string", "pattern": "^[a-z]+$"}),
    (f'string a = 1 [{RULE}.string = {{ prefix: "a.b" suffix: "c" }}];',
     {"type": "string", "pattern": r"^a\.b", "allOf": [{"pattern": "c$"}]}),
    (f'string a = 1 [{RULE}.string.in = "x"];', {"type": "string", "enum": ["x"]}),
    (f"int32 a = 1 [{RULE}.int32 = {{ gt: 0 lt: 10 }}];",
     {"type": ["integer", "string"], "format": "int32", "minimum": 1, "maximum": 9, "pattern": "^[1-9]$"}),
    (f"int64 a = 1 [{RULE}.int64 = {{ in: [3, 5] }}];", {"enum": [3, "3", 5, "5"], "format": "int64"}),
    (f"double a = 1 [{RULE}.double = {{ gt: 1 lte: 2 }}];",
     {"type": "number", "format": "double", "exclusiveMinimum": 1.0, "maximum": 2.0}),
    (f"bool a = 1 [{RULE}.bool.const = true];", {"type": "boolean", "const": True}),
    (f"repeated string a = 1 [{RULE}.repeated = {{ min_items: 1 unique: true }}];",
     {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}),
    (f"repeated string a = 1 [{RULE}.repeated = {{ min_items: 1 items: {{ string: {{ min_len: 1 }} }} }}];",
     {"items": {"type": "string", "minLength": 1}}),
    (f"map<string, int32> a = 1 [{RULE}.map = {{ min_pairs: 1 keys: {{ string: {{ max_len: 3 }} }} }}];",
     {"minProperties": 1, "propertyNames": {"maxLength": 3}}),
    (f"Color a = 1 [{RULE}.enum = {{ not_in: [0] }}];", {"enum": ["COLOR_RED", 1]}),
    (f"string a = 1 [{RULE}.required = true];", {"type": "string"}),
    (f"Inner a = 1 [{RULE}.required = true];", {"$ref": "#/components/schemas/InnerInput"}),
]  # fmt: skip
FREE = [
    f"string a = 1 [{RULE}.string.max_len = 5];", f"int32 a = 1 [{RULE}.int32.gte = 0];",
    f"optional string a = 1 [{RULE}.string.min_len = 2];", "Inner a = 1;", "repeated string a = 1;",
    f"string a = 1 [{RULE}.string.min_len = 2, {RULE}.ignore = IGNORE_ALWAYS];",
]  # fmt: skip
FIELDS = [*(field for field, _ in DEMANDED), *FREE]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The schemas of one contract with a message `Asked<n>` for each of FIELDS."""
    messages = "\n".join(f"message Asked{index} {{ {field} }}" for index, field in enumerate(FIELDS))
    rpcs = "\n".join(
        f"rpc Find{index}(Asked{index}) returns (Answer) {{ option (interlock.v1.method) = {{ unauthenticated: true }};"
        f'option (google.api.http) = {{ post: "/v1/things{index}" body: "*" }}; }}'
        for index in range(len(FIELDS))
    )
    image = image_of(tmp_path_factory.mktemp("contract"), f"{messages}\n{service(rpcs)}")
    return openapi(load(image))["components"]["schemas"]


@pytest.mark.parametrize("field, schema", DEMANDED)
def test_a_rule_that_forbids_the_empty_value_demands_the_field(schemas: Any, field: str, schema: Any) -> None:
    """What JSON Schema can say it says, and a field whose zero value breaks a rule is required and never null."""
    found = schemas[f"Asked{FIELDS.index(field)}"]
    assert found["required"] == ["a"]
    said = found["properties"]["a"]
    assert {name: said.get(name) for name in schema} == schema


@pytest.mark.parametrize("field", FREE)
def test_a_field_that_may_be_left_out_may_be_null(schemas: Any, field: str) -> None:
    """As proto JSON has it: null is the same as nothing."""
    found = schemas[f"Asked{FIELDS.index(field)}"]
    assert "required" not in found
    said = found["properties"]["a"]
    assert "null" in said.get("type", ()) or {"type": "null"} in said.get("anyOf", ())


def test_what_has_no_keyword_is_told_with_its_message(tmp_path: Path) -> None:
    """CEL with id, message and expression; other rules by name and value; RE2 alone is not passed off as ECMA-262."""
    found = asked(
        tmp_path,
        'option (buf.validate.message).cel = { id: "whole" message: "no" expression: "this.a != this.b" };'
        f'string a = 1 [{RULE}.cel = {{ id: "own" message: "not so" expression: "this != \'x\'" }}];'
        f'string b = 2 [{RULE}.string = {{ pattern: "(?i)abc" max_bytes: 9 }}];'
        f"google.protobuf.Timestamp c = 3 [{RULE}.timestamp.lt_now = true];",
    )
    assert found["x-interlock-rules"] == [{"id": "whole", "message": "no", "expression": "this.a != this.b"}]
    fields = found["properties"]
    assert fields["a"]["x-interlock-rules"] == [{"id": "own", "message": "not so", "expression": "this != 'x'"}]
    assert {each["id"]: each["value"] for each in fields["b"]["x-interlock-rules"]} == {
        "string.pattern": "(?i)abc", "string.max_bytes": 9
    }  # fmt: skip
    assert "pattern" not in fields["b"]
    assert fields["c"]["x-interlock-rules"] == [{"id": "timestamp.lt_now", "value": True}]


def test_a_oneof_that_is_demanded_is_one_of_its_members(tmp_path: Path) -> None:
    """Exactly one of them; of a free one at most one, which is said in words."""
    found = asked(
        tmp_path,
        "oneof way { option (buf.validate.oneof).required = true; string a = 1; Inner b = 2; }oneof x { int32 c = 3; }",
    )
    assert found["oneOf"] == [{"required": ["a"]}, {"required": ["b"]}]
    assert found["properties"]["a"] == {"type": "string"}
    assert "One of a, b." in found["description"]


def test_a_patch_demands_nothing_and_a_put_all() -> None:
    """PATCH has a form of its own, also as merge patch; what the path gives is no part of either body."""
    item = openapi(contract())["paths"]["/api/v1/orders/{order_id}"]
    patch = item["patch"]["requestBody"]["content"]
    assert set(patch) == {"application/json", "application/merge-patch+json"}
    schema = patch["application/json"]["schema"]
    assert "required" not in schema
    assert "id" not in schema["properties"]
    assert schema["properties"]["shipping_address"]["anyOf"][0] == {"$ref": "#/components/schemas/AddressPatch"}
    assert "application/merge-patch+json" not in item["put"]["requestBody"]["content"]


def test_the_facts_of_an_operation_stand_beside_it(tmp_path: Path) -> None:
    """Permission, limits, idempotency, reasons and deprecation, for programs; headers and errors that follow."""
    options = (
        'permission: "things:find" idempotency: KEYED timeout: { seconds: 3 } errors: "GONE" exposure: EXTERNAL '
        "rate_limit: { requests: 5 per: { seconds: 10 } } deprecation: "
        '{ since: "2026-01-01" sunset: "2027-01-01" successor: "Seek" }'
    )
    made = document(tmp_path, "string a = 1;", options=options)
    found = made["paths"]["/v1/things"]["post"]
    facts = {name.removeprefix("x-interlock-"): value for name, value in found.items() if name.startswith("x-")}
    assert facts == {
        "rpc": "/t.v1.Things/Find", "permission": "things:find", "external": True, "tier": "STANDARD",
        "idempotency": "KEYED", "timeout": 3.0, "rate-limit": {"requests": 5, "seconds": 10.0}, "reasons": ["GONE"],
        "deprecation": {"since": "2026-01-01", "sunset": "2027-01-01", "successor": "Seek"},
    }  # fmt: skip
    assert found["deprecated"] is True
    assert [each["name"] for each in found["parameters"]] == ["Idempotency-Key", "Prefer"]
    assert {"RateLimit", "Deprecation", "Sunset", "Link", "Idempotency-Replayed"} <= set(
        found["responses"]["200"]["headers"]
    )
    assert {"400", "401", "403", "404", "409", "413", "415", "422", "429", "500", "503", "504"} <= set(
        found["responses"]
    )
    codes = made["components"]["responses"]["KeyReused"]["content"]["application/json"]["schema"]["allOf"][1]
    assert codes == {"properties": {"error": {"properties": {"code": {"enum": ["KEY_REUSED"]}}}}}


def test_etags_become_preconditions() -> None:
    """A resource with an etag is read with If-None-Match and 304, changed with If-Match and 412."""
    item = openapi(contract())["paths"]["/api/v1/orders/{order_id}"]
    assert "If-None-Match" in [each["name"] for each in item["get"]["parameters"]]
    assert "ETag" in item["get"]["responses"]["304"]["headers"]
    assert "If-Match" in [each["name"] for each in item["patch"]["parameters"]]
    assert "412" in item["patch"]["responses"]
    assert "412" not in item["get"]["responses"]


def test_a_stream_is_lines_or_events() -> None:
    """Both media types, each the text of all messages with the schema of one."""
    watch = openapi(contract())["paths"]["/api/v1/orders:watch"]["get"]
    content = watch["responses"]["200"]["content"]
    assert set(content) == {"application/x-ndjson", "text/event-stream"}
    for each in content.values():
        one = each["schema"]["contentSchema"]
        assert one["properties"]["data"] == {"$ref": "#/components/schemas/Order"}


def test_credentials_are_what_the_doors_take() -> None:
    """Bearer always; API keys, OAuth 2.0 and certificates where the settings have them."""
    assert set(openapi(contract())["components"]["securitySchemes"]) == {"bearer"}
    made = openapi(contract(), credentials=Credentials(api_keys=True, token_url="/oauth/token", certificates=True))
    schemes = made["components"]["securitySchemes"]
    assert schemes["apiKey"]["name"] == "X-API-Key"
    assert schemes["mutualTLS"]["type"] == "mutualTLS"
    flow = schemes["oauth2"]["flows"]["clientCredentials"]
    assert flow == {"tokenUrl": "/oauth/token", "scopes": {}}
    assert made["paths"]["/oauth/token"]["post"]["security"] == [{"client": []}, {}]
    assert schemes["client"]["scheme"] == "basic"
    assert made["security"][0] == {"mutualTLS": []}
    assert {"bearer": [], "mutualTLS": []} in made["security"]


def test_services_of_one_short_name_keep_apart(tmp_path: Path) -> None:
    """Tags and operationIds take the full name where the short one would say two things."""
    rpc = (
        "rpc Find(Query) returns (Answer) { option (interlock.v1.method) = { unauthenticated: true };"
        'option (google.api.http) = { get: "/v1/%s" }; }'
    )
    one = load(image_of(tmp_path / "a", service(rpc % "a"))).services[0]
    other = load(image_of(tmp_path / "b", service(rpc % "b"))).services[0]
    renamed = replace(other, name="u.v1.Things")
    made = openapi([one, renamed])
    assert [each["name"] for each in made["tags"]] == ["t_v1_Things", "u_v1_Things"]
    assert made["paths"]["/v1/b"]["get"]["operationId"] == "u_v1_Things_Find"
