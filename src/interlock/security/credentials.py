"""Credentials of SENT calls: what a client shows, one attempt at a time. None of them is ever in a log or a `repr`."""

import json
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from interlock.call import Call, Handler, Layer, Middleware, Principal, Reply, current_call, in_thread
from interlock.contract.model import Operation
from interlock.errors import Unauthenticated
from interlock.metadata import Metadata
from interlock.security.renewal import Renewed, Term

_AUTHORIZATION = b"authorization"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/\-]+=*\Z")  # RFC 6750 §2.1
_DELEGATION = timedelta(minutes=5)
_MOST_CALLERS = 1024


class Credentials(Protocol):
    """What a client shows a service: added to each attempt, renewed once when it is refused."""

    async def apply(self, call: Call) -> None:
        """Add the credential to the metadata of `call`, behind what stands there."""
        ...

    async def refresh(self) -> bool:
        """Get another one, for a call was refused as UNAUTHENTICATED; False if there is none to be had."""
        ...


def credentials(given: Credentials) -> Layer:
    """Show a credential with each attempt, and once more with a fresh one if it is refused as UNAUTHENTICATED.

    What the caller set as `authorization` itself stays. A stream is not sent again: it gets the fresh one next time.
    """

    def layer(operation: Operation) -> Middleware:
        repeatable = not operation.kind.client_streams

        async def show(call: Call, proceed: Handler) -> Reply:
            if call.metadata.header(_AUTHORIZATION) is not None:
                return await proceed(call)
            own = len(call.metadata.raw)
            await given.apply(call)
            try:
                return await proceed(call)
            except Unauthenticated as refused:
                if not refused.received or not await given.refresh() or not repeatable:
                    raise
                shown = call.metadata
                call.metadata = Metadata.from_raw(shown.raw[:own])
                await given.apply(call)
                if call.metadata == shown:  # another call got it in the meantime, and it was refused as well
                    raise
            call._reply_headers = call._reply_trailers = None  # what came with the refusal is not the reply's
            return await proceed(call)

        return show

    return layer


def bearer_metadata(token: str) -> Metadata:
    """Return the metadata that shows a token; ValueError for what could not be one (RFC 6750 §2.1)."""
    if not _TOKEN.match(token):
        raise ValueError("that is no bearer token: it has other characters than RFC 6750 allows, or none")
    return Metadata.from_raw([(_AUTHORIZATION, b"Bearer " + token.encode("ascii"))])


class BearerToken:
    """A token from elsewhere, shown as it is; ValueError if it could not be one."""

    __slots__ = ("_metadata",)

    def __init__(self, token: str) -> None:
        self._metadata = bearer_metadata(token)

    async def apply(self, call: Call) -> None:
        """Add the token."""
        call.metadata.extend(self._metadata)

    async def refresh(self) -> bool:
        """There is no other."""
        return False

    def __repr__(self) -> str:
        return "BearerToken(…)"


class Forwarded:
    """The token of the call being served travels on; where there is none, `otherwise` is shown."""

    __slots__ = ("_otherwise",)

    def __init__(self, otherwise: Credentials | None = None) -> None:
        self._otherwise = otherwise

    async def apply(self, call: Call) -> None:
        """Add the caller's own token, else what stands in for it."""
        token = _callers_token()
        if token:
            call.metadata.extend(bearer_metadata(token))
        elif self._otherwise is not None:
            await self._otherwise.apply(call)

    async def refresh(self) -> bool:
        """Renew what stands in; a caller's token cannot be."""
        return self._otherwise is not None and not _callers_token() and await self._otherwise.refresh()

    def __repr__(self) -> str:
        return f"Forwarded({self._otherwise!r})" if self._otherwise is not None else "Forwarded()"


def forwarded(otherwise: Credentials | None = None) -> Forwarded:
    """Return the default: who calls us is who we call as; `otherwise` where nobody does (consumers, own work)."""
    return Forwarded(otherwise)


def _caller() -> Principal | None:
    serving = current_call.get()
    return serving.principal if serving is not None else None


def _callers_token() -> str:
    caller = _caller()
    return caller.credential if caller is not None else ""


class ServiceToken:
    """A service's own token, minted from a key set on disk, renewed once four fifths of its life are over.

    While it cannot be renewed the old one is shown. `keys` is the directory, `issuer` and `audience` are what the
    services called expect, `lifetime` is 1 s to 24 h. With `delegated`, a call that is made while another is served
    names its caller as the subject and this service as who acts for it (RFC 8693 §4.1), for 5 minutes at most; the
    roles are this service's. A refused token is replaced at most every 10 s, with the keys read again. Belongs to one
    event loop.
    """

    def __init__(
        self,
        subject: str,
        roles: Iterable[str] = (),
        *,
        keys: Path | str = "var/keys",
        issuer: str = "service-auth",
        audience: str = "microservices",
        lifetime: timedelta = timedelta(hours=1),
        delegated: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        if not subject:
            raise ValueError("a service's token needs the name of the service as its subject")
        self._subject = subject
        self._roles = tuple(roles)
        self._keys = Path(keys)
        self._issuer = issuer
        self._audience = audience
        self._lifetime = lifetime
        self._delegated = delegated
        self._now = now
        self._own = self._renewed(None)
        self._of_callers: OrderedDict[tuple[str, str, tuple[str, ...]], Renewed[Metadata]] = OrderedDict()

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Credentials:
        """Return what the environment says: the token in INTERLOCK_TOKEN, else one minted for INTERLOCK_SERVICE_NAME.

        INTERLOCK_SERVICE_ROLES (`a,b` or a JSON list), INTERLOCK_KEYS, INTERLOCK_TOKEN_ISSUER and
        INTERLOCK_TOKEN_AUDIENCE say the rest. ValueError if neither of the first two is set.
        """
        given = os.environ if environment is None else environment
        if token := given.get("INTERLOCK_TOKEN"):
            return BearerToken(token)
        subject = given.get("INTERLOCK_SERVICE_NAME", "")
        if not subject:
            raise ValueError(
                "set INTERLOCK_TOKEN to a token, or INTERLOCK_SERVICE_NAME to mint one from INTERLOCK_KEYS"
            )
        return cls(
            subject,
            _names(given.get("INTERLOCK_SERVICE_ROLES", "")),
            keys=given.get("INTERLOCK_KEYS", "var/keys"),
            issuer=given.get("INTERLOCK_TOKEN_ISSUER", "service-auth"),
            audience=given.get("INTERLOCK_TOKEN_AUDIENCE", "microservices"),
        )

    async def apply(self, call: Call) -> None:
        """Add the token, minted or renewed if it is time; `KeySetError` where there are no keys to mint it with."""
        call.metadata.extend(await self._shown().get())

    async def refresh(self) -> bool:
        """Mint another one, unless that was done less than 10 s ago: then the one there is may be newer."""
        await self._shown().refresh()
        return True

    def _shown(self) -> Renewed[Metadata]:
        caller = _caller() if self._delegated else None
        if caller is None or (caller.subject == self._subject and not caller.actors):
            return self._own
        key = (caller.subject, caller.issuer, caller.actors)
        found = self._of_callers.get(key)
        if found is None:
            found = self._of_callers[key] = self._renewed(caller)
            if len(self._of_callers) > _MOST_CALLERS:
                self._of_callers.popitem(last=False)
        self._of_callers.move_to_end(key)
        return found

    def _renewed(self, behalf: Principal | None) -> Renewed[Metadata]:
        lifetime = self._lifetime if behalf is None else min(self._lifetime, _DELEGATION)

        async def mint() -> Term[Metadata]:
            metadata = await in_thread(self._mint, behalf, lifetime)
            seconds = lifetime.total_seconds()
            return Term(value=metadata, renew_in=0.8 * seconds, ends_in=seconds)

        return Renewed(mint, repr(self), now=self._now)

    def _mint(self, behalf: Principal | None, lifetime: timedelta) -> Metadata:
        from interlock.security.keys import load_keys  # noqa: PLC0415 - clients that show no token need no library for it
        from interlock.security.tokens import Issuer  # noqa: PLC0415

        issuer = Issuer(keys=load_keys(self._keys), name=self._issuer, audience=self._audience, now=self._now)
        return bearer_metadata(issuer.mint(self._subject, self._roles, lifetime=lifetime, behalf=behalf))

    def __repr__(self) -> str:
        return f"ServiceToken({self._subject!r}, roles={list(self._roles)!r})"


def _names(text: str) -> list[str]:
    if text.startswith("["):
        return [str(each) for each in json.loads(text)]
    return [each.strip() for each in text.split(",") if each.strip()]
