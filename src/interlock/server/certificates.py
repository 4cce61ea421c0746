"""Certificate files, read together as bytes, and watched: a rotation on disk becomes a rotation in the server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from interlock.server.application import StartError
from interlock.server.listener import Identity

if TYPE_CHECKING:
    from interlock.settings import Settings

log = logging.getLogger("interlock.server")

Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


class CertificateFiles:
    """The files of one TLS identity; symbolic links are followed, as Kubernetes swaps them."""

    def __init__(self, certificate: Path, key: Path, client_authorities: Path | None = None) -> None:
        self._paths = {
            "tls_certificate": certificate,
            "tls_key": key,
            **({"tls_client_authorities": client_authorities} if client_authorities is not None else {}),
        }

    @classmethod
    def of(cls, settings: "Settings") -> "CertificateFiles | None":
        """Return the files that `settings` name; None where TLS is off."""
        if settings.tls_certificate is None or settings.tls_key is None:
            return None
        return cls(settings.tls_certificate, settings.tls_key, settings.tls_client_authorities)

    def stamp(self) -> Stamp:
        """Return what changes when a file is written or replaced; OSError where one is missing."""
        found = [path.stat() for path in self._paths.values()]
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in found)

    def read(self) -> Identity:
        """Read all files; `StartError` names the one that cannot be read."""
        contents = []
        for setting, path in self._paths.items():
            try:
                contents.append(path.read_bytes())
            except OSError as error:
                raise StartError(
                    f"{path} cannot be read: {error.strerror}; it is {setting} (INTERLOCK_{setting.upper()})"
                ) from error
        return Identity(
            certificate=contents[0], key=contents[1], client_authorities=contents[2] if len(contents) > 2 else None
        )


class Rotation:
    """Looks at the files now and then and hands a new, sound identity to `replace`."""

    def __init__(
        self, files: CertificateFiles, current: Identity, replace: Callable[[Identity], Awaitable[None]], every: float
    ) -> None:
        self._files = files
        self._current = current
        self._replace = replace
        self._every = every
        self._seen: Stamp | None = None
        self._suspect: Identity | None = None
        self._reported: object = None
        self._check_lock = asyncio.Lock()

    async def watch(self) -> None:
        """Check for ever, every so many seconds."""
        while True:
            await asyncio.sleep(self._every)
            await self.check()

    async def check(self) -> bool:
        """Take over what the files hold, if it is new; tell whether it was. Never raises.

        Files that do not fit each other are looked at once more before that counts as an error: a writer may be
        half way. The identity in use stays until a sound one is there; the same error is logged once.
        """
        async with self._check_lock:
            try:
                stamp = self._files.stamp()
                if stamp == self._seen and self._suspect is None:
                    return False
                found = self._files.read()
            except (OSError, StartError) as error:
                self._report(str(error), str(error))
                return False
            if found == self._current:
                self._settle(stamp)
                return False
            return await self._take(found, stamp)

    async def _take(self, found: Identity, stamp: Stamp) -> bool:
        try:
            await self._replace(found)
        except Exception as error:
            if found == self._suspect:
                self._report(found, str(error))
                self._seen, self._suspect = stamp, None
            elif self._reported != found:
                self._suspect = found
            return False
        self._current = found
        self._settle(stamp)
        log.info("the new TLS certificate is in use; connections made with the old one drain")
        return True

    def _settle(self, stamp: Stamp) -> None:
        self._seen, self._suspect, self._reported = stamp, None, None

    def _report(self, subject: object, text: str) -> None:
        if self._reported != subject:
            self._reported = subject
            log.error("the TLS certificate was not replaced, the old one stays in use: %s", text)
