"""A secret as a header field: what HTTP APIs of third parties mostly ask for."""

from interlock.call import Call
from interlock.metadata import Metadata
from interlock.security.secret import Secret, WatchedSecret


class SecretHeader:
    """Shows a secret in a header field, `Authorization: Bearer …` unless said otherwise; one that rotates is followed.

    `scheme` stands before the secret: `Bearer` in `authorization`, nothing in other fields. ValueError for a name that
    no header field has.
    """

    def __init__(
        self, secret: Secret | WatchedSecret | str, *, header: str = "authorization", scheme: str | None = None
    ) -> None:
        self._secret = Secret(secret) if isinstance(secret, str) else secret
        self._header = header.lower()
        Metadata([(self._header, "")])  # a name that can't be is refused here, where it was written
        if scheme is None:
            scheme = "Bearer" if self._header == "authorization" else ""
        self._before = f"{scheme} " if scheme else ""

    async def apply(self, call: Call) -> None:
        """Add the field; SecretError where there is no secret."""
        secret = self._secret if isinstance(self._secret, Secret) else await self._secret.get()
        call.metadata.set(self._header, self._before + secret.reveal())

    async def refresh(self) -> bool:
        """Read the secret again: it may have been rotated; False where it can't be."""
        if isinstance(self._secret, Secret):
            return False
        await self._secret.refresh()
        return True

    def __repr__(self) -> str:
        return f"SecretHeader({self._header!r})"
