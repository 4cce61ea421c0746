"""`interlock generate`: contracts become typed code and their image."""

from pathlib import Path
from typing import Annotated

import typer

from interlock.contract.generate import NotGenerated
from interlock.contract.generate import generate as write
from interlock.contract.mistakes import ContractError
from interlock.contract.project import Project, read_project


def generate(
    directory: Annotated[Path, typer.Argument(help="The project, whose pyproject.toml has [tool.interlock].")] = Path(),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 and name what is stale.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Generate again at every change, until Ctrl-C.")] = False,
) -> None:
    """Write typed code, and the image, from the project's contracts.

    The project says in its pyproject.toml where they are and where the code goes:

      [tool.interlock]
      contracts = "contracts"
      output = "src/hello/gen"

    Every mistake in the contracts is listed with its file, line and remedy; then nothing is written.

      interlock generate                  in the current directory
      interlock generate --check          in continuous integration
      interlock generate --watch          while you write the contract
    """
    if check and watch:
        raise typer.BadParameter("--check and --watch exclude each other")
    project = read_project(directory)
    if watch:
        _watch(project)
        return
    changed = write(project, check=check)
    for path in changed:
        typer.echo(f"{'stale' if check else 'wrote' if path.exists() else 'removed'} {project.shown(path)}")
    if check and changed:
        typer.echo("run `interlock generate`", err=True)
        raise typer.Exit(1)
    if not changed:
        typer.echo("up to date")


def _watch(project: Project) -> None:
    from watchfiles import watch

    _once(project)
    typer.echo(f"watching {project.shown(project.contracts)}; Ctrl-C ends it")
    for _ in watch(project.contracts, watch_filter=lambda _, path: path.endswith(".proto"), raise_interrupt=False):
        _once(project)


def _once(project: Project) -> None:
    try:
        for path in write(project):
            typer.echo(f"{'wrote' if path.exists() else 'removed'} {project.shown(path)}")
    except (ContractError, NotGenerated) as error:
        typer.echo(str(error), err=True)
