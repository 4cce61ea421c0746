"""`interlock init`: a small complete service, made at once."""

from pathlib import Path
from typing import Annotated

import typer

from interlock.contract.scaffold import scaffold


def init(
    name: Annotated[str, typer.Argument(help="Name of the service and its package: lower-case letters, digits, _.")],
    directory: Annotated[Path, typer.Option("--in", help="Where the service's directory is made.")] = Path(),
) -> None:
    """Make a small complete service: contract, handlers, tests, and the two commands that run them.

    Nothing that exists is overwritten.

      interlock init hello
      cd hello
      make test
      make run
    """
    made = scaffold(name, directory)
    typer.echo(f"made {made}/")
    typer.echo(f"\n  cd {made}\n  make test\n  make run")
