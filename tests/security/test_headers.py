"""Headers that make browsers careful, on pages and REST replies alike; HSTS under TLS alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from interlock import App
from interlock.settings import Settings
from tests.sample.handlers import make
from tests.security.asking import ask


@pytest.fixture
def app(tmp_path: Path) -> App:
    """The sample app without keys."""
    return make(settings=Settings(keys=tmp_path / "keys"))


async def page(app: App, path: str, scheme: str) -> dict[str, str]:
    found: dict[str, str] = {}

    async def send(event: Any) -> None:
        if event["type"] == "http.response.start":
            found.update({name.decode(): value.decode() for name, value in event["headers"]})

    async def receive() -> Any:
        raise AssertionError("a page has no body to read")

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "scheme": scheme,
        "http_version": "1.1",
    }
    await app(scope, receive, send)
    return found


@pytest.mark.parametrize("path", ["/openapi.json", "/livez", "/.well-known/jwks.json"])
async def test_pages_are_careful(app: App, path: str) -> None:
    """A page may load from its own origin alone, and is framed by nobody."""
    for scheme in ("http", "https"):
        headers = await page(app, path, scheme)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert ("strict-transport-security" in headers) == (scheme == "https")


async def test_rest_replies_are_careful(app: App) -> None:
    """Also those that refuse, and those to no route."""
    for scheme in ("http", "https"):
        refused = await ask(app, "rest", scheme=scheme)
        nowhere = await ask(app, "rest", scheme=scheme, path="/nowhere", raw_path=b"/nowhere")
        for each in (refused.headers, nowhere.headers):
            assert each["x-content-type-options"] == "nosniff"
            assert each["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert ("strict-transport-security" in each) == (scheme == "https")
    assert json.loads(refused.content.partition(b"}{")[0] + (b"}" if b"}{" in refused.content else b""))


async def test_rpc_replies_have_none_of_them(app: App) -> None:
    """No browser shows them, so they do not pay for it."""
    refused = await ask(app, "grpc")
    assert "content-security-policy" not in refused.headers
