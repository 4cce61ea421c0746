"""Until when certificates are good, as a metric: those in the files that are served, as they are on disk now."""

import time
from collections.abc import Mapping
from pathlib import Path

from interlock.security.gauges import Gauges
from interlock.security.keys import Now


class CertificateExpiry:
    """Tells in how many seconds the first certificate of each file ends; below 0 once it has.

    `files` are PEM chains or bundles by what they are called. One is read again when it has changed; one that cannot be
    read is left out.
    """

    def __init__(self, files: Mapping[str, Path], *, now: Now = time.time) -> None:
        self._files = files
        self._now = now
        self._ends: dict[str, tuple[tuple[int, int, int], float]] = {}

    def measured(self, metrics: Gauges) -> None:
        """Show it as a metric."""
        text = "Seconds until a served certificate ends."
        metrics.gauge("service_certificate_expiry_seconds", text, self, labels=("certificate",), merge="min")

    def __call__(self) -> dict[tuple[str, ...], float]:
        """Return the seconds by name."""
        now = self._now()
        ends = {name: self._end(name, path) for name, path in self._files.items()}
        return {(name,): end - now for name, end in ends.items() if end is not None}

    def _end(self, name: str, path: Path) -> float | None:
        from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - where there are certificates

        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            found = self._ends.get(name)
            if found is None or found[0] != stamp:
                chain = load_pem_x509_certificates(path.read_bytes())
                end = min(each.not_valid_after_utc for each in chain)
                found = self._ends[name] = stamp, end.timestamp()
        except (OSError, ValueError):
            return None
        return found[1]
