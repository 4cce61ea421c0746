"""Headers that make browsers careful (OWASP Secure Headers): on pages and on REST replies."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Pair: TypeAlias = tuple[bytes, bytes]

_ALWAYS: tuple[Pair, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_REST: Pair = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_PAGES: Pair = (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'")
_HSTS: Pair = (b"strict-transport-security", b"max-age=31536000")


def secured(send: Send, *, page: bool, tls: bool) -> Send:
    """Return a `send` that adds them to the head of the answer; HSTS (RFC 6797) under TLS alone.

    What the answer says itself of one of them stands.
    """
    added, names = _SETS[page, tls]

    def send_secured(event: MutableMapping[str, Any]) -> Awaitable[None]:
        if event["type"] == "http.response.start":
            own = dict(event["headers"])
            missing = added if names.isdisjoint(own) else [pair for pair in added if pair[0] not in own]
            event["headers"] = [*event["headers"], *missing]
        return send(event)

    return send_secured


def _set(*, page: bool, tls: bool) -> tuple[tuple[Pair, ...], frozenset[bytes]]:
    added = (*_ALWAYS, _PAGES if page else _REST, *((_HSTS,) if tls else ()))
    return added, frozenset(name for name, _ in added)


_SETS = {(page, tls): _set(page=page, tls=tls) for page in (False, True) for tls in (False, True)}
