"""`interlock up`: a whole platform on this machine."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from interlock.server import Address


def up(
    target: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="Such as shop.platform:platform.")],
    split: Annotated[bool, typer.Option("--split", help="A process for each service instead of one for all.")] = False,
    host: Annotated[str, typer.Option(help="Address of the gateway.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the gateway; 0 takes a free one.")] = 8080,
) -> None:
    """Run a platform: its services on loopback ports of their own, its gateway on the port you name.

    Keys that sign tokens are made in var/keys where there are none. Ctrl-C ends all of it, calls in flight finished.

      interlock up shop.platform:platform
      interlock up shop.platform:platform --split --port 9000
    """
    try:
        sys.exit(asyncio.run(_up(target, split, host, port)))
    except KeyboardInterrupt:  # while it started, or for the second time
        sys.exit(130)


async def _up(target: str, split: bool, host: str, port: int) -> int:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from interlock.platform import interruption, run_here, run_split
    from interlock.platform.platform import NoPlatform, load
    from interlock.security.keys import ensure_keys
    from interlock.server import StartError
    from interlock.settings import ProcessSettings, explain

    try:
        platform = load(target)
        ensure_keys(ProcessSettings().keys)
        run = run_split if split else run_here
        async with run(platform, host=host, port=port, told=_told):
            stop = interruption()
            typer.echo("Ctrl-C stops")
            await stop.wait()
    except (NoPlatform, StartError, OSError) as error:
        typer.echo(f"interlock: {error}", err=True)
        return 1
    except (ValidationError, SettingsError) as error:
        typer.echo(explain(error), err=True)
        return 1
    return 0


def _told(name: str, address: "Address") -> None:
    typer.echo(f"{name:<10} {address.url}" + (f"  ({address.url}/openapi.json)" if name == "gateway" else ""))
