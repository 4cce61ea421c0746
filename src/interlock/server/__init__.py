"""Runs an app: worker processes, TLS and its rotation, drain, reload. The home of h2corn: nobody else imports it.

`serve` is the whole process as `interlock serve` runs it; `serving` is one app inside a running loop, for tests and for
several services in one process.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock.server.application import Application, StartError
    from interlock.server.embedded import Address, Tls, serving
    from interlock.server.run import serve

__all__ = ["Address", "Application", "StartError", "Tls", "serve", "serving"]

_HOMES = {
    "Address": "embedded",
    "Application": "application",
    "StartError": "application",
    "Tls": "embedded",
    "serve": "run",
    "serving": "embedded",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a parent process stays light, a worker reaches its own module quickly."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
