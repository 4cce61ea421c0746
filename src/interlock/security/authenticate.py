"""Authentication of SERVED calls, on the head alone: a bearer token, an API key, or the client's certificate."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from interlock.call import Call, Handler, Layer, Middleware, Principal, Reply
from interlock.contract.model import Operation
from interlock.errors import Unauthenticated
from interlock.metadata import Metadata
from interlock.security import audit
from interlock.security.edge import UNTRUSTED
from interlock.security.refused import CredentialRefused

if TYPE_CHECKING:
    from interlock.security.api_keys import ApiKeys
    from interlock.security.mutual_tls import CertificateIdentities
    from interlock.security.verifier import Verifier

REFUSED = "no valid credential came with the call; send a token as 'authorization: Bearer TOKEN'"
"""What every caller is told whose credential is missing or does not verify; why stands in the log alone."""

UNCONFIGURED = (
    "this service has no keys to verify tokens with; in development make them with `interlock keys new` and a token "
    "with `interlock keys token --subject ME --role ROLE`; elsewhere set INTERLOCK_JWKS to a JWKS file or URL"
)
"""What every caller is told where no keys were ever made."""


def authenticate(
    verifier: "Verifier | None",
    certificates: "CertificateIdentities | None" = None,
    api_keys: "ApiKeys | None" = None,
) -> Layer:
    """Set `call.principal` from the bearer token, else from an API key, else from a client certificate.

    Keys and certificates count where `api_keys` and `certificates` are given, tokens where a `verifier` is. A call
    with none of them, or with a token and a key, is refused as UNAUTHENTICATED, but for operations that the contract
    opens to anybody, whose calls have no principal. Headers that claim an identity otherwise are dropped.
    """

    def layer(operation: Operation) -> Middleware:
        if operation.unauthenticated:
            return _anybody
        identify = _Identify(verifier, certificates, api_keys)

        def identified(call: Call, proceed: Handler) -> Awaitable[Reply]:
            given = call.metadata.index
            if not UNTRUSTED.isdisjoint(given):
                given = _dropped(call).index
            header, key = given.get(b"authorization"), given.get(b"x-api-key")
            several = len(given) != len(call.metadata.raw) and call.metadata.repeats(_CREDENTIALS)
            principal = None
            if header is not None and verifier is not None and not several and key is None:
                principal = verifier.known(header)
            if principal is None:
                return _slowly(identify(call, header, key, several=several), call, proceed)
            call.principal = principal
            return proceed(call)

        return identified

    return layer


async def _slowly(identifying: Awaitable[Principal], call: Call, proceed: Handler) -> Reply:
    call.principal = await identifying
    return await proceed(call)


def _anybody(call: Call, proceed: Handler) -> Awaitable[Reply]:
    if not UNTRUSTED.isdisjoint(call.metadata.index):
        _dropped(call)
    return proceed(call)


def _dropped(call: Call) -> Metadata:
    call.metadata = Metadata.from_raw([pair for pair in call.metadata.raw if pair[0] not in UNTRUSTED])
    return call.metadata


_CREDENTIALS = (b"authorization", b"x-api-key")


class _Identify:
    """The slow way: a token or certificate that was not seen before, an API key, or none that counts."""

    def __init__(
        self,
        verifier: "Verifier | None",
        certificates: "CertificateIdentities | None",
        api_keys: "ApiKeys | None",
    ) -> None:
        self._verifier = verifier
        self._certificates = certificates
        self._api_keys = api_keys

    async def __call__(self, call: Call, header: bytes | None, key: bytes | None, *, several: bool) -> Principal:
        try:
            if several:
                raise CredentialRefused("several credentials of one kind came")  # noqa: TRY301 - told like every other
            return await self._principal(call, header, key)
        except CredentialRefused as refused:
            audit.refused(call, refused)
        raise Unauthenticated(REFUSED if self._configured else UNCONFIGURED)

    @property
    def _configured(self) -> bool:
        verifies = self._verifier is not None and self._verifier.configured
        return verifies or self._certificates is not None or self._api_keys is not None

    async def _principal(self, call: Call, header: bytes | None, key: bytes | None) -> Principal:
        if key is not None and self._api_keys is not None:
            if header is not None:
                raise CredentialRefused("a token and an API key came")
            address = call.peer.address.rpartition(":")[0]
            return self._api_keys.known(key) or await self._api_keys.verify(key, address)
        if header is None and self._certificates is not None and (chain := call.peer.certificates):
            return self._certificates.principal(chain[0])
        if self._verifier is None:
            raise CredentialRefused("there is nothing to verify tokens with")
        if header is None:
            await self._verifier.start()  # it tells whether there are keys, without which no token helps
            raise CredentialRefused("no token came")
        return await self._verifier.verify(header)
