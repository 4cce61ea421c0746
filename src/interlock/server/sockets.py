"""Listening sockets: bound once, in the process that started, and inherited by workers."""

import contextlib
import errno
import socket
from collections.abc import Iterable

from interlock.server.application import StartError

BACKLOG = 1024


def listen(host: str, port: int, name: str) -> list[socket.socket]:
    """Bind every address that `host` stands for, non-blocking; port 0 takes one free port for all of them.

    `name` ("port" or "operations_port") is the setting that a `StartError` tells to change.
    """
    bound: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in _addresses(host, port, name):
        chosen = bound[0].getsockname()[1] if bound else port
        try:
            bound.append(_listen(family, (address[0], chosen, *address[2:])))
        except OSError as error:
            failure = error
            if error.errno != errno.EADDRNOTAVAIL:
                break
    if failure is not None and (not bound or failure.errno != errno.EADDRNOTAVAIL):
        close(bound)
        raise StartError(_told(failure, host, port, name)) from failure
    return bound


def close(sockets: Iterable[socket.socket]) -> None:
    """Close all; those who connect from now on are refused, unless another process listens too."""
    for each in sockets:
        each.close()


def silence(sockets: Iterable[socket.socket]) -> None:
    """Refuse new connections from now on, in every process that shares the sockets, and close them here.

    h2corn keeps its duplicate open while it drains: merely closed here, the port would take connections in and leave
    them waiting.
    """
    for each in sockets:
        with contextlib.suppress(OSError):  # closed already, or a system that refuses this on a listening socket
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def adopt(descriptors: Iterable[int]) -> list[socket.socket]:
    """Take over sockets that the parent process bound."""
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def address_of(sock: socket.socket) -> tuple[str, int]:
    """Return host and port; an unspecified address reads as localhost, where it can be reached."""
    host, port = sock.getsockname()[:2]
    return ("localhost" if host in ("0.0.0.0", "::") else str(host)), int(port)  # noqa: S104


def authority(host: str, port: int) -> str:
    """Return `host:port` as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _addresses(host: str, port: int, name: str) -> list[tuple[int, tuple[str, int]]]:
    bare = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        setting = _host_setting(name)
        raise StartError(f"{host!r} is no address of this machine ({error.strerror}); set {setting}") from error
    seen: dict[tuple[str, int], tuple[int, tuple[str, int]]] = {}
    for family, _, _, _, address in found:
        seen.setdefault(address, (family, address))  # type: ignore[arg-type]
    return list(seen.values())


def _listen(family: int, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            # hand over a connection with its first bytes: h2corn, when it stops, drops one that has sent nothing yet
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _told(error: OSError, host: str, port: int, name: str) -> str:
    flag, variable = "--" + name.replace("_", "-"), "INTERLOCK_" + name.upper()
    if error.errno == errno.EADDRINUSE:
        off = ", or 0 to go without" if name == "operations_port" else ""
        return (
            f"port {port} on {host} is taken; `ss -ltnp 'sport = :{port}'` (or `lsof -i :{port}`) shows by whom. "
            f"Stop that process, or choose another port: {flag} or {variable}{off}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"this user may not listen on port {port}; choose one from 1024 up ({flag}, {variable}), "
            "or give the process CAP_NET_BIND_SERVICE"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; set {_host_setting(name)}, 0.0.0.0 or :: for all of them"
    return f"cannot listen on {authority(host, port)}: {error.strerror} (see {flag}, {variable})"


def _host_setting(name: str) -> str:
    host = "operations_host" if name == "operations_port" else "host"
    return f"--{host.replace('_', '-')} or INTERLOCK_{host.upper()}"
