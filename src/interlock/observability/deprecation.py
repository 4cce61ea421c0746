"""Deprecation that reaches the caller: in the head of every reply over every protocol; counted for each caller."""

import re
from collections.abc import Awaitable, Collection
from datetime import UTC, date, datetime
from email.utils import format_datetime

from prometheus_client import Counter

from interlock.call import Call, Handler, Layer, Middleware, Reply
from interlock.contract.model import Deprecation, Operation
from interlock.observability.metrics import Metrics

OTHER = "other"
"""The caller of whoever is not known by name, so that labels stay few."""

_URL = re.compile(r"https?://[!-;=?-~]+\Z")
_METHOD = re.compile(r"[A-Z][A-Za-z0-9]*\Z")
_PATH = re.compile(r"/?([a-z][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)+)/([A-Z][A-Za-z0-9]*)\Z")


def deprecation(metrics: Metrics, callers: Collection[str]) -> Layer:
    """Tell callers of a deprecated operation since when, until when and what to use instead; count them.

    `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and `Link` are header fields on REST and leading metadata on RPC.
    `service_deprecated_requests_total` counts by operation and caller: the service that acts, if it is one of
    `callers`, else `other`. Behind `authenticate`; left out of operations that are not deprecated.
    """
    counter: Counter | None = None
    known = frozenset(callers)

    def layer(operation: Operation) -> Middleware | None:
        nonlocal counter
        if operation.deprecation is None:
            return None
        if counter is None:
            text = "Requests to deprecated operations, by caller."
            labels = ("endpoint", "caller")
            counter = Counter("service_deprecated_requests", text, labels, registry=metrics.registry)
        fields = headers(operation.deprecation, operation)
        counts = {name: counter.labels(operation.path, name) for name in (*known, OTHER)}
        other = counts[OTHER]

        def tell(call: Call, proceed: Handler) -> Awaitable[Reply]:
            for name, value in fields:
                call.reply_headers.add(name, value)
            counts.get(_caller(call), other).inc()
            return proceed(call)

        return tell

    return layer


def _caller(call: Call) -> str:
    principal = call.principal
    if principal is None:
        return OTHER
    return principal.actors[0] if principal.actors else principal.subject


def headers(gone: Deprecation, operation: Operation) -> list[tuple[str, str]]:
    """Return what is said of a deprecated operation, as names and values of header fields."""
    found: list[tuple[str, str]] = []
    since = gone.since or gone.sunset
    if since is not None:
        found.append(("deprecation", f"@{int(_midnight(since).timestamp())}"))
    if gone.sunset is not None:
        found.append(("sunset", format_datetime(_midnight(gone.sunset), usegmt=True)))
    links = ['</openapi.json>; rel="deprecation"; type="application/json"']
    successor = _reference(gone.successor, operation)
    if successor:
        links.insert(0, f'<{successor}>; rel="successor-version"')
    found.append(("link", ", ".join(links)))
    return found


def _reference(successor: str, operation: Operation) -> str:
    """Return where a successor stands: a URL, or the path of an RPC; empty for what has no place, such as a field."""
    if _URL.match(successor):
        return successor
    if _METHOD.match(successor):
        return f"/{operation.service}/{successor}"
    found = _PATH.match(successor)
    return f"/{found[1]}/{found[2]}" if found else ""


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
