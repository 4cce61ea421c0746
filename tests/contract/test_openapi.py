"""The OpenAPI document: valid, complete, and the same each time."""

from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from interlock.contract.load import load
from interlock.contract.openapi import openapi, openapi_json
from tests.protocols.orders import Orders, contract, message


@pytest.fixture(scope="module")
def document() -> Any:
    return openapi(contract())


def test_the_document_is_valid(document: Any) -> None:
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {
        "title": "OrderService", "version": "1.0", "description": "Manages orders.\n\nMore about it."
    }  # fmt: skip


def test_the_bytes_are_the_same_each_time() -> None:
    assert openapi_json(contract()) == openapi_json(load(contract().image))
    assert openapi_json(contract().services, images=[contract().image]) == openapi_json(contract())


def test_every_binding_is_there_once(document: Any) -> None:
    found = {(verb, path) for path, item in document["paths"].items() for verb in item}
    assert len(found) == sum(len(each.http) for each in contract().operations.values())
    assert ("patch", "/api/v1/orders/{order_id}") in found  # `{order.id}` is the same path to OpenAPI
    assert ("get", "/api/v1/{string_value}/books/{int64_value}") in found
    ids = [each["operationId"] for item in document["paths"].values() for each in item.values()]
    assert len(ids) == len(set(ids))


def test_an_operation_tells_what_it_takes_and_gives(document: Any) -> None:
    get = document["paths"]["/api/v1/orders"]["get"]
    assert (get["summary"], get["tags"]) == ("Lists orders.", ["OrderService"])
    assert [each["name"] for each in get["parameters"]] == ["page_size", "page_token", "filter", "order_by"]
    data = get["responses"]["200"]["content"]["application/json"]["schema"]["properties"]
    assert data["data"]["items"] == {"$ref": "#/components/schemas/Order"}
    assert set(data["meta"]["allOf"][1]["properties"]) == {"next_page_token", "total_size"}
    create = document["paths"]["/api/v1/orders"]["post"]
    assert "Location" in create["responses"]["201"]["headers"]
    assert {"400", "401", "403", "413", "415", "default"} <= set(create["responses"])
    assert document["paths"]["/api/v1/orders/{order_id}"]["delete"]["responses"]["204"].get("content") is None


def test_security_follows_the_contract(document: Any) -> None:
    assert document["security"] == [{"bearer": []}]
    assert document["paths"]["/api/v1/orders/{order_id}:cancel"]["post"]["security"] == []
    assert "security" not in document["paths"]["/api/v1/orders"]["get"]


def test_deprecation_is_told(document: Any) -> None:
    label = document["paths"]["/api/v1/orders/{order_id}/labels"]["put"]
    assert label["deprecated"]
    assert "2027-01-01" in label["description"]


def test_schemas_tell_types_rules_and_who_sets_what(document: Any) -> None:
    schemas = document["components"]["schemas"]
    order = schemas["Order"]
    assert (order["description"], order["properties"]["id"]["description"]) == ("One order.", "Its id.")
    assert order["properties"]["status"] == {"$ref": "#/components/schemas/Status", "readOnly": True}
    assert {"id", "status", "items", "labels"} <= set(order["required"])  # always there in a reply
    assert not {"created_at", "note"} & set(order["required"])
    assert order["properties"]["created_at"] == {"type": "string", "format": "date-time", "readOnly": True}
    create = schemas["CreateOrderRequest"]
    assert create["required"] == ["customer_id", "items"]  # the rule of `items` refuses an empty list
    assert create["additionalProperties"] is False
    assert create["properties"]["items"] == {
        "type": "array", "items": {"$ref": "#/components/schemas/ItemInput"}, "minItems": 1, "maxItems": 50
    }  # fmt: skip
    item = schemas["ItemInput"]
    assert item["properties"]["sku"] == {"type": "string", "minLength": 1, "maxLength": 20, "pattern": "^[a-z]+$"}
    assert item["properties"]["quantity"] == {
        "type": ["integer", "string"], "format": "int32", "minimum": 1, "maximum": 100, "pattern": "^[1-9][0-9]{0,1}$"
    }  # fmt: skip
    assert item["properties"]["price"] == {"anyOf": [{"$ref": "#/components/schemas/MoneyInput"}, {"type": "null"}]}
    assert schemas["Item"]["properties"]["quantity"] == {"type": "integer", "format": "int32"}
    kitchen = schemas["Kitchen"]
    assert kitchen["properties"]["nested"] == {"$ref": "#/components/schemas/Kitchen"}
    assert kitchen["properties"]["by_id"]["propertyNames"] == {"pattern": "^-?[0-9]{1,9}$"}
    assert "At most one of red, blue, paid." in kitchen["description"]


async def test_a_real_reply_fits_its_schema(document: Any) -> None:
    order, money = message("Order"), message("Money")
    full = order(id="a", total_amount=money(units=2), labels={"a": "b"}, note="n")
    page = message("ListOrdersResponse")(orders=[full], next_page_token="t")
    answer = await Orders(page).ask("GET", "/api/v1/orders")
    reply = document["paths"]["/api/v1/orders"]["get"]["responses"]["200"]
    schema = reply["content"]["application/json"]["schema"] | {"components": document["components"]}
    OAS31Validator(schema).validate(answer.json)
    failed = await Orders().ask("GET", "/api/v1/orders?nope=1")
    error = {"$ref": "#/components/schemas/ErrorReply", "components": document["components"]}
    OAS31Validator(error).validate(failed.json)
