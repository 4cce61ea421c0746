"""A real browser for tests: headless Chromium, driven over WebDriver (W3C) by its own `chromedriver`.

No library stands between: WebDriver is JSON over HTTP. Debian has both programs (`apt-get install chromium
chromium-driver`); where one is missing, `browsing` raises NoBrowser, and a test says loudly what it left out.
"""

import asyncio
import base64
import contextlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id (WebDriver §12)
_STARTED = re.compile(rb"started successfully on port (\d+)")
_ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


class NoBrowser(Exception):
    """There is no browser on this machine; the message says how to get one."""


class BrowserError(Exception):
    """The browser could not do what it was told."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of the page."""

    browser: "Browser"
    id: str

    async def click(self) -> None:
        """Click it, scrolled into view."""
        await self.browser.command("POST", f"/element/{self.id}/click", {})

    async def type(self, text: str) -> None:
        """Type into it, behind what is there."""
        await self.browser.command("POST", f"/element/{self.id}/value", {"text": text})

    async def clear(self) -> None:
        """Empty it."""
        await self.browser.command("POST", f"/element/{self.id}/clear", {})

    async def text(self) -> str:
        """Return its text as it is seen."""
        return str(await self.browser.command("GET", f"/element/{self.id}/text"))


class Browser:
    """One window of a browser."""

    def __init__(self, client: httpx2.AsyncClient, session: str) -> None:
        self._client = client
        self._session = session

    async def open(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        await self.command("POST", "/url", {"url": url})

    async def find(self, selector: str, *, seconds: float = 30) -> Element:
        """Return the first element of a CSS selector, once there is one; BrowserError if there never is."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            found = await self.command("POST", "/elements", {"using": "css selector", "value": selector})
            if found:
                return Element(self, found[0][_ELEMENT])
            if asyncio.get_running_loop().time() > deadline:
                raise BrowserError(f"no element {selector!r} came; the page says: {await self.source_text()}")
            await asyncio.sleep(0.05)

    async def until(self, condition: str, *, seconds: float = 30) -> Any:
        """Return the value of a JavaScript expression once it is true; BrowserError if it never is."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            if value := await self.run(f"return {condition}"):
                return value
            if asyncio.get_running_loop().time() > deadline:
                raise BrowserError(f"{condition} never came true; the page says: {await self.source_text()}")
            await asyncio.sleep(0.05)

    async def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page (a promise is waited for) and return its value."""
        return await self.command("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    async def press(self, *keys: str) -> None:
        """Press keys one after the other, where the focus is; `\\ue004` is the tabulator (WebDriver §17.4.2)."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        await self.command("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    async def emulate(self, *, scheme: str = "light", width: int = 1280, height: int = 900) -> None:
        """Prefer a colour scheme, in a window of that size."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self._devtools("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self._devtools("Emulation.setDeviceMetricsOverride", size)

    async def picture(self) -> bytes:
        """Return what is seen, as PNG."""
        return base64.b64decode(await self.command("GET", "/screenshot"))

    async def complaints(self) -> list[str]:
        """Return what the browser logged since the last time: errors, refusals of the content security policy."""
        entries = await self.command("POST", "/se/log", {"type": "browser"})
        return [f"{each['level']}: {each['message']}" for each in entries]

    async def source_text(self) -> str:
        """Return the text of the page, shortened."""
        return str(await self.run("return document.body ? document.body.innerText : ''"))[:2000]

    async def _devtools(self, method: str, parameters: dict[str, Any]) -> Any:
        return await self.command("POST", "/goog/cdp/execute", {"cmd": method, "params": parameters})

    async def command(self, verb: str, path: str, body: Any = None) -> Any:
        """Send one command of WebDriver and return its value."""
        return await _command(self._client, verb, f"/session/{self._session}{path}", body)


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Run a browser while the block runs; NoBrowser where there is none."""
    driver, program = _programs()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            driver, "--port=0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            port = await asyncio.wait_for(_port(process), 60)
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                session = await _command(client, "POST", "/session", _wanted(program, profile))
                try:
                    yield Browser(client, session["sessionId"])
                finally:
                    await _command(client, "DELETE", f"/session/{session['sessionId']}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _programs() -> tuple[str, str]:
    driver = shutil.which("chromedriver")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if driver is None or program is None:
        missing = "chromedriver" if driver is None else "Chromium"
        raise NoBrowser(f"no {missing} here; on Debian: apt-get install chromium chromium-driver")
    return driver, program


async def _port(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    async for line in process.stdout:
        if found := _STARTED.search(line):
            return int(found[1])
    raise BrowserError("chromedriver ended before it was ready")


def _wanted(program: str, profile: str) -> dict[str, Any]:
    options = {"binary": program, "args": [*_ARGUMENTS, f"--user-data-dir={profile}"]}
    wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    return {"capabilities": {"alwaysMatch": wanted}}


async def _command(client: httpx2.AsyncClient, verb: str, path: str, body: Any = None) -> Any:
    answer = await client.request(verb, path, json=body)
    value = answer.json()["value"]
    if answer.is_error:
        raise BrowserError(f"{value['error']}: {value['message'].splitlines()[0]}")
    return value
