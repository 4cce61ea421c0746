"""OAuth 2 client credentials: our client against servers of every mood, and against our own `/oauth/token`."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx2
import pytest

from interlock import App
from interlock.call import Call, Direction, Reply, compose
from interlock.errors import Internal, Unauthenticated, Unavailable
from interlock.security.access import roles_from
from interlock.security.account_file import AccountFile
from interlock.security.api_keys import create_account, create_key
from interlock.security.credentials import Credentials, credentials
from interlock.security.keys import new_keys
from interlock.security.oauth2 import ClientCredentials
from interlock.security.secret import Secret, WatchedSecret, from_file
from interlock.server import Address, serving
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_SERVICE, WHISPER, SampleServiceClient
from tests.sample.handlers import make
from tests.security.forging import Clock
from tests.waiting import until
from tests.web import Documents, documents_at

WHISPERING = SAMPLE_SERVICE.operation(WHISPER)


class Server:
    """An authorization server that counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, list[str]], dict[str, str]]] = []
        self.answer: tuple[int, Any] | None = None
        self.pause = 0.0
        self.secret = "p ss/word"

    def __call__(self, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        self.asked.append((parse_qs(body.decode()), headers))
        time.sleep(self.pause)
        if self.answer is not None:
            return self.answer
        sent = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode()
        if sent != f"my%20id:{self.secret.replace(' ', '%20').replace('/', '%2F')}":
            return 401, {"error": "invalid_client"}
        return 200, {"access_token": f"token-{len(self.asked)}", "token_type": "Bearer", "expires_in": 100}


async def shown(given: Credentials) -> str:
    call = Call(WHISPERING, direction=Direction.SENT)
    await given.apply(call)
    return call.metadata.get("authorization") or ""


async def test_one_token_serves_many_calls_and_is_renewed_ahead() -> None:
    """A storm of calls is one request; at four fifths of its life the next is fetched behind the calls."""
    server, clock = Server(), Clock()
    server.pause = 0.1
    with documents_at({"/token": server}) as url:
        given = ClientCredentials(f"{url}/token", "my id", server.secret, scope="a b", audience="shop", now=clock)
        assert set(await asyncio.gather(*(shown(given) for _ in range(50)))) == {"Bearer token-1"}
        fields, headers = server.asked[0]
        assert fields == {"grant_type": ["client_credentials"], "scope": ["a b"], "audience": ["shop"]}
        assert headers["content-type"] == "application/x-www-form-urlencoded"
        clock.at += 79
        assert await shown(given) == "Bearer token-1"
        clock.at += 2
        assert await shown(given) == "Bearer token-1"
        await until(lambda: not given._renewed.busy)
        assert await shown(given) == "Bearer token-2"
    assert len(server.asked) == 2
    assert server.secret not in repr(given)


async def test_a_refused_token_is_fetched_anew_once() -> None:
    """On 401 there is one request for another token, and one more attempt."""
    server = Server()

    async def refuse_first(call: Call) -> Reply:
        if call.metadata.get("authorization") == "Bearer token-1":
            refused = Unauthenticated("no")
            refused.received = True
            raise refused
        return EchoResponse(text="in")

    with documents_at({"/token": server}) as url:
        given = ClientCredentials(f"{url}/token", "my id", server.secret)
        calls = (
            compose([credentials(given)], WHISPERING, refuse_first)(Call(WHISPERING, direction=Direction.SENT))
            for _ in range(10)
        )
        await asyncio.gather(*calls)
    assert len(server.asked) == 2


async def test_a_server_that_fails_does_not_stop_a_token_that_counts(caplog: pytest.LogCaptureFixture) -> None:
    """The old token is shown to its end; what the server said is in no error and no log."""
    server, clock = Server(), Clock()
    documents: Documents = {"/token": server}
    with documents_at(documents) as url:
        given = ClientCredentials(f"{url}/token", "my id", server.secret, now=clock)
        assert await shown(given) == "Bearer token-1"
        server.answer = 500, {"error": "boom-secret"}
        clock.at += 85
        assert await shown(given) == "Bearer token-1"
        await until(lambda: "could not be renewed" in caplog.text)
        clock.at += 20
        for answer, error, says in (
            ((500, b"boom-secret"), Unavailable, "500"),
            ((302, b"boom-secret"), Unavailable, "302"),
            ((401, b"boom-secret"), Internal, "refused the client"),
            ((400, b"boom-secret"), Internal, "refused the client"),
            ((200, b"boom-secret"), Unavailable, "no bearer token"),
            ((200, b"x" * 100_000), Unavailable, "no bearer token"),
            ((200, {"access_token": "a b", "token_type": "Bearer"}), Unavailable, "no bearer"),
            ((200, {"access_token": 5, "token_type": "Bearer"}), Unavailable, "no bearer"),
            ((200, {"access_token": "abc", "token_type": "mac"}), Unavailable, "no bearer"),
            ((200, {"access_token": "abc", "token_type": "Bearer", "expires_in": -1}), Unavailable, "no bearer"),
            ((200, {"access_token": "abc", "token_type": "Bearer", "expires_in": "x"}), Unavailable, "no bearer"),
        ):
            server.answer = answer
            with pytest.raises(error, match=says) as raised:
                await shown(given)
            assert "boom" not in str(raised.value)
        server.answer = None
        assert (await shown(given)).startswith("Bearer token-")
    assert "boom-secret" not in caplog.text
    assert server.secret not in caplog.text
    with pytest.raises(Unavailable, match="cannot be reached"):
        await shown(ClientCredentials(f"{url}/token", "my id", "x"))


async def test_a_rotated_secret_is_read_again(tmp_path: Path) -> None:
    """Where the server refuses the client, a watched secret is looked at at once."""
    server = Server()
    place = tmp_path / "secret"
    place.write_text("old")
    server.secret = "old"
    clock = Clock()
    with documents_at({"/token": server}) as url:
        given = ClientCredentials(f"{url}/token", "my id", WatchedSecret(from_file(place), now=clock), now=clock)
        assert await shown(given) == "Bearer token-1"
        server.secret = "new"
        place.write_text("new")
        clock.at += 11
        await given.refresh()
        assert await shown(given) == "Bearer token-3"


@pytest.mark.parametrize("url", ["http://id.example/token", "ftp://127.0.0.1/", "id.example", ""])
def test_a_secret_goes_over_tls_only(url: str) -> None:
    """But on this machine."""
    with pytest.raises(ValueError, match="https://"):
        ClientCredentials(url, "me", Secret("x"))


@pytest.fixture
async def development(tmp_path: Path) -> AsyncIterator[tuple[App, Address, str]]:
    """The sample app with an account, its token endpoint, and the account's key."""
    place = tmp_path / "accounts.json"
    new_keys(tmp_path / "keys")
    settings = Settings(accounts=str(place), keys=tmp_path / "keys", token_endpoint=True)
    app = make(settings=settings, roles=roles_from({"whisperer": ["sample:whisper"], "porter": []}))
    store = AccountFile(place)
    await create_account(store, "billing", ["whisperer", "porter"])
    _, key = await create_key(store, "billing")
    async with serving(app) as address:
        yield app, address, key


async def test_from_an_account_to_a_call(development: tuple[App, Address, str]) -> None:
    """Our client gets a token of our endpoint, and the service takes it."""
    _, address, key = development
    given = ClientCredentials(f"{address.url}/oauth/token", "billing", key)
    async with SampleServiceClient(str(address), credentials=given) as client:
        assert (await client.whisper(text="hush")).text == "hush"


async def test_the_endpoint_takes_forms_and_json(
    development: tuple[App, Address, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Id and secret in the body or as Basic; the scope narrows; mistakes follow RFC 6749 §5.2."""
    _, address, key = development
    grant = {"grant_type": "client_credentials"}
    client = {"client_id": "billing", "client_secret": key}
    async with httpx2.AsyncClient(base_url=address.url) as http:

        async def post(**options: Any) -> tuple[int, dict[str, Any]]:
            answer = await http.post("/oauth/token", **options)
            assert answer.headers["cache-control"] == "no-store"
            assert key not in answer.text
            return answer.status_code, answer.json()

        right: list[dict[str, Any]] = [
            {"data": grant | client},
            {"json": grant | client},
            {"data": grant, "auth": ("billing", key)},
            {"json": grant, "auth": ("billing", key)},
        ]
        for options in right:
            status, said = await post(**options)
            assert (status, said["token_type"], said["expires_in"]) == (200, "Bearer", 3600)
            assert said["scope"] == "porter whisperer"
        _, narrow = await post(data={**grant, **client, "scope": "porter"})
        claims = json.loads(base64.urlsafe_b64decode(narrow["access_token"].split(".")[1] + "=="))
        assert (claims["sub"], claims["roles"]) == ("billing", ["porter"])
        form = {"content-type": "application/x-www-form-urlencoded"}
        wrong: list[tuple[dict[str, Any], int, str]] = [
            ({"data": client}, 400, "unsupported_grant_type"),
            ({"data": {"grant_type": "password", **client}}, 400, "unsupported_grant_type"),
            ({"data": {**grant, **client, "client_secret": key + "0"}}, 401, "invalid_client"),
            ({"data": {**grant, **client, "client_id": "other"}}, 401, "invalid_client"),
            ({"data": grant}, 401, "invalid_client"),
            ({"data": grant | client, "auth": ("billing", key)}, 401, "invalid_client"),
            ({"data": grant, "headers": {"authorization": "Basic !"}}, 401, "invalid_client"),
            ({"data": {**grant, **client, "scope": "root"}}, 400, "invalid_scope"),
            ({"content": b"grant_type=a&grant_type=b", "headers": form}, 400, "invalid_request"),
            ({"content": b"a=b&" * 4000, "headers": form}, 400, "invalid_request"),
            ({"content": b"\xff", "headers": form}, 400, "invalid_request"),
            ({"content": b"grant_type=x"}, 400, "invalid_request"),
            ({"json": [1]}, 400, "invalid_request"),
            ({"json": {"grant_type": 5}}, 400, "invalid_request"),
            ({"content": b"[" * 8000, "headers": {"content-type": "application/json"}}, 400, "invalid_request"),
        ]
        for options, status, error in wrong:
            status_found, said = await post(**options)
            assert (status_found, said["error"]) == (status, error), options
        refused = await http.get("/oauth/token")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert key not in caplog.text


def test_the_endpoint_is_for_development(tmp_path: Path) -> None:
    """Elsewhere the settings refuse it; without accounts there is nothing to give tokens for."""
    with pytest.raises(ValueError, match="for development"):
        Settings(token_endpoint=True, environment="production")
    with pytest.raises(ValueError, match="INTERLOCK_ACCOUNTS"):
        make(settings=Settings(token_endpoint=True))


TEN_LINES = """
class Stamped:
    def __init__(self, secret):
        self.secret = secret

    async def apply(self, call):
        call.metadata.add("x-stamp", f"{call.operation.name}:{self.secret}")

    async def refresh(self):
        return False
"""


async def test_a_credential_of_ones_own_takes_ten_lines() -> None:
    """What the page on security shows works."""
    room: dict[str, Any] = {}
    exec(TEN_LINES, room)
    seen = []

    async def service(call: Call) -> Reply:
        seen.append(call.metadata.get("x-stamp"))
        return EchoResponse()

    await compose([credentials(room["Stamped"]("s"))], WHISPERING, service)(Call(WHISPERING))
    assert seen == ["Whisper:s"]
    assert len(TEN_LINES.strip().splitlines()) <= 10
    page = Path(__file__).parents[2] / "docs" / "security.md"
    assert TEN_LINES.strip() in page.read_text()
