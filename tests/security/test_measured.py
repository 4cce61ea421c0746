"""What is told of credentials as metrics: until when certificates are good, how old secrets are."""

from datetime import timedelta
from pathlib import Path

import pytest

from interlock.security.certificates import issue, new_authority
from interlock.security.expiry import CertificateExpiry
from interlock.security.secret import Reading, Secret, SecretError, WatchedSecret
from interlock.settings import Settings
from tests.sample.handlers import make
from tests.security.forging import Clock


def samples(text: str, family: str) -> dict[str, float]:
    """Return the samples of a gauge by their labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith(family))
    return {name.removeprefix(family): float(value) for name, _, value in lines}


def test_certificates_tell_when_they_end(tmp_path: Path) -> None:
    """Of the file as it stands now: a new one counts at once, a broken one is left out, one that ended is below 0."""
    new_authority(tmp_path)
    certificate, _ = issue(tmp_path, "server", ["localhost"], lifetime=timedelta(days=2))
    expiry = CertificateExpiry({"server": certificate, "client_authorities": tmp_path / "authority.pem"})
    before = expiry()
    assert before["server",] == pytest.approx(2 * 86_400, abs=120)
    assert before["client_authorities",] == pytest.approx(3650 * 86_400, abs=120)
    issue(tmp_path, "server", ["localhost"], lifetime=timedelta(days=30))
    assert expiry()["server",] == pytest.approx(30 * 86_400, abs=120)
    later = Clock(expiry._now() + 31 * 86_400)
    assert CertificateExpiry({"server": certificate}, now=later)()["server",] < 0
    certificate.write_text("no certificate")
    assert set(expiry()) == {("client_authorities",)}
    certificate.unlink()
    assert set(expiry()) == {("client_authorities",)}


async def test_an_app_shows_them(tmp_path: Path) -> None:
    """Its certificate and authorities, and each secret that is watched in its process, once it was read."""
    new_authority(tmp_path)
    certificate, key = issue(tmp_path, "server", ["localhost"])
    authorities = tmp_path / "authority.pem"
    settings = Settings(
        keys=tmp_path, tls_certificate=certificate, tls_key=key, tls_client_authorities=authorities, operations_port=0
    )
    metrics = make(settings=settings)._parts.metrics
    clock = Clock()

    async def read() -> Reading:
        return Reading(secret=Secret("hunter2-planted"), made_at=clock.at - 500)

    async def fail() -> Reading:
        raise SecretError("there is none")

    watched, unread = WatchedSecret(read, "mail password", now=clock), WatchedSecret(fail, "nothing")
    assert (await watched.get()).reveal() == "hunter2-planted"
    with pytest.raises(SecretError):
        await unread.get()
    text = metrics.exposition()[1].decode()
    ends = samples(text, "service_certificate_expiry_seconds")
    assert set(ends) == {'{certificate="server"}', '{certificate="client_authorities"}'}
    assert ends['{certificate="server"}'] > 80 * 86_400
    assert samples(text, "service_secret_age_seconds")['{secret="mail password"}'] == 500
    assert "nothing" not in text
    assert "hunter2" not in text
