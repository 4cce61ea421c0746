"""TLS towards a server, the same for every protocol that a client speaks."""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS towards a server: the authorities that verify it (None: the system's), our own certificate (PEM files)."""

    authorities: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None

    def context(self) -> ssl.SSLContext:
        """Read the files into a context; OSError if one can't be read (ssl.SSLError if it is no certificate or key)."""
        context = ssl.create_default_context(cafile=None if self.authorities is None else str(self.authorities))
        if self.certificate is not None:
            context.load_cert_chain(str(self.certificate), None if self.key is None else str(self.key))
        return context
