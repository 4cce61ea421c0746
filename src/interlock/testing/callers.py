"""Clients of what is under test, as somebody with roles; closed together at its end."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from interlock.client import Client
from interlock.testing.keyring import Keyring

if TYPE_CHECKING:
    import httpx2

    from interlock.app import App

C = TypeVar("C", bound=Client)


class Callers:
    """Makes clients and closes them."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys
        self._closing: list[Callable[[], Awaitable[None]]] = []

    def client(self, kind: type[C], target: "str | App", roles: tuple[str, ...], subject: str, options: Any) -> C:
        """Return a typed client of `target`; with roles it shows a token, without it shows none."""
        if roles and "credentials" not in options:
            options = {**options, "credentials": self._keys.credentials(*roles, subject=subject)}
        client = kind(target, **options)
        self._closing.append(client.close)
        return client

    def http(self, url: str, roles: tuple[str, ...], subject: str) -> "httpx2.AsyncClient":
        """Return a plain HTTP client of `url`."""
        import httpx2  # noqa: PLC0415 - where REST is tested

        headers = self._keys.headers(roles, subject) if roles else {}
        client = httpx2.AsyncClient(base_url=url, headers=headers, timeout=30)
        self._closing.append(client.aclose)
        return client

    async def close(self) -> None:
        """Close all of them."""
        while self._closing:
            await self._closing.pop()()
