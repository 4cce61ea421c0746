"""Identity from a client certificate that the TLS layer has verified."""

import re
import time
from collections import OrderedDict
from collections.abc import Mapping

from cryptography import x509

from interlock.call import Principal
from interlock.security.keys import Now
from interlock.security.refused import CredentialRefused

ISSUER = "mutual-tls"
_NOTHING: frozenset[str] = frozenset()
_NAME = re.compile(r"[A-Za-z0-9._~%!$&'()+,;=:@/-]{1,255}\Z")
"""A URI or a DNS name, without what could end a line of a log."""


class CertificateIdentities:
    """Principals of client certificates: subject is the SPIFFE URI in its SAN, else its first DNS name of a host.

    `roles` gives each such name its roles; a name that is not in it has none. Remembers up to `most` certificates.
    """

    def __init__(self, roles: Mapping[str, frozenset[str]], *, most: int = 1024, now: Now = time.time) -> None:
        self._roles = roles
        self._most = most
        self._now = now
        self._seen: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    def principal(self, pem: str) -> Principal:
        """Return who the leaf certificate `pem` names; `CredentialRefused` if it names nobody, or its time is over."""
        found = self._seen.get(pem)
        if found is None:
            found = self._seen[pem] = self._read(pem)
            if len(self._seen) > self._most:
                self._seen.popitem(last=False)
        if self._now() >= found[1]:  # a connection outlives the handshake that checked it
            raise CredentialRefused("the client certificate has expired")
        return found[0]

    def _read(self, pem: str) -> tuple[Principal, float]:
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            subject = _subject(certificate)
        except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
            subject = None
        if subject is None:
            raise CredentialRefused(
                "the client certificate has neither one SPIFFE URI nor the DNS name of a host as SAN"
            )
        principal = Principal(subject=subject, issuer=ISSUER, roles=self._roles.get(subject, _NOTHING))
        return principal, certificate.not_valid_after_utc.timestamp()


def _subject(certificate: x509.Certificate) -> str | None:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    spiffe = [
        each for each in names.get_values_for_type(x509.UniformResourceIdentifier) if each.startswith("spiffe://")
    ]
    if len(spiffe) > 1:  # the X.509-SVID standard, §2, allows one
        return None
    hosts = [each for each in names.get_values_for_type(x509.DNSName) if "*" not in each]
    found = next(iter([*spiffe, *hosts]), "")
    return found if _NAME.match(found) else None
