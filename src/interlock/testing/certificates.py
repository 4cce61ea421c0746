"""Certificates of an authority of the tests' own, by `trustme`."""

from pathlib import Path
from typing import TYPE_CHECKING

from interlock.protocols.client_tls import Tls as ClientTls
from interlock.server import Tls

if TYPE_CHECKING:
    import trustme


class Certificates:
    """Issues certificates into `directory`; ModuleNotFoundError without `trustme`."""

    def __init__(self, directory: Path) -> None:
        import trustme  # noqa: PLC0415 - for tests with TLS

        self._authority = trustme.CA()
        self._directory = directory
        self.authorities = directory / "authorities.pem"
        self.authorities.write_bytes(self._authority.cert_pem.bytes())

    def server(self, *names: str, mutual: bool = False) -> Tls:
        """Return the identity of a server under these names (default: localhost and 127.0.0.1).

        With `mutual` every client must show a certificate of this authority.
        """
        leaf = self._authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
        certificate, key = self._written(leaf)
        return Tls(certificate=certificate, key=key, client_authorities=self.authorities if mutual else None)

    def client(self, *names: str) -> ClientTls:
        """Return what a client needs: the authority, and with names (such as `orders.shop.internal`) a certificate."""
        if not names:
            return ClientTls(authorities=self.authorities)
        certificate, key = self._written(self._authority.issue_cert(*names))
        return ClientTls(authorities=self.authorities, certificate=certificate, key=key)

    def _written(self, leaf: "trustme.LeafCert") -> tuple[Path, Path]:
        number = sum(1 for _ in self._directory.glob("*.crt"))
        certificate, key = self._directory / f"{number}.crt", self._directory / f"{number}.key"
        certificate.write_bytes(b"".join(each.bytes() for each in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        return certificate, key
