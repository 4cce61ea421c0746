"""What proves who somebody is: signing keys, roles, certificates; present, sound, not too old."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from interlock.doctor.finding import Finding, Patient, fault, note, ok
from interlock.security.access import RolesError, load_roles
from interlock.security.keys import KeySetError, load_keys

OLDEST = timedelta(days=90)
"""Age at which the standard wants a key or credential replaced."""

SOON = timedelta(days=14)
"""How long before its end a certificate is worth a note."""


async def keys(patient: Patient) -> Sequence[Finding]:
    """Look for what tokens are verified with, and at the age of the key that signs."""
    settings = patient.settings
    if settings.jwks:
        return [ok("keys", f"tokens are verified with {settings.jwks}")]
    try:
        found = load_keys(settings.keys)
    except KeySetError as error:
        remedy = "`interlock keys new` makes keys; or set INTERLOCK_JWKS to the issuer's key set"
        return [fault("keys", str(error).partition(";")[0], remedy)]
    findings = [_guarded(settings.keys)]
    made = found.published[0].made
    age = None if made is None else datetime.now(UTC) - made
    if age is not None and age > OLDEST:
        findings.append(note("keys", f"the key that signs is {age.days} days old", "`interlock keys rotate`"))
    else:
        findings.append(ok("keys", f"{len(found.published)} in {settings.keys}, signing with {found.kid[:8]}…"))
    return findings


def _guarded(directory: Path) -> Finding:
    loose = [path for path in sorted(directory.glob("*.pem")) if path.stat().st_mode & 0o077]
    if loose:
        return fault("keys", f"others may read {loose[0]}", f"chmod 600 {' '.join(map(str, loose))}")
    return ok("keys", "private keys can be read by their owner only")


async def roles(patient: Patient) -> Sequence[Finding]:
    """Read the roles file; without one nobody may do anything that needs a permission."""
    path = patient.settings.roles
    if path is None:
        remedy = "write one (docs: Security) and name it in INTERLOCK_ROLES"
        return [note("roles", "no roles file: every operation with a permission is refused", remedy)]
    try:
        load_roles(path)
    except RolesError as error:
        return [fault("roles", str(error), f"put {path} right; `interlock show access` shows what it permits")]
    return [ok("roles", str(path))]


async def certificates(patient: Patient) -> Sequence[Finding]:
    """Read certificate, key and authorities: whether they fit together, and how long they are good."""
    settings = patient.settings
    if settings.tls_certificate is None or settings.tls_key is None:
        if settings.environment == "production":
            remedy = "set INTERLOCK_TLS_CERTIFICATE and INTERLOCK_TLS_KEY, unless a proxy in front does TLS"
            return [note("certificates", "TLS is off in production", remedy)]
        return [ok("certificates", "TLS is off, as is usual in development")]
    findings = [_own(settings.tls_certificate, settings.tls_key)]
    if settings.tls_client_authorities is not None:
        findings.append(_good_until("client authorities", settings.tls_client_authorities))
    return findings


def _own(certificate: Path, key: Path) -> Finding:
    import ssl  # noqa: PLC0415 - only here

    for path in (certificate, key):
        if not path.is_file():
            return fault(
                "certificates", f"{path} is no file", "put it there, or change INTERLOCK_TLS_CERTIFICATE, _KEY"
            )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error)
        return fault(
            "certificates", f"{certificate} and {key} do not serve: {reason}", "use the key of this certificate"
        )
    return _good_until("certificates", certificate)


def _good_until(part: str, path: Path) -> Finding:
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - only here

    try:
        chain = load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        return fault(part, f"{path} cannot be read: {error}", "it must hold PEM certificates")
    now = datetime.now(UTC)
    first = min(each.not_valid_after_utc for each in chain)
    if first < now:
        return fault(part, f"{path} is out of date since {first:%Y-%m-%d %H:%M} UTC", "renew it")
    if max(each.not_valid_before_utc for each in chain) > now:
        return fault(part, f"{path} is not valid yet", "check this machine's clock, or wait")
    if first - now < SOON:
        return note(part, f"{path} ends on {first:%Y-%m-%d %H:%M} UTC", "renew it now; a running service takes it over")
    return ok(part, f"{path} is good until {first:%Y-%m-%d}")
