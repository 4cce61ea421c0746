"""What a person reads once all is served."""

import importlib.metadata
import socket
from collections.abc import Sequence

from interlock.server.sockets import address_of, authority


def banner(
    api: Sequence[socket.socket],
    operations: Sequence[socket.socket],
    *,
    tls: bool,
    mutual: bool,
    about: Sequence[str],
    processes: str,
    environment: str,
) -> str:
    """Return the lines: where the ports are, what is served, by which processes, how to stop."""
    scheme = "https" if tls else "http"
    host, port = address_of(api[0])
    end = authority(host, port)
    lines = [
        f"Interlock {_version()} · {environment} · {processes}",
        f"  REST and Connect   {scheme}://{end}",
        f"  gRPC               {end}{' (TLS, client certificate required)' if mutual else ' (TLS)' if tls else ''}",
        f"  operations         {f'http://{authority(*address_of(operations[0]))}' if operations else 'off'}",
        *(f"  {line}" for line in about),
        "  Ctrl-C stops",
    ]
    return "\n".join(lines)


def _version() -> str:
    try:
        return importlib.metadata.version("interlock")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
