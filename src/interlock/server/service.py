"""One app at work in one event loop: started, its ports served, drained, stopped."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence

from interlock.server.application import Application, Receive, Scope, Send, StartError, told
from interlock.server.certificates import CertificateFiles, Rotation
from interlock.server.listener import CUT_MARGIN, LAST_ANSWERS, Listener, api_config, operations_config
from interlock.server.sockets import close, silence
from interlock.settings import Settings

log = logging.getLogger("interlock.server")

ROTATION_DRAIN = 600.0
"""Seconds that calls in flight on connections with a replaced certificate may go on."""


class Service:
    """An app behind its two ports. `start`, then `drain`, in that order, each once."""

    def __init__(
        self,
        app: Application,
        api: Sequence[socket.socket],
        operations: Sequence[socket.socket] = (),
        *,
        settings: Settings | None = None,
        shared: bool = False,
    ) -> None:
        """Take what to serve where; `shared` sockets are not closed for other processes."""
        self.app = app
        self.settings = settings or app.settings
        self._shared = shared
        self.retire = asyncio.Event()
        self._api_sockets = api
        self._operations_sockets = operations
        self._requests = 0
        self._started = False
        self._watch: asyncio.Task[None] | None = None
        self._rotation: Rotation | None = None
        self._api: Listener | None = None
        self._operations: Listener | None = None

    async def start(self) -> None:
        """Start the app, then accept; `StartError` where either fails, with the app stopped again."""
        files = CertificateFiles.of(self.settings)
        identity = files.read() if files is not None else None
        cut_after = max(ROTATION_DRAIN, self._limit + CUT_MARGIN) if files is not None else None
        face = self._counted if self.settings.max_requests else self.app
        paths = getattr(self.app, "streaming_paths", ())
        try:
            self._api = Listener(face, self._api_sockets, api_config(self.settings, paths, cut_after), identity)
            if self._operations_sockets:
                self._operations = Listener(
                    self.app.operations, self._operations_sockets, operations_config(self.settings)
                )
        except ValueError as error:
            raise StartError(f"the server refuses these settings: {error}") from error
        try:
            await self.app.start()
        except Exception as error:
            raise StartError(told(error, "the app did not start")) from error
        self._started = True
        try:
            if self._operations is not None:
                await self._operations.start()
            await self._api.start()
        except BaseException:
            await self._stop_app()
            raise
        every = self.settings.tls_poll.total_seconds()
        if files is not None and identity is not None:
            self._rotation = Rotation(files, identity, self._api.replace, every)
            if every:
                self._watch = asyncio.create_task(self._rotation.watch())

    async def check_certificates(self) -> None:
        """Look at the certificate files now."""
        if self._rotation is not None:
            await self._rotation.check()

    async def drain(self) -> bool:
        """End well: not ready, no new calls, those in flight within the drain limit, then stop the app.

        Tells whether all connections were closed in the end; one that is not belongs to a client that neither reads
        nor leaves, or to a call that ignores its cancellation.
        """
        if self._api is None or not self._started:
            return True
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        grace = self.settings.readiness_grace.total_seconds()
        ends = asyncio.get_running_loop().time() + grace + self._limit
        draining = asyncio.create_task(self.app.drain(grace + self._limit))  # not ready from here on
        self._api.leave()
        await asyncio.sleep(max(grace, LAST_ANSWERS))
        self._api.stop()
        if self._shared:
            close(self._api_sockets)
        else:
            silence(self._api_sockets)
        await _logged(draining, "drain")
        closed = await self._api.join(CUT_MARGIN)
        if not closed:  # a call that came in late, or a client that neither reads nor leaves
            remaining = max(0.0, ends - asyncio.get_running_loop().time())
            await _logged(asyncio.create_task(self.app.drain(remaining)), "drain")
            closed = await self._api.join(LAST_ANSWERS)
        await self._stop_app()
        if self._operations is not None:
            self._operations.stop()
            closed = await self._operations.join(CUT_MARGIN) and closed
        return closed

    @property
    def _limit(self) -> float:
        return self.settings.drain_limit.total_seconds()

    async def _stop_app(self) -> None:
        await _logged(asyncio.create_task(self.app.stop()), "stop")

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._requests += 1
        if self._requests == self.settings.max_requests:
            self.retire.set()
        await self.app(scope, receive, send)


async def _logged(task: "asyncio.Task[None]", what: str) -> None:
    try:
        await task
    except Exception:
        log.exception("%s of the app failed", what)
