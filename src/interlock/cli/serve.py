"""`interlock serve`: run the app that `module:make` makes."""

import os
from pathlib import Path
from typing import Annotated

import typer

HELP = """Serve the app that MODULE:FUNCTION makes, until Ctrl-C or SIGTERM.

The function takes nothing and returns an App; it is called in each worker. Calls in flight are finished before the
process ends.

  interlock serve shop.orders:make                            one process, http://127.0.0.1:8080
  interlock serve shop.orders:make --reload                   start again when a file changes
  interlock serve shop.orders:make --host 0.0.0.0 --workers 4
  interlock serve shop.orders:make --tls-certificate tls.crt --tls-key tls.key

Every option may also stand, weaker in this order, in the environment (INTERLOCK_PORT), in .env, in the secrets
directory (/run/secrets, or what INTERLOCK_SECRETS names: a file called interlock_port), and in interlock.toml
(port = 8080). `interlock show settings` tells all of them and where each comes from.

Signals: SIGTERM and Ctrl-C drain, a second Ctrl-C ends at once, SIGHUP replaces the workers one after the other
(new code, no refused call), SIGUSR1 switches the log to debug and back, SIGUSR2 writes what all tasks do into the log.
Certificates are taken over when their files change.
"""

_WHERE = "Where it listens"
_HOW = "How it runs"
_TLS = "TLS"


def serve(  # noqa: D103, PLR0917 - the docstring is HELP; typer makes options of parameters
    target: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="Such as shop.orders:make.")],
    host: Annotated[
        str | None, typer.Option(help="Address of the API port. [127.0.0.1]", rich_help_panel=_WHERE)
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="The API port; 0 takes a free one. [8080]", rich_help_panel=_WHERE)
    ] = None,
    operations_host: Annotated[
        str | None, typer.Option(help="Address of the operations port. [127.0.0.1]", rich_help_panel=_WHERE)
    ] = None,
    operations_port: Annotated[
        int | None,
        typer.Option(help="For probes and scrapers; 0 switches it off. [8081]", rich_help_panel=_WHERE),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the ports. [1]", rich_help_panel=_HOW)
    ] = None,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Start again when a file below this directory changes.", rich_help_panel=_HOW),
    ] = False,
    environment: Annotated[str | None, typer.Option(help="development or production.", rich_help_panel=_HOW)] = None,
    drain_limit: Annotated[
        str | None,
        typer.Option(help="How long calls in flight may go on at the end, such as 30s. [30s]", rich_help_panel=_HOW),
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(help="Replace a worker after so many requests. [never]", rich_help_panel=_HOW)
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. [info]", rich_help_panel=_HOW)
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="json, pretty, or auto: pretty on a terminal. [auto]", rich_help_panel=_HOW)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file to read. [interlock.toml, if there]", rich_help_panel=_HOW)
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(help="PEM certificate chain; with --tls-key it switches TLS on.", rich_help_panel=_TLS),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key.", rich_help_panel=_TLS)] = None,
    tls_client_authorities: Annotated[
        Path | None,
        typer.Option(help="PEM authorities; every client must show a certificate of theirs.", rich_help_panel=_TLS),
    ] = None,
) -> None:
    flags = {
        "HOST": host,
        "PORT": port,
        "OPERATIONS_HOST": operations_host,
        "OPERATIONS_PORT": operations_port,
        "WORKERS": workers,
        "ENVIRONMENT": environment,
        "DRAIN_LIMIT": drain_limit,
        "MAX_REQUESTS": max_requests,
        "LOG_LEVEL": log_level,
        "LOG_FORMAT": log_format,
        "CONFIG": config,
        "TLS_CERTIFICATE": tls_certificate,
        "TLS_KEY": tls_key,
        "TLS_CLIENT_AUTHORITIES": tls_client_authorities,
    }
    # as environment variables they reach the settings of this process and of every worker alike
    os.environ.update({f"INTERLOCK_{name}": str(value) for name, value in flags.items() if value is not None})
    from interlock.server import serve as run

    raise typer.Exit(run(target, reload=reload))


serve.__doc__ = HELP
