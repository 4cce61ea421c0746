"""OAuth 2 client credentials (RFC 6749 §4.4): tokens that a client gets for itself of an authorization server."""

import base64
import json
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from interlock.call import Call
from interlock.errors import Internal, Unavailable
from interlock.metadata import Metadata
from interlock.security.credentials import bearer_metadata
from interlock.security.renewal import Renewed, Term
from interlock.security.secret import Secret, WatchedSecret

_LARGEST = 64 * 1024
_UNSAID = 300.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ClientCredentials:
    """Shows a token that `token_url` gives for a client's id and secret; kept, and renewed ahead of its end.

    However many calls wait, one request is under way; a refused token is replaced at most every 10 s. `secret` may be a
    `WatchedSecret`, which is read again when the server refuses it. The URL must be `https://`, but on this machine.
    Unavailable where the server does not answer, Internal where it refuses the client. Belongs to one event loop.
    """

    def __init__(
        self,
        token_url: str,
        client_id: str,
        secret: Secret | WatchedSecret | str,
        *,
        scope: str = "",
        audience: str = "",
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        place = urlsplit(token_url)
        if place.scheme != "https" and not (place.scheme == "http" and place.hostname in _LOOPBACK):
            raise ValueError("a token endpoint is an https:// URL: a secret is sent there")
        self._url = token_url
        self._client_id = client_id
        self._secret = Secret(secret) if isinstance(secret, str) else secret
        self._fields = {"grant_type": "client_credentials", "scope": scope, "audience": audience}
        self._tls = tls
        self._renewed: Renewed[Metadata] = Renewed(self._fetch, repr(self), now=now)

    async def apply(self, call: Call) -> None:
        """Add the token, fetched or renewed if it is time."""
        call.metadata.extend(await self._renewed.get())

    async def refresh(self) -> bool:
        """Get another one, unless that was done less than 10 s ago: then the one there is may be newer."""
        await self._renewed.refresh()
        return True

    async def _fetch(self) -> Term[Metadata]:
        try:
            document = await self._ask()
        except _Refused:
            if not isinstance(self._secret, WatchedSecret):
                raise
            await self._secret.refresh()  # it may have been rotated meanwhile
            document = await self._ask()
        return self._term(document)

    async def _ask(self) -> bytes:
        from interlock.security.web import WebError, post_form  # noqa: PLC0415 - an HTTP client, where one is needed

        secret = await self._secret.get() if isinstance(self._secret, WatchedSecret) else self._secret
        pair = f"{quote(self._client_id, safe='')}:{quote(secret.reveal(), safe='')}"  # RFC 6749 §2.3.1
        basic = "Basic " + base64.b64encode(pair.encode()).decode()
        fields = {name: value for name, value in self._fields.items() if value}
        try:
            return await post_form(self._url, fields, most=_LARGEST, tls=self._tls, headers={"authorization": basic})
        except WebError as failed:
            if failed.status in (400, 401, 403):
                raise _Refused(f"the token endpoint refused the client {self._client_id!r}: {failed}") from None
            raise Unavailable(f"no token can be had at the moment: {failed}") from None

    def _term(self, document: bytes) -> Term[Metadata]:
        try:
            said: Any = json.loads(document) if len(document) <= _LARGEST else None
            token, lifetime = said["access_token"], float(said.get("expires_in", _UNSAID))
            metadata = bearer_metadata(token)
            bearer = str(said["token_type"]).lower() == "bearer" and 0 < lifetime < float("inf")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            bearer = False
        if not bearer:
            raise Unavailable(f"{self._url} gave something that is no bearer token") from None
        return Term(value=metadata, renew_in=0.8 * lifetime, ends_in=lifetime)

    def __repr__(self) -> str:
        return f"ClientCredentials({self._url!r}, {self._client_id!r})"


class _Refused(Internal):
    """The client itself was refused."""
