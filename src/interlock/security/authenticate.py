"""Authentication of SERVED calls, on the head alone: a bearer token, or under mutual TLS the client's certificate."""

import logging
from typing import TYPE_CHECKING

from interlock.call import Call, Handler, Layer, Middleware, Principal, Reply
from interlock.contract.model import Operation
from interlock.errors import Unauthenticated
from interlock.security.refused import CredentialRefused

if TYPE_CHECKING:
    from interlock.security.mutual_tls import CertificateIdentities
    from interlock.security.verifier import Verifier

log = logging.getLogger("interlock.security")

REFUSED = "no valid credential came with the call; send a token as 'authorization: Bearer TOKEN'"
"""What every caller is told whose credential is missing or does not verify; why stands in the log alone."""

UNCONFIGURED = (
    "this service has no keys to verify tokens with; in development make them with `interlock keys new` and a token "
    "with `interlock keys token --subject ME --role ROLE`; elsewhere set INTERLOCK_JWKS to a JWKS file or URL"
)
"""What every caller is told where no keys were ever made."""


def authenticate(verifier: "Verifier | None", certificates: "CertificateIdentities | None" = None) -> Layer:
    """Set `call.principal` from the bearer token, else from a client certificate where `certificates` is given.

    A call without either is refused as UNAUTHENTICATED, but for operations that the contract opens to anybody, whose
    calls have no principal. Without a verifier no token is taken.
    """

    def layer(operation: Operation) -> Middleware | None:
        if operation.unauthenticated:
            return None
        identify = _Identify(operation, verifier, certificates)

        async def identified(call: Call, proceed: Handler) -> Reply:
            header: bytes | None = None
            several = False
            for name, value in call.metadata.raw:
                if name == b"authorization":
                    several = header is not None
                    header = value
            principal = None
            if header is not None and verifier is not None and not several:
                principal = verifier.known(header)
            call.principal = principal or await identify(call, header, several)
            return await proceed(call)

        return identified

    return layer


class _Identify:
    """The slow way: a token or certificate that was not seen before, or none that counts."""

    def __init__(
        self, operation: Operation, verifier: "Verifier | None", certificates: "CertificateIdentities | None"
    ) -> None:
        self._operation = operation
        self._verifier = verifier
        self._certificates = certificates

    async def __call__(self, call: Call, header: bytes | None, several: bool) -> Principal:
        try:
            if several:
                raise CredentialRefused("several authorization headers came")  # noqa: TRY301 - told like every other
            return await self._principal(call, header)
        except CredentialRefused as refused:
            log.warning("%s refused a call of %s: %s", self._operation, call.peer.address or "this process", refused)
        configured = self._certificates is not None or (self._verifier is not None and self._verifier.configured)
        raise Unauthenticated(REFUSED if configured else UNCONFIGURED)

    async def _principal(self, call: Call, header: bytes | None) -> Principal:
        if header is None and self._certificates is not None and (chain := call.peer.certificates):
            return self._certificates.principal(chain[0])
        if self._verifier is None:
            raise CredentialRefused("there is nothing to verify tokens with")
        if header is None:
            await self._verifier.start()  # it tells whether there are keys, without which no token helps
            raise CredentialRefused("no token came")
        return await self._verifier.verify(header)
