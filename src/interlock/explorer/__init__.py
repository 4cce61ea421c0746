"""The page at `/docs`: an API's operations to read and to try, made in the browser of the OpenAPI document beside it.

Plain files, served by the app itself: nothing is fetched from elsewhere, and a strict content security policy holds.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

__all__ = ["HEADERS", "PATHS", "asset"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FILES: Mapping[str, str] = {
    "/docs": "explorer.html",
    **{
        f"/docs/{name}": name
        for name in (
            "explorer.css", "explorer.svg", "explorer.js", "elements.js", "schema.js", "request.js", "trying.js",
        )
    },
}  # fmt: skip
PATHS = frozenset(_FILES)
"""The page and what it is made of."""

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
"""Sent with each: scripts and styles come from here alone, and nobody may put the page into theirs."""


@cache
def asset(path: str) -> tuple[bytes, str]:
    """Return the bytes and media type of one of `PATHS`."""
    name = _FILES[path]
    data = (files(__name__) / "assets" / name).read_bytes()
    return data, _TYPES[name.rpartition(".")[2]]
