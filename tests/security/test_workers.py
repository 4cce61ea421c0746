"""API keys across worker processes: a rotation refuses no good call, a revocation is in force in all of them."""

import asyncio
import time
from pathlib import Path

import httpx2

from interlock.security.account_file import AccountFile
from interlock.security.api_keys import create_account, create_key
from tests.server.processes import serving_process

MAKE = "tests.server.apps:make"


async def test_keys_rotate_in_all_workers(tmp_path: Path) -> None:
    """Old and new key count side by side under load; five seconds after its revocation no worker takes the old one."""
    store = AccountFile(tmp_path / "accounts.json")
    await create_account(store, "billing", ["whisperer"])
    kept, old = await create_key(store, "billing")
    (tmp_path / "roles.yaml").write_text("roles: {whisperer: ['sample:whisper']}\n")
    variables = {"accounts": str(tmp_path / "accounts.json"), "roles": str(tmp_path / "roles.yaml"), "workers": "2"}
    with serving_process(tmp_path, MAKE, **variables) as process:
        await process.ready()

        async def status(key: str) -> int:
            async with httpx2.AsyncClient(base_url=process.url, timeout=20) as http:  # any worker
                return (await http.post("/v1/whisper", json={"text": "x"}, headers={"x-api-key": key})).status_code

        assert {await status(old) for _ in range(10)} == {200}
        _, fresh = await create_key(store, "billing")
        assert {await status(each) for _ in range(10) for each in (old, fresh)} == {200}
        await store.revoke(kept.id, time.time())
        in_force = asyncio.get_running_loop().time() + 5
        while asyncio.get_running_loop().time() < in_force:
            assert await status(fresh) == 200
            await asyncio.sleep(0.1)
        assert {await status(old) for _ in range(10)} == {401}
        assert {await status(fresh) for _ in range(10)} == {200}
