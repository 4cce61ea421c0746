"""A certificate authority for one's own machines, and certificates of services: for development and small platforms.

All functions block. Keys are ECDSA P-256, readable for their owner alone.
"""

import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY = "authority"
_AUTHORITY_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=90)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_BACKDATED = timedelta(minutes=5)


class CertificateError(Exception):
    """Certificates that cannot be made or read; the text says what to do."""


def new_authority(directory: Path, *, name: str = "Interlock local authority") -> Path:
    """Make `authority.pem` and `authority.key` in `directory`; return the former. `CertificateError` if there are."""
    certificate, key_file = directory / f"{AUTHORITY}.pem", directory / f"{AUTHORITY}.key"
    if certificate.exists() or key_file.exists():
        raise CertificateError(f"there is an authority in {directory} already")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, key.public_key(), _AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_key(key_file, key)
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return certificate


def issue(
    directory: Path,
    name: str,
    names: Iterable[str],
    *,
    lifetime: timedelta = LIFETIME,
) -> tuple[Path, Path]:
    """Make the certificate `NAME.pem` and its key `NAME.key`, signed by the authority in `directory`.

    `names` are what it stands for: DNS names, IP addresses, `spiffe://` URIs; it serves both ends of mutual TLS. What
    is there is replaced, key first. `CertificateError` without an authority, or for a name that is none.
    """
    if not _NAME.match(name) or name == AUTHORITY:
        raise CertificateError(f"{name!r} is no name of a certificate: up to 64 letters, digits, '.', '_' and '-'")
    authority, authority_key = _load(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    alternatives = [_alternative(each) for each in names] or [x509.DNSName(name)]
    builder = (
        _builder(subject, authority.subject, key.public_key(), lifetime)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    certificate = builder.sign(authority_key, hashes.SHA256())
    place, key_place = directory / f"{name}.pem", directory / f"{name}.key"
    _write_key(key_place, key)
    fresh = place.with_suffix(".new")
    fresh.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    fresh.replace(place)
    return place, key_place


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    if "://" in name:
        if not re.match(r"spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)*\Z", name):
            raise CertificateError(f"{name!r} is no SPIFFE URI; one reads spiffe://shop/orders")
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    if not re.match(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z", name):
        raise CertificateError(f"{name!r} is no DNS name, IP address or SPIFFE URI")
    return x509.DNSName(name)


def _load(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((directory / f"{AUTHORITY}.pem").read_bytes())
        key = serialization.load_pem_private_key((directory / f"{AUTHORITY}.key").read_bytes(), None)
    except FileNotFoundError as missing:
        raise CertificateError(f"{missing.filename} is missing, so there is no authority to sign with") from None
    except (OSError, ValueError) as error:
        raise CertificateError(f"the authority in {directory} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateError(f"the authority's key in {directory} is not the one of its certificate")
    return certificate, key


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    fresh = path.with_suffix(".new-key")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(file, "wb") as out:
        out.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    fresh.replace(path)
