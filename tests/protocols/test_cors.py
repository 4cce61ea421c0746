"""Cross-origin requests: off by default, one setting, the same for every protocol of browsers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

import httpx2
import pytest
from pydantic import ValidationError

from interlock.contract.model import Deprecation
from interlock.observability.deprecation import headers
from interlock.server import serving
from interlock.settings import Settings
from tests.protocols.documents import AT, SERVICE, Documents, contract, message

APP = "https://app.example.com"
PREFLIGHT = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization,if-match"}


@asynccontextmanager
async def client_of(**settings: object) -> AsyncIterator[httpx2.AsyncClient]:
    documents = Documents()
    documents.keep(message("Document")(id="d", text="text"))
    async with (
        serving(documents.app(**settings), operations=True) as address,
        httpx2.AsyncClient(base_url=address.url, timeout=60) as client,
    ):
        client.headers["x-operations"] = address.operations_url
        yield client


async def test_without_the_setting_no_script_is_let_in() -> None:
    async with client_of() as client:
        answer = await client.get(f"{AT}/d", headers={"origin": APP})
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        preflight = await client.options(f"{AT}/d", headers={"origin": APP, **PREFLIGHT})
        assert "access-control-allow-origin" not in preflight.headers


async def test_a_named_origin_may_call_and_read_all_headers() -> None:
    async with client_of(cors_origins=f"{APP}/,http://localhost:3000") as client:
        asked = await client.options(f"{AT}/d", headers={"origin": APP, **PREFLIGHT})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, APP)
        assert "PATCH" in asked.headers["access-control-allow-methods"]
        assert asked.headers["access-control-allow-headers"] == "authorization,if-match"
        assert asked.headers["access-control-max-age"] == "7200"
        assert asked.headers["access-control-allow-credentials"] == "true"
        assert "origin" in asked.headers["vary"]
        for path, status in ((f"{AT}/d", 200), (f"{AT}/nobody", 404), ("/nowhere", 404)):
            answer = await client.get(path, headers={"origin": APP})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, APP)
            exposed = answer.headers["access-control-expose-headers"].split(", ")
            assert {"x-request-id", "grpc-status"} <= set(exposed)
            assert "origin" in answer.headers["vary"]
        assert "etag" in (await client.get(f"{AT}/d", headers={"origin": APP})).headers["access-control-expose-headers"]
        assert "origin" in (await client.get(f"{AT}/d")).headers["vary"]
        refused = await client.options(f"{AT}/d", headers={"origin": "https://evil.example", **PREFLIGHT})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "PERMISSION_DENIED")
        plain = await client.get(f"{AT}/d", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in plain.headers
        assert (await client.options(f"{AT}/d", headers={"origin": APP})).headers["allow"]


async def test_everybody_is_let_in_without_credentials() -> None:
    async with client_of(cors_origins="*") as client:
        answer = await client.get(f"{AT}/d", headers={"origin": "null"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        for kind, path in (("application/grpc-web+proto", "GetDocument"), ("application/json", "GetDocument")):
            body = b"\0\0\0\0\x03\x0a\x01d" if "grpc" in kind else b'{"id":"d"}'
            answer = await client.post(
                f"/{SERVICE}/{path}", content=body, headers={"origin": APP, "content-type": kind}
            )
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
            assert len(answer.headers.get_list("access-control-expose-headers")) == 1
            assert "grpc-status" in answer.headers["access-control-expose-headers"]
        hostile = {"origin": APP, **PREFLIGHT, "access-control-request-headers": "a<b>"}
        assert "access-control-allow-headers" not in (await client.options(f"{AT}/d", headers=hostile)).headers


@pytest.mark.parametrize("origins", ["app.example.com", "https://a.example/path", "*,https://a.example", "https://*"])
def test_what_is_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ValidationError, match="origin"):
        Settings(cors_origins=origins)


# --- deprecation ----------------------------------------------------------------------------------------------------


async def test_a_deprecated_operation_says_so_over_every_protocol() -> None:
    async with client_of() as client:
        rpc = f"/{SERVICE}/ReadDocument"
        answers = [
            await client.get("/api/v0/documents/d"),
            await client.get("/api/v0/documents/nobody"),
            await client.post(rpc, json={"id": "d"}),
        ]
        for answer in answers:
            assert answer.headers["deprecation"] == "@1767225600"
            assert answer.headers["sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"
            assert f'</{SERVICE}/GetDocument>; rel="successor-version"' in answer.headers["link"]
            assert 'rel="deprecation"' in answer.headers["link"]
        assert "deprecation" not in (await client.get(f"{AT}/d")).headers
        operations = client.headers["x-operations"]
        async with httpx2.AsyncClient() as other:
            text = (await other.get(f"{operations}/metrics")).text
        assert f'service_deprecated_requests_total{{caller="other",endpoint="{rpc}"}} 3.0' in text


def test_a_successor_is_linked_where_it_stands() -> None:
    operation = contract().service(SERVICE).operations[0]

    def link(successor: str) -> str:
        given = dict(headers(Deprecation(since=date(2026, 1, 1), sunset=None, successor=successor), operation))
        assert "sunset" not in given
        return given["link"].partition(";")[0]

    assert link("https://docs.example/new?a=b") == "<https://docs.example/new?a=b>"
    assert link("api.v2.Documents/Get") == link("/api.v2.Documents/Get") == "</api.v2.Documents/Get>"
    assert link("the field text") == link("https://a>\r\nb") == "</openapi.json>"
