"""Ways to get in that worked elsewhere: requests that two readers read differently, credentials where none belong."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from interlock.security.access import roles_from
from interlock.security.account_file import AccountFile
from interlock.security.api_keys import create_account, create_key
from interlock.security.keys import KeySet
from interlock.security.tokens import Issuer
from interlock.server import Address, serving
from interlock.settings import Settings
from tests.sample.handlers import make
from tests.security.asking import PROTOCOLS, ask

BODY = '{"text": "hush"}'
ROLES = roles_from({"whisperer": ["sample:whisper"]})


@dataclass
class Door:
    """A service over HTTP/1.1, and a token that it takes."""

    address: Address
    token: str

    async def answers(
        self, *fields: str, path: str = "/v1/whisper", body: str = BODY, length: bool = True
    ) -> list[int]:
        """Return the status of every answer that comes to what is sent in one piece."""
        lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json"]
        lines += [f"content-length: {len(body)}"] if length else []
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        writer.write("\r\n".join((*lines, *fields, "connection: close", "", body)).encode("latin-1"))
        writer.write_eof()
        try:
            async with asyncio.timeout(20):
                found = await reader.read(-1)
        except ConnectionError:
            found = b""
        writer.close()
        return [int(each[:3]) for each in found.split(b"HTTP/1.1 ")[1:]]


@pytest.fixture
async def door(directory: Path, keys: KeySet) -> AsyncIterator[Door]:
    """The sample app behind its server."""
    async with serving(make(settings=Settings(keys=directory), roles=ROLES)) as address:
        yield Door(address, Issuer(keys=keys).mint("ada", ["whisperer"]))


async def test_a_request_is_one_request(door: Door) -> None:
    """What has two lengths, or a line end of its own making, is refused whole; nothing behind it is a request."""
    token = f"authorization: Bearer {door.token}"
    hidden = f"0\r\n\r\nPOST /v1/whisper HTTP/1.1\r\nhost: x\r\n{token}\r\ncontent-length: {len(BODY)}\r\n\r\n{BODY}"
    assert await door.answers(token) == [200]
    for fields in (
        ["transfer-encoding: chunked", token],
        ["transfer-encoding: chunked"],
        ["content-length: 5", token],
        [f"authorization : Bearer {door.token}"],
        [f"authorization: Bearer\r\n {door.token}"],
        [f"authorization: Bearer {door.token}\0"],
        ["x: y\nauthorization: Bearer " + door.token],
    ):
        found = await door.answers(*fields, body=hidden)
        assert 200 not in found, fields
        assert len(found) <= 1, fields
    for coding in ("xchunked", "chunked, identity", "identity, chunked, chunked"):
        found = await door.answers(f"transfer-encoding: {coding}", token, body=hidden, length=False)
        assert 200 not in found, coding


async def test_a_credential_counts_in_its_place_alone(door: Door) -> None:
    """Not in the query, a cookie, a header of nearly that name, nor as one of several in a line."""
    token = door.token
    assert await door.answers(f"AUTHORIZATION: BEARER {token}") == [200]
    for fields, query in (
        ([], f"?access_token={token}"),
        ([], f"?authorization=Bearer%20{token}"),
        ([f"cookie: access_token={token}; authorization=Bearer {token}"], ""),
        ([f"proxy-authorization: Bearer {token}"], ""),
        ([f"x-authorization: Bearer {token}", f"authorization_: Bearer {token}"], ""),
        ([f"x-forwarded-authorization: Bearer {token}"], ""),
        ([f"authorization: Bearer {token}, Bearer {token}"], ""),
        ([f"authorization: Bearer {token}\xa0"], ""),
        ([f"authorization: Bearer\t{token}"], ""),
        ([f"authorization: {token}"], ""),
        (["x-http-method-override: GET", "x-original-url: /v1/echo", "x-rewrite-url: /v1/echo"], ""),
    ):
        assert await door.answers(*fields, path=f"/v1/whisper{query}") == [401], (fields, query)


@pytest.mark.parametrize(
    "path, status",
    [
        ("/v1/%77hisper", 401),
        ("/v1/whisper?", 401),
        ("//v1/whisper", 404),
        ("/v1/echo/../whisper", 404),
        ("/v1/whisper/", 404),
        ("/V1/Whisper", 404),
        ("/v1/whisper;/../echo", 404),
        ("/sample.v1.SampleService/Whisper", 401),
        ("/sample.v1.SampleService%2FWhisper", 401),
        ("/sample.v1.SampleService/Whisper/", 404),
    ],
)
async def test_another_spelling_of_a_path_opens_nothing(door: Door, path: str, status: int) -> None:
    """The operation that is served is the one that was judged, or none is."""
    assert await door.answers(path=path) == [status]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_several_credentials_are_none(protocol: str, tmp_path: Path, directory: Path, keys: KeySet) -> None:
    """Two tokens, two keys, or a key beside a token, in any order and however sound: which one would count?"""
    store = AccountFile(tmp_path / "accounts.json")
    await create_account(store, "billing", ["whisperer"])
    _, key = await create_key(store, "billing")
    app = make(settings=Settings(keys=directory, accounts=str(tmp_path / "accounts.json")), roles=ROLES)
    token = ("authorization", f"Bearer {Issuer(keys=keys).mint('ada', ['whisperer'])}")
    shown = ("x-api-key", key)
    for sound in (token, shown):
        assert (await ask(app, protocol, [sound])).code == "OK"
    for several in (
        [token, token],
        [token, ("authorization", "Bearer x")],
        [("authorization", "Bearer x"), token],
        [("authorization", ""), token],
        [shown, shown],
        [token, shown],
        [shown, token],
        [shown, ("authorization", "Basic eDp5")],
    ):
        refused = await ask(app, protocol, several)
        assert (refused.code, refused.read) == ("UNAUTHENTICATED", False), several
