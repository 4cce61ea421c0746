"""API keys at the shop's gateway: what a caller without a token may, and who the services behind see."""

import logging
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from interlock.security.account_file import AccountFile
from interlock.security.api_keys import create_account, create_key
from interlock.testing import Keyring, Surroundings, platform_running
from shop.platform import platform
from tests.shop.buying import BODY

PERSON = {"name": "Ada", "email": "ada@b.example"}


async def test_a_key_may_what_its_roles_permit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The gateway judges the account's roles, and names the account to the services, which see who acts for it."""
    store, place = AccountFile(tmp_path / "accounts.json"), tmp_path / "accounts.json"
    keys = {}
    for role in ("customer", "operator"):
        await create_account(store, f"a-{role}", [role])
        _, keys[role] = await create_key(store, f"a-{role}")
    surroundings = Surroundings(directory=tmp_path, keys=Keyring(tmp_path / "keys"))
    caplog.set_level(logging.INFO, "interlock.audit")
    async with (
        platform_running(platform, surroundings, accounts=place, log_level="error") as shop,
        httpx2.AsyncClient(base_url=shop.running.gateway.url, timeout=30) as http,
    ):

        async def post(role: str, path: str, body: object) -> int:
            headers = {"x-api-key": keys[role], "idempotency-key": str(uuid4())}
            return (await http.post(path, json=body, headers=headers)).status_code

        assert await post("customer", "/api/v1/orders", BODY) == 201
        assert await post("customer", "/api/v1/customers", PERSON) == 403
        assert await post("operator", "/api/v1/customers", PERSON) == 201
        behind = await http.get("/api/v1/orders", headers={"x-api-key": keys["customer"], "x-principal": "root"})
        assert behind.status_code == 200
    told = [record.__dict__ for record in caplog.records if record.__dict__.get("audit") == "privileged"]
    seen = [(each["principal"], each["issuer"], each.get("actors")) for each in told]
    assert seen == [("a-operator", "api-key", None), ("a-operator", "api-key", ["gateway"])]
