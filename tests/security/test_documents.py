"""What the documents tell of security: where tokens are given, and nothing of what travels inside."""

import json
from pathlib import Path
from typing import Any

import httpx2

from interlock.platform import gateway
from interlock.security.account_file import AccountFile
from interlock.security.api_keys import create_account, create_key
from interlock.security.keys import KeySet
from interlock.server import serving
from interlock.settings import Settings
from shop.gen.api.order.v1.order_rpc import OrderServiceClient
from tests.sample.handlers import make


async def test_the_token_endpoint_is_described_as_it_answers(tmp_path: Path, directory: Path, keys: KeySet) -> None:
    """In OpenAPI where it is switched on, and only there; each answer has a status and members that stand there."""
    assert keys.kid
    store = AccountFile(tmp_path / "accounts.json")
    await create_account(store, "billing", ["whisperer"])
    _, key = await create_key(store, "billing")
    accounts = str(tmp_path / "accounts.json")
    assert (
        "/oauth/token" not in json.loads(make(settings=Settings(keys=directory, accounts=accounts)).openapi())["paths"]
    )
    app = make(settings=Settings(keys=directory, accounts=accounts, token_endpoint=True))
    described = json.loads(app.openapi())["paths"]["/oauth/token"]["post"]
    body = {"grant_type": "client_credentials", "client_id": "billing", "client_secret": key}
    async with serving(app) as address, httpx2.AsyncClient(base_url=address.url) as client:
        sent: list[dict[str, Any]] = [
            {"json": body},
            {"data": body},
            {"json": body | {"client_secret": "x"}},
            {"json": {}},
        ]
        for each in sent:
            answer = await client.post("/oauth/token", **each)
            told = described["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
            assert set(answer.json()) == set(told["properties"])
            assert set(told["required"]) <= set(answer.json())
    assert set(described["requestBody"]["content"]) == {"application/json", "application/x-www-form-urlencoded"}


async def test_a_gateway_tells_of_no_events(tmp_path: Path) -> None:
    """They travel inside: neither their names nor their messages are for who calls a gateway."""
    app = gateway(OrderServiceClient("127.0.0.1:1"), settings=Settings(keys=tmp_path))
    told = json.loads(app.asyncapi())
    assert (told["channels"], told["operations"], told["components"]["messages"]) == ({}, {}, {})
    assert "order.created" not in app.asyncapi().decode() + app.openapi().decode()
