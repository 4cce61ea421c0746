import json
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import jsonschema  # type: ignore[import-untyped]  # published without types
import pytest

from interlock import App
from interlock.contract.asyncapi import asyncapi, asyncapi_json
from interlock.contract.load import load
from interlock.server import serving
from shop.gen.api.order.v1 import order_rpc
from shop.gen.api.payment.v1 import payment_rpc
from tests.npm import NotInstalled, installed
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_SERVICE
from tests.sample.handlers import Sample

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = SAMPLE_SERVICE.image.contract
SHOP = order_rpc.ORDER_SERVICE.image.contract
PARSER = "@asyncapi/parser@3.6.3"
CHECK = """
import {Parser} from '@asyncapi/parser';
import {readFileSync} from 'node:fs';
const found = [];
for (const path of process.argv.slice(2)) {
  const {document, diagnostics} = await new Parser().parse(readFileSync(path, 'utf8'));
  const wrong = diagnostics.filter(each => each.severity <= 1);
  found.push({wrong, operations: document?.operations().all().map(each => each.id()) ?? null});
}
console.log(JSON.stringify(found));
"""


def resolve(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [each for item in value.values() for each in references(item)]
    return [each for item in value for each in references(item)] if isinstance(value, list) else []


def test_each_event_is_a_channel_with_its_senders_and_receivers() -> None:
    """Channels are the event types; operations say who publishes and who consumes them."""
    document = asyncapi(SHOP)
    services = {each.short_name: each for each in SHOP.services}
    assert set(document["channels"]) == {each.type for each in SHOP.events}
    wanted = {
        f"{name}.{action}.{type_}"
        for name, service in services.items()
        for action, types in (("send", service.publishes), ("receive", service.subscribes))
        for type_ in types
    }
    assert set(document["operations"]) == wanted
    sent = document["operations"]["OrderService.send.order.created"]
    assert sent["action"] == "send"
    assert sent["channel"] == {"$ref": "#/channels/order.created"}
    assert sent["messages"] == [{"$ref": "#/channels/order.created/messages/OrderCreated"}]


def test_a_message_has_the_contracts_names_and_cloudevents_attributes() -> None:
    """The payload is the message's JSON form in snake_case; the headers are the CloudEvents attributes."""
    document = asyncapi(SHOP)
    message = document["components"]["messages"]["OrderCreated"]
    payload = resolve(document, message["payload"]["$ref"])
    event = next(each for each in SHOP.events if each.type == "order.created")
    assert list(payload["properties"]) == [each.name for each in event.message_type.desc().fields]
    assert message["x-partition-key"] == event.key
    headers = resolve(document, message["traits"][0]["$ref"])["headers"]
    assert {"id", "source", "type", "partitionkey", "traceparent"} <= set(headers["properties"])


def test_every_reference_leads_somewhere() -> None:
    """No $ref of either document dangles, and every schema is one."""
    for contract in (SAMPLE, SHOP):
        document = asyncapi(contract, broker="nats://user:secret@broker:4222")
        for each in references(document):
            assert resolve(document, each) is not None
        for schema in document["components"]["schemas"].values():
            jsonschema.Draft7Validator.check_schema(schema)


def test_it_is_the_same_bytes_each_time() -> None:
    """Two readings of the contract give one document."""
    again = load(SHOP.image)
    assert asyncapi_json(SHOP) == asyncapi_json(again) == asyncapi_json(SHOP)


def test_the_server_is_told_without_its_password() -> None:
    """A broker with an address is a server of the document; one on a file is none."""
    assert asyncapi(SHOP, broker="amqp://user:secret@broker:5672/shop")["servers"] == {
        "broker": {"host": "broker:5672", "protocol": "amqp", "pathname": "/shop"}
    }
    assert "servers" not in asyncapi(SHOP, broker="embedded:var/broker.db")


def test_one_service_tells_of_its_own_events() -> None:
    """Chosen services have a document of what they send and receive, and nothing else."""
    service = SHOP.service(payment_rpc.PAYMENT_SERVICE.name)
    document = asyncapi(SHOP, services=[service])
    assert set(document["channels"]) == {*service.publishes, *service.subscribes}
    assert {each.partition(".")[0] for each in document["operations"]} == {"PaymentService"}


async def test_an_app_serves_it() -> None:
    """`/asyncapi.json` is the document of the app's own services, to GET and HEAD."""
    app = App(Sample())
    async with serving(app) as address, httpx2.AsyncClient(base_url=address.url) as http:
        answer = await http.get("/asyncapi.json")
        head = await http.head("/asyncapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.content == app.asyncapi()
    assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))
    assert answer.json()["operations"].keys() == {"SampleService.send.echo.made"}


@pytest.mark.timeout(300)
def test_the_parser_of_asyncapi_finds_no_mistake(tmp_path: Path) -> None:
    """The reference parser takes the documents of sample and shop without an error or a warning."""
    try:
        modules = installed("asyncapi", PARSER)
    except NotInstalled as reason:
        pytest.skip(f"NOT PARSED, the AsyncAPI documents: {reason}")
    program = modules / "check.mjs"
    program.write_text(CHECK)
    paths = [tmp_path / "sample.json", tmp_path / "shop.json"]
    for path, contract in zip(paths, (SAMPLE, SHOP), strict=True):
        path.write_bytes(asyncapi_json(contract, broker="nats://localhost:4222"))
    ran = subprocess.run(["node", program, *paths], capture_output=True, text=True, check=True, timeout=120)
    for found, contract in zip(json.loads(ran.stdout), (SAMPLE, SHOP), strict=True):
        assert found["wrong"] == []
        assert set(found["operations"]) == set(asyncapi(contract)["operations"])
