"""Credentials of every kind rotate while calls go on over every protocol, and not one good call is refused."""

import itertools
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from interlock import Call
from interlock.security.access import roles_from
from interlock.security.account_file import AccountFile
from interlock.security.api_keys import create_account, create_key
from interlock.security.jwks import VerifyingKeys, jwks_from
from interlock.security.keys import JWKS, new_keys, rotate_keys
from interlock.security.oauth2 import ClientCredentials
from interlock.security.secret import WatchedSecret, from_aws
from interlock.security.tokens import Issuer
from interlock.security.verifier import Verifier
from interlock.server import Address, serving
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import make
from tests.security.forging import Clock
from tests.security.load import calling, whispering
from tests.waiting import until

ROLES = roles_from({"whisperer": ["sample:whisper"]})
ROTATIONS = 3


def in_turn(name: str, values: list[str]) -> Mapping[str, str]:
    """Return a header with one of the values, another one each time."""
    return {name: values[next(_number) % len(values)]}


_number = itertools.count()


async def refused(address: Address, headers: Mapping[str, str]) -> bool:
    """Tell whether a call with those headers is refused."""
    async with httpx2.AsyncClient(base_url=address.url, timeout=30) as http:
        answer = await http.post("/v1/whisper", json={"text": "x"}, headers=dict(headers))
    assert answer.status_code in (200, 401)
    return answer.status_code == 401


async def test_keys_that_sign_tokens(tmp_path: Path) -> None:
    """Tokens of the new key count at once beside those of the former ones; of a withdrawn one they are refused."""
    clock, place = Clock(), tmp_path / "keys"
    issuers = [Issuer(keys=new_keys(place), now=clock)]
    verifier = Verifier(VerifyingKeys(jwks_from(place / JWKS), clock=clock), now=clock, clock=clock)
    shown = [f"Bearer {issuers[0].mint('orders', ['whisperer'])}"]

    def show() -> Mapping[str, str]:  # fresh tokens too, which no cache knows
        return in_turn("authorization", [*shown, f"Bearer {issuers[-1].mint(f's{next(_number)}', ['whisperer'])}"])

    async with (
        serving(make(verifier=verifier, roles=ROLES)) as address,
        whispering(address, show) as load,
    ):
        await load.more()
        for step in range(ROTATIONS):
            clock.at += 301 if step else 10  # a set that was renewed a moment ago does not know it either
            await load.more(2)
            issuers.append(Issuer(keys=rotate_keys(place, keep=4), now=clock))
            shown.append(f"Bearer {issuers[-1].mint('orders', ['whisperer'])}")
            await load.more()
        former = shown[0]
        del shown[:-1]
        await load.more(2)
        rotate_keys(place, keep=2)
        clock.at += 301
        await load.more(2)
        clock.at += 10
        await until(lambda: refused(address, {"authorization": former}), 30)


async def test_api_keys(tmp_path: Path) -> None:
    """A new key counts at once, and the old one until it is revoked: then no more within five seconds."""
    store = AccountFile(tmp_path / "accounts.json")
    await create_account(store, "billing", ["whisperer"])
    kept, key = await create_key(store, "billing")
    shown = [key]
    app = make(settings=Settings(accounts=str(tmp_path / "accounts.json"), keys=tmp_path / "keys"), roles=ROLES)
    async with serving(app) as address, whispering(address, lambda: in_turn("x-api-key", shown)) as load:
        for _ in range(ROTATIONS):
            await load.more()
            former, former_key = kept, shown[0]
            kept, key = await create_key(store, "billing")
            shown.append(key)
            await load.more()
            shown.remove(former_key)
            await load.more(2)  # no call with it is under way
            await store.revoke(former.id, time.time())
            revoked = time.monotonic()
            await until(lambda: refused(address, {"x-api-key": former_key}), 30)  # noqa: B023 - asked at once
            assert time.monotonic() - revoked < 10, "five seconds, and patience with a busy machine"


class KeyOfAws:
    """An API key that stands in AWS Secrets Manager, shown with each call."""

    def __init__(self, secret: WatchedSecret) -> None:
        self._secret = secret

    async def apply(self, call: Call) -> None:
        """Show it."""
        call.metadata.add("x-api-key", (await self._secret.get()).reveal())

    async def refresh(self) -> bool:
        """Have no other: a refused key is a refused call here."""
        return False


@pytest.mark.filterwarnings("default")  # moto's server and boto3 warn of themselves
async def test_secrets_of_aws(aws: Any, tmp_path: Path) -> None:
    """Calls show a key that AWS holds, or a token that was got for it: a new one is taken over, the old one revoked."""
    store = AccountFile(tmp_path / "accounts.json")
    await create_account(store, "billing", ["whisperer"])
    kept, key = await create_key(store, "billing")
    aws.create_secret(Name="shop/billing", SecretString=key)
    clock, often = Clock(time.time()), timedelta(seconds=0.2)
    source = from_aws("shop/billing", endpoint=aws.endpoint)
    watched, of_client = WatchedSecret(source, "a", every=often), WatchedSecret(source, "b", every=often)
    settings = Settings(
        accounts=str(tmp_path / "accounts.json"), keys=tmp_path / "keys", token_endpoint=True, service_name="orders"
    )
    new_keys(tmp_path / "keys")
    app = make(settings=settings, roles=ROLES)
    async with serving(app) as address:
        given = ClientCredentials(f"{address.url}/oauth/token", "billing", of_client, now=clock)
        async with (
            SampleServiceClient(str(address), credentials=KeyOfAws(watched)) as by_key,
            SampleServiceClient(address.url, credentials=given) as by_token,
        ):

            async def call(client: SampleServiceClient) -> str:
                return "OK" if (await client.whisper(text="OK")).text == "OK" else "another answer"

            async with calling({"key": lambda: call(by_key), "token": lambda: call(by_token)}) as load:
                for _ in range(ROTATIONS):
                    await load.more()
                    former, former_key = kept, key
                    kept, key = await create_key(store, "billing")
                    aws.put_secret_value(SecretId="shop/billing", SecretString=key)
                    await until(lambda: _shows(watched, key), 60)  # noqa: B023 - asked at once
                    await load.more(2)  # no call with the former one is under way
                    await store.revoke(former.id, time.time())
                    await until(lambda: refused(address, {"x-api-key": former_key}), 30)  # noqa: B023
                    clock.at += 3000  # the token is renewed, with the secret as it is by then
                    await load.more()


async def _shows(secret: WatchedSecret, key: str) -> bool:
    return (await secret.get()).reveal() == key
