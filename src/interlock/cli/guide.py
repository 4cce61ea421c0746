"""`interlock guide …`: the project's integration guide, written and verified."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli.configured import configured

if TYPE_CHECKING:
    from interlock.guide import Facts, Report, Subject

GUIDE = "GUIDE.md"

Directory = Annotated[Path, typer.Argument(help="The project, whose pyproject.toml has [tool.interlock].")]
GuideFile = Annotated[Path | None, typer.Option("--guide", metavar="FILE", help=f"The guide; else its {GUIDE}.")]
FactsFile = Annotated[Path | None, typer.Option("--facts", metavar="FILE", help="The facts; else its guide.toml.")]


def build(
    directory: Directory = Path(),
    *,
    guide: GuideFile = None,
    facts: FactsFile = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 while facts are missing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the guide is stale.")] = False,
) -> None:
    """Write the integration guide of a project in Markdown.

    It comes from the contract's image, the settings, and guide.toml, which holds the facts that no contract knows.
    Facts that are missing are listed, and marked in the guide.

      interlock guide build                  GUIDE.md in the current directory
      interlock guide build --strict         in a release
      interlock guide build --check          in continuous integration
    """
    from interlock.guide import build as write

    built = write(_subject(directory, _facts(directory, facts)))
    path = guide or directory / GUIDE
    stale = not path.exists() or path.read_text(encoding="utf-8") != built.text
    if stale and not check:
        path.write_text(built.text, encoding="utf-8")
    typer.echo(f"{('stale' if check else 'wrote') if stale else 'up to date:'} {path}")
    if built.missing:
        typer.echo(f"{len(built.missing)} facts to fill in {facts or directory / 'guide.toml'}:", err=True)
    for each in built.missing:
        typer.echo(f"  {each.key:<32} {each.meaning}", err=True)
    if (stale and check) or (strict and built.missing):
        raise typer.Exit(1)


def verify(
    directory: Directory = Path(),
    *,
    target: Annotated[str, typer.Option("--target", metavar="URL", help="The base URL of a running service.")],
    token: Annotated[
        str, typer.Option("--token", envvar="INTERLOCK_TOKEN", show_envvar=True, help="The token that examples show.")
    ] = "",
    guide: GuideFile = None,
    facts: FactsFile = None,
    longest: Annotated[float, typer.Option(min=1, max=600, help="Seconds that one example may take.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Execute the Python, Node.js and curl examples of the guide against a running service.

    Each runs as a process of its own in an empty directory. It creates what its examples create: use a test
    environment. Steps that need AWS or Terraform are not executed, and listed with the reason. Exits 1 if an example
    failed or none was executed.

      interlock guide verify --target http://127.0.0.1:8080 --token "$TOKEN"
    """
    from interlock.guide import verify as execute
    from interlock.guide.subject import variable_prefix

    path = guide or directory / GUIDE
    if not path.exists():
        typer.echo(f"there is no {path}; `interlock guide build` writes it", err=True)
        raise typer.Exit(2)
    known = _facts(directory, facts)
    prefix = variable_prefix(known)
    variables = {f"{prefix}_ENDPOINT": target.rstrip("/"), f"{prefix}_TOKEN": token}
    root = directory.resolve()
    reports = execute(
        path.read_text(encoding="utf-8"),
        {**known.table("examples.variables"), **variables},
        path=[root, root / "src"],
        longest=longest,
        report=(lambda _: None) if as_json else _tell,
    )
    _conclude(reports, as_json)


def _facts(directory: Path, given: Path | None) -> "Facts":
    from interlock.guide import FactsError, read_facts
    from interlock.guide.facts import FILE

    try:
        return read_facts(given or directory / FILE)
    except FactsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def _subject(directory: Path, facts: "Facts") -> "Subject":
    from interlock.contract.effective import effective
    from interlock.contract.find import find_image
    from interlock.contract.load import load
    from interlock.contract.project import read_project
    from interlock.guide.subject import python_package, subject

    contract = effective(load(find_image(".", directory)), configured().operations)
    return subject(contract, facts, python_package(read_project(directory)))


def _tell(report: "Report") -> None:
    took = f" ({report.seconds:.1f} s)" if report.seconds else ""
    typer.echo(f"{report.state.value:<13} {report.heading}: {report.language}{took}")
    for line in report.told.splitlines():
        typer.echo(f"{'':<13} {line}")


def _conclude(reports: "list[Report]", as_json: bool) -> None:
    from interlock.guide import State

    counts = {state: sum(each.state is state for each in reports) for state in State}
    if as_json:
        rows = [
            {
                "heading": each.heading,
                "language": each.language,
                "state": each.state.value,
                "seconds": round(each.seconds, 3),
                "told": each.told,
            }
            for each in reports
        ]
        typer.echo(json.dumps(rows, indent=2))
    else:
        typer.echo(", ".join(f"{count} {state.value}" for state, count in counts.items()))
    if counts[State.FAILED] or not counts[State.OK]:
        raise typer.Exit(1)
