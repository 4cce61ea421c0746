"""One HTTP/1.1 exchange over the standard library: what is sent may be wrong, what comes is kept as it came."""

import json
import ssl
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from interlock.contract.model import Source

LARGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer that are read."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back; header names are in lower case, the last of several counts."""

    verb: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def source(self) -> Source:
        """The request, as findings name it."""
        return Source(f"{self.verb} {self.path}")

    @cached_property
    def json(self) -> Any:
        """The body read as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def error(self) -> Mapping[str, Any]:
        """The `error` object of the envelope, empty where there is none."""
        found = self.json.get("error") if isinstance(self.json, dict) else None
        return found if isinstance(found, dict) else {}


def exchange(
    url: str,
    verb: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    declared: int | None,
    authorities: Path | None,
    timeout: float,
) -> Answer:
    """Send a request and return the answer, whatever it is; OSError (TimeoutError, too) where none comes.

    `declared` is told as content-length in place of the body's own. Redirects are not followed. Blocks.
    """
    with closing(_connection(url, authorities, timeout)) as connection:
        connection.putrequest(verb, path, skip_accept_encoding=True)
        length = len(body) if declared is None else declared
        if length or verb in ("POST", "PUT", "PATCH"):
            connection.putheader("content-length", str(length))
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it read the body
                connection.send(body)
            response = connection.getresponse()
            content = response.read(LARGEST_ANSWER)
        except HTTPException as error:
            raise OSError(f"the answer is not HTTP: {error!r}") from error
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(verb=verb, path=path, status=response.status, headers=found, body=content)


def _connection(url: str, authorities: Path | None, timeout: float) -> HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=authorities)
        return HTTPSConnection(host, parts.port, timeout=timeout, context=context)
    return HTTPConnection(host, parts.port, timeout=timeout)
