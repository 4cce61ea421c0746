"""What a caller is told of an operation that its service calls deprecated: once a process, in a warning and the log.

The service says so in `deprecation` (RFC 9745), `sunset` (RFC 8594) and `link`: header fields, or leading metadata.
"""

import logging
import re
import warnings
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from interlock.deadline import monotonic
from interlock.metadata import Metadata

log = logging.getLogger("interlock.deprecation")

LOOK_EVERY = 60.0
"""Seconds between two replies of an operation that are looked at; the first one always is."""

_LINK = re.compile(r"<([^>]*)>\s*((?:;[^,<]*)*)")
_told: set[str] = set()


class DeprecatedOperation(DeprecationWarning):
    """The operation that was called is deprecated; the text says since when, until when, and what to use instead."""


class Notice:
    """Looks at the replies of one operation now and then, and tells once a process if they say deprecated."""

    __slots__ = ("_next", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._next = float("-inf")

    def due(self) -> bool:
        """Tell whether the next reply should be looked at."""
        if self._next > monotonic():
            return False
        self._next = float("inf") if self._path in _told else monotonic() + LOOK_EVERY
        return self._path not in _told

    def look(self, headers: Metadata, *, stacklevel: int) -> None:
        """Warn if `headers` say deprecated; `stacklevel` leads to the caller, counted from here as 1."""
        given = headers.header(b"deprecation")
        if given is None or self._path in _told:
            return
        _told.add(self._path)
        text = told(self._path, given.decode("latin-1"), headers)
        log.warning(text)
        warnings.warn(text, DeprecatedOperation, stacklevel=stacklevel)


def told(path: str, given: str, headers: Metadata) -> str:
    """Return the sentence that names the operation, the dates and the successor, as far as `headers` say them."""
    text = f"{path} is deprecated"
    if since := _structured(given):
        text += f" since {since}"
    if sunset := _http_date(headers.get("sunset") or ""):
        text += f", it stops working on {sunset}"
    if successor := _successor(headers.get_all("link")):
        text += f"; use {successor} instead"
    return text


def _structured(value: str) -> str:
    """Return the day of a structured date (`@1735689600`, RFC 9651 §3.3.7); an older form where it is a date."""
    try:
        if value.startswith("@"):
            return datetime.fromtimestamp(int(value[1:20]), UTC).date().isoformat()
        return datetime.fromisoformat(value).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return _http_date(value)


def _http_date(value: str) -> str:
    try:
        return parsedate_to_datetime(value).date().isoformat()
    except (ValueError, TypeError, IndexError):
        return ""


def _successor(links: list[str]) -> str:
    for target, parameters in _LINK.findall(",".join(links)[:4096]):
        if "successor-version" in parameters:
            return str(target)[:256]
    return ""
