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
    added = _SETS[page, tls]

    def send_secured(event: MutableMapping[str, Any]) -> Awaitable[None]:
        if event["type"] == "http.response.start":
            own = event["headers"]
            names = {name for name, _ in own}
            event["headers"] = [*own, *(pair for pair in added if pair[0] not in names)]
        return send(event)

    return send_secured


_SETS: dict[tuple[bool, bool], tuple[Pair, ...]] = {
    (page, tls): (*_ALWAYS, _PAGES if page else _REST, *((_HSTS,) if tls else ()))
    for page in (False, True)
    for tls in (False, True)
}
