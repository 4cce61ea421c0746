"""`serving`: an app on a real port inside the running event loop, for tests and several services in one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.server.service import Service
from interlock.server.sockets import address_of, authority, close, listen

if TYPE_CHECKING:
    from interlock.server.application import Application


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The files of a TLS identity; with `client_authorities` every client must show a certificate."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an app is served. `str()` is `host:port`, as a gRPC client takes it."""

    host: str
    port: int
    operations_port: int = 0
    secure: bool = False

    def __str__(self) -> str:
        return authority(self.host, self.port)

    @property
    def url(self) -> str:
        """The base URL of REST and Connect."""
        return f"{'https' if self.secure else 'http'}://{self}"

    @property
    def operations_url(self) -> str:
        """The base URL of the operations port; empty without one."""
        return f"http://{authority(self.host, self.operations_port)}" if self.operations_port else ""


@asynccontextmanager
async def serving(
    app: "Application",
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    operations: bool = False,
    tls: Tls | None = None,
    drain_limit: float | None = None,
) -> AsyncIterator[Address]:
    """Start `app`, serve it on `host` (port 0: a free one) while the block runs, then drain and stop it.

    `operations` opens an operations port too, a free one. All else is what the app's settings say.
    """
    changed: dict[str, object] = {}
    if tls is not None:
        changed |= {
            "tls_certificate": tls.certificate,
            "tls_key": tls.key,
            "tls_client_authorities": tls.client_authorities,
        }
    if drain_limit is not None:
        changed["drain_limit"] = _seconds(drain_limit)
    settings = app.settings.model_copy(update=changed)
    api = listen(host, port, "port")
    extra = listen(host, 0, "operations_port") if operations else []
    service = Service(app, api, extra, settings=settings)
    try:
        await service.start()
        bound_host, bound_port = address_of(api[0])
        yield Address(
            host=bound_host,
            port=bound_port,
            operations_port=address_of(extra[0])[1] if extra else 0,
            secure=settings.tls_certificate is not None,
        )
    finally:
        await service.drain()
        close([*api, *extra])


def _seconds(value: float) -> object:
    from datetime import timedelta  # noqa: PLC0415

    return timedelta(seconds=value)
