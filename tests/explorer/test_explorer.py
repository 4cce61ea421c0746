"""The page at `/docs`: its files and headers, and a request tried in a real browser."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from interlock import App, explorer
from interlock.security.access import roles_from
from interlock.server import serving
from interlock.settings import Settings
from interlock.testing import Keyring
from tests.browser import Browser, NoBrowser, browsing
from tests.sample.handlers import make

pytestmark = pytest.mark.asyncio(loop_scope="module")

POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
ECHO, THINGS, COUNT = "SampleService_Echo", "SampleService_CreateThing", "SampleService_CountUp"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(keys: Keyring) -> AsyncIterator[str]:
    """The sample app, served."""
    settings = Settings(keys=keys.directory)
    app = make(settings=settings, roles=roles_from({"operator": ["*"]}))
    async with serving(app) as address:
        yield address.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    try:
        async with browsing() as opened:
            yield opened
    except NoBrowser as reason:
        pytest.skip(f"NOT SEEN in a browser: {reason}")


async def opened(browser: Browser, url: str, operation: str) -> None:
    await browser.open("about:blank")
    await browser.open(f"{url}/docs#{operation}")
    await browser.until(f"document.querySelector('#{operation}[open] .try')")


async def sent(browser: Browser, operation: str) -> tuple[str, str]:
    """Press Send and return what the page says of the reply: its status and its body."""
    await (await browser.find(f"#{operation} .try button[type=submit]")).click()
    status = await browser.until(
        f"(t => / in \\d+ ms/.test(t) && t)(document.querySelector('#{operation} .status')?.textContent)"
    )
    body = await browser.run(f"return document.querySelector('#{operation} .answer').textContent")
    return str(status), str(body)


def quiet(complaints: list[str]) -> list[str]:
    """Leave out what a browser says of its own accord: that a request got a 4xx, or of pages of its own."""
    own = ("Failed to load resource", " chrome://")
    return [each for each in complaints if not each.startswith("DEBUG") and not any(text in each for text in own)]


async def test_every_file_is_served_under_the_policy(url: str) -> None:
    """The page and what it is made of come from the app itself, with headers that let nothing else in."""
    async with httpx2.AsyncClient(base_url=url) as client:
        for path in explorer.PATHS:
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-security-policy"]) == (200, POLICY), path
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "").replace(
                "https://example.com/", ""
            )
            head = await client.head(path)
            assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))


@pytest.mark.parametrize("environment, docs, there", [
    ("development", None, True), ("production", None, False), ("production", True, True), ("development", False, False),
])  # fmt: skip
async def test_a_setting_decides_whether_it_is_there(environment: Any, docs: bool | None, there: bool) -> None:
    """In development unless it is switched off, in production only where it is switched on."""
    app: App = make(settings=Settings(environment=environment, docs=docs))
    async with serving(app) as address, httpx2.AsyncClient(base_url=address.url) as client:
        for path in ("/docs", "/docs/explorer.js"):
            assert (await client.get(path)).status_code == (200 if there else 404)
        assert (await client.get("/openapi.json")).status_code == 200


async def test_a_request_is_tried(browser: Browser, url: str) -> None:
    """The form starts from the contract's example; the reply is shown with status, time, headers and body."""
    await opened(browser, url, ECHO)
    status, body = await sent(browser, ECHO)
    assert status.startswith("200 OK in ")
    assert '"text": "hello"' in body
    headers = await browser.run(f"return document.querySelector('#{ECHO} .headers').textContent")
    assert "x-request-id: " in headers
    line = await browser.run(f"return document.querySelector('#{ECHO} .curl').textContent")
    assert line.startswith(f"curl -X POST '{url}/v1/echo' -H 'Content-Type: application/json' --data-raw '")
    assert quiet(await browser.complaints()) == []


async def test_what_is_wrong_is_shown(browser: Browser, url: str) -> None:
    """An error of the service stands there as it came."""
    await opened(browser, url, ECHO)
    area = await browser.find(f"#{ECHO} textarea")
    await area.clear()
    await area.type('{"items": [{"quantity": 0}]}')
    status, body = await sent(browser, ECHO)
    assert status.startswith("400 Bad Request in ")
    assert '"field": "items[0].quantity"' in body


async def test_a_token_opens_what_is_closed(browser: Browser, url: str, keys: Keyring) -> None:
    """Without a token 401, with one 200; the curl line shown never holds it, and it is kept while the tab is open."""
    operation = "SampleService_Whisper"
    await opened(browser, url, operation)
    assert (await sent(browser, operation))[0].startswith("401")
    token = keys.token("operator")
    await (await browser.find("#token")).type(token)
    status, _ = await sent(browser, operation)
    assert status.startswith("200 OK")
    line = await browser.run(f"return document.querySelector('#{operation} .curl').textContent")
    assert "Bearer $TOKEN" in line
    assert token not in line
    await opened(browser, url, operation)
    assert await browser.run("return document.getElementById('token').value") == token


async def test_a_stream_is_shown_in_the_form_that_is_chosen(browser: Browser, url: str) -> None:
    """Newline-delimited JSON or events, as `Accept` says."""
    await opened(browser, url, COUNT)
    count = await browser.find(f"#{COUNT}-path-count")
    await count.clear()
    await count.type("3")
    _, body = await sent(browser, COUNT)
    assert body == '{"data":{"number":1}}\n{"data":{"number":2}}\n{"data":{"number":3}}\n'
    await browser.run(f"document.querySelector('#{COUNT} select[aria-label=Accept]').value = 'text/event-stream'")
    _, body = await sent(browser, COUNT)
    assert body.count("data: ") >= 3


async def test_the_keyboard_is_enough(browser: Browser, url: str) -> None:
    """From the top, tabulator and Enter reach the search, the index and an operation's form."""
    await browser.open("about:blank")
    await browser.open(f"{url}/docs")
    await browser.until("document.querySelector('.operation')")
    seen = []
    for _ in range(5):
        await browser.press("\ue004")
        seen.append(await browser.run("return document.activeElement.id || document.activeElement.className"))
    assert seen[0] == "skip"
    assert {"token", "filter"} <= set(seen)
    await (await browser.find("#filter")).type("thing list")
    shown = await browser.run(
        "return [...document.querySelectorAll('.operation')].filter(e => !e.hidden).map(e => e.id)"
    )
    assert shown == ["SampleService_ListThings"]


@pytest.mark.parametrize("scheme, light", [("light", True), ("dark", False)])
async def test_it_is_light_or_dark_as_the_reader_prefers(browser: Browser, url: str, scheme: str, light: bool) -> None:
    """Text and paper stand apart in both (WCAG 2.2 §1.4.3: 4.5 to 1)."""
    await browser.emulate(scheme=scheme)
    await opened(browser, url, THINGS)
    colours = "getComputedStyle(document.body)"
    paper, ink, soft = [
        _luminance(await browser.run(f"return {each}"))
        for each in (
            f"{colours}.backgroundColor",
            f"{colours}.color",
            "getComputedStyle(document.querySelector('.says')).color",
        )
    ]
    assert (paper > 0.5) is light
    for text in (ink, soft):
        assert (max(paper, text) + 0.05) / (min(paper, text) + 0.05) >= 4.5
    assert (await browser.picture()).startswith(b"\x89PNG")
    await browser.emulate()


def _luminance(colour: str) -> float:
    """Return the relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    parts = [int(each) / 255 for each in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
