"""Every Python example of the docs runs, against the shop where it calls one."""

import ast
import inspect
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from interlock.server import serving
from tests.shop.conftest import Shop

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FRAGMENTS = {  # pages whose examples are pieces of a program, only compiled
    "README.md",
    "data.md",
    "events.md",
    "monitoring.md",
    "tutorial.md",
}


@pytest.fixture
async def address(shop: Shop) -> AsyncIterator[str]:
    """The shop's order service on a real port."""
    async with serving(shop.orders) as served:
        yield str(served)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_the_examples_of_a_page_run(page: Path, address: str, shop: Shop) -> None:
    """The blocks of a page run in order, in one namespace."""
    namespace: dict[str, object] = {"token": shop.token("operator")}
    for number, block in enumerate(FENCE.findall(page.read_text())):  # noqa: ASYNC240 - a small local file
        text = block.replace("127.0.0.1:8080", address)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(text, f"{page.name}[{number}]", "exec", flags=flags)
        if page.name in FRAGMENTS:
            continue
        result = eval(code, namespace)  # the docs' own text
        if inspect.iscoroutine(result):
            await result
    if (client := namespace.get("orders")) is not None:
        await client.close()  # type: ignore[attr-defined]  # the page's client


def test_links_between_pages_lead_somewhere() -> None:
    """Each relative link of a page names a file that is there."""
    for page in [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
