"""One listening port served by h2corn, whose certificate can be replaced while it serves.

h2corn reads certificates once, so a new certificate means a new `h2corn.Server` on the same socket: it accepts before
the old one stops, and the old one lets its calls finish. `_serve_worker_fds` and `prepare_tls` are what h2corn's own
supervisor uses; its public `Server.serve` prints a banner of its own and reads the certificate files itself.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Awaitable, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h2corn
from h2corn._lib import prepare_tls
from h2corn._server import TlsMaterial

from interlock.server.application import Asgi, Receive, Scope, Send, StartError
from interlock.server.hangups import Hangups

if TYPE_CHECKING:
    from interlock.settings import Settings

log = logging.getLogger("interlock.server")

CUT_MARGIN = 5.0
"""Seconds that h2corn waits longer than we do, so that we decide what becomes of a call."""


_IO_THREAD = "tokio-rt"
LAST_ANSWERS = 0.1
"""Seconds in which answers over HTTP/1.1 ask to close, before idle connections are closed from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Certificate chain, private key and client authorities, as PEM bytes of one moment."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_authorities: bytes | None = None


class _Face:
    """What one h2corn server calls: the app, and in the end the app with `connection: close` on HTTP/1.1.

    h2corn closes HTTP/1.1 connections between two requests without a word, so that a request under way at that moment
    is lost, unseen by the app. HTTP/2 has GOAWAY for that.
    """

    __slots__ = ("_hangups", "app")

    def __init__(self, app: Asgi) -> None:
        self.app = app
        self._hangups = Hangups()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope.get("http_version") == "1.1":
            receive = self._hangups.watching(scope, receive)
        return self.app(scope, receive, send)

    def leave(self) -> None:
        """Answer from now on with `connection: close`."""
        app = self.app

        async def closing(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_closing(event: MutableMapping[str, Any]) -> None:
                if event["type"] == "http.response.start":
                    event = {**event, "headers": [*event.get("headers", ()), (b"connection", b"close")]}
                await send(event)

            await app(scope, receive, send_closing if scope.get("http_version", "").startswith("1") else send)

        self.app = closing


class Listener:
    """A port: `start` it, `replace` its identity, `stop` accepting, and wait until it has `ended`."""

    def __init__(
        self, app: Asgi, sockets: Sequence[socket.socket], config: h2corn.Config, identity: Identity | None = None
    ) -> None:
        self._app = app
        self._sockets = sockets
        self._config = config
        self._server: h2corn.Server | None = None
        self._face = _Face(app)
        self._serving: set[asyncio.Task[None]] = set()
        self._prepared = self._prepare(identity)

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any longer."""
        return not self._serving

    async def start(self) -> None:
        """Accept connections; `StartError` if that does not succeed."""
        self._server = await self._begin(self._prepared)

    async def replace(self, identity: Identity) -> None:
        """Show `identity` to whoever connects from now on; connections there are drain. ValueError if it is broken."""
        try:
            prepared = self._prepare(identity)
        except StartError as error:
            raise ValueError(str(error)) from error
        old, old_face = self._server, self._face
        self._server = await self._begin(prepared)
        self._prepared = prepared
        if old is not None:
            old_face.leave()
            await asyncio.sleep(LAST_ANSWERS)
            old.shutdown()

    def leave(self) -> None:
        """Go on accepting, and ask clients of HTTP/1.1 to make no second request on their connection."""
        self._face.leave()

    def stop(self) -> None:
        """Accept no more; calls in flight go on."""
        if self._server is not None:
            self._server.shutdown()

    async def join(self, limit: float | None = None) -> bool:
        """Wait until all connections are closed, at most `limit` seconds; tell whether they are."""
        if self._serving:
            await asyncio.wait(set(self._serving), timeout=limit)
        return self.ended

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._serving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a listener ended badly: %s", error)

    def _prepare(self, identity: Identity | None) -> Any:
        if identity is None:
            return prepare_tls(self._config, None)
        material = TlsMaterial(
            certificate=identity.certificate, private_key=identity.key, client_ca=identity.client_authorities
        )
        try:
            return prepare_tls(self._config, material)
        except (OSError, ValueError) as error:
            raise StartError(f"TLS certificate and key do not serve: {error}") from error

    async def _begin(self, prepared: Any) -> h2corn.Server:
        self._face = _Face(self._app)
        server = h2corn.Server(self._face, self._config)
        descriptors = [os.dup(each.fileno()) for each in self._sockets]
        task = asyncio.create_task(server._serve_worker_fds(descriptors, prepared_tls=prepared))
        self._serving.add(task)
        task.add_done_callback(self._ended)
        try:
            await server.wait_started()
        except (OSError, ValueError, RuntimeError) as error:
            raise StartError(f"the port cannot be served: {error}") from error
        _let_python_finish()
        return server


def _let_python_finish() -> None:
    """Keep h2corn's I/O threads from pushing the Python thread off its core each time a reply is handed to them.

    A batch thread that wakes does not preempt (sched(7)); on an idle core it runs at once. Without it a request costs
    up to four switches of threads where there are more threads than cores, about 40 µs.
    """
    if not sys.platform.startswith("linux"):
        return
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that just ended, or a sandbox that forbids it
            if (task / "comm").read_text().startswith(_IO_THREAD):
                os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))


def api_config(
    settings: "Settings", streaming_paths: Sequence[str] = (), cut_after: float | None = None
) -> h2corn.Config:
    """Return h2corn's options for the API port: its own caps stand above the app's, which answer with an envelope."""
    stall = settings.stream_idle_timeout.total_seconds()
    idle = settings.body_idle_timeout.total_seconds()
    certificate, authorities = settings.tls_certificate, settings.tls_client_authorities
    return h2corn.Config(
        bind=("fd://0",),  # never opened: the descriptors are handed over beside it
        lifespan="off",
        grpc=True,
        access_log=False,
        log_format="json" if settings.log_format == "json" else "text",
        certfile=certificate,
        keyfile=settings.tls_key,
        ca_certs=authorities,
        cert_reqs="none" if authorities is None else "required",
        # bodies are bounded by the app: a client stream has no length, its messages have
        max_request_body_size=0,
        request_policies=(
            *(_policy(path, stall, stall) for path in streaming_paths),
            _policy("/*", idle, stall),
        ),
        max_concurrent_streams=settings.max_concurrent_streams,
        limit_connections=settings.max_connections,
        limit_request_head_size=4 * settings.header_bytes + 65536,
        limit_request_line=settings.header_bytes + 32768,
        limit_request_field_size=settings.header_bytes + 32768,
        limit_request_fields=2 * settings.header_fields,
        h2_max_header_list_size=4 * settings.header_bytes + 65536,
        h2_max_header_block_size=4 * settings.header_bytes + 65536,
        h2_initial_stream_window_size=settings.stream_window_bytes,
        h2_initial_connection_window_size=settings.connection_window_bytes,
        timeout_request_header=settings.header_timeout.total_seconds(),
        timeout_keep_alive=settings.keep_alive.total_seconds(),
        timeout_graceful_shutdown=cut_after or settings.drain_limit.total_seconds() + CUT_MARGIN,
    )


def _policy(path: str, idle: float, stall: float) -> h2corn.RequestPolicy:
    return h2corn.RequestPolicy(
        path=path, max_request_body_size=0, timeout_request_body_idle=idle, h2_timeout_response_stall=stall
    )


def operations_config(settings: "Settings") -> h2corn.Config:
    """Return h2corn's options for the operations port: plain, small, and gone quickly."""
    return h2corn.Config(
        bind=("fd://0",),
        lifespan="off",
        access_log=False,
        log_format="json" if settings.log_format == "json" else "text",
        max_request_body_size=1 << 20,
        limit_request_head_size=65536,
        h2_max_header_list_size=65536,
        h2_initial_stream_window_size=65535,
        h2_initial_connection_window_size=65535,
        timeout_graceful_shutdown=CUT_MARGIN,
    )
