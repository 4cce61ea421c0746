"""The head of a Connect request: its version and its timeout (connectrpc.com/docs/protocol)."""

import re

from interlock.errors import InvalidArgument
from interlock.metadata import Metadata

_TIMEOUT = re.compile(rb"[0-9]{1,10}\Z")


def check_version(metadata: Metadata) -> None:
    """Refuse a `connect-protocol-version` but 1; it may be left out."""
    version = metadata.header(b"connect-protocol-version")
    if version is not None and version != b"1":
        raise InvalidArgument("connect-protocol-version must be 1")


def timeout_of(metadata: Metadata) -> float | None:
    """Return the seconds of `connect-timeout-ms`, None without one; InvalidArgument for anything that is not one."""
    value = metadata.header(b"connect-timeout-ms")
    if value is None:
        return None
    if not _TIMEOUT.match(value):
        raise InvalidArgument("connect-timeout-ms must be at most 10 digits")
    return int(value) / 1000
