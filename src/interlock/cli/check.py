"""`interlock check …`: contracts, or a running service, held against the standard."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from interlock.standards import Outcome, Page, Report

PIPE_WIDTH = 160
MARKS = {"passed": "[green]ok[/]", "failed": "[red]FAILED[/]", "not checked": "[yellow]not checked[/]"}


def check(  # noqa: PLR0917 - typer reads options from parameters
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]…", help="Directories of contracts, projects, or one image.")
    ] = None,
    live: Annotated[str, typer.Option(metavar="URL", help="Check a running service: http://host:port.")] = "",
    token: Annotated[
        str,
        typer.Option(envvar="INTERLOCK_TOKEN", metavar="TOKEN", help="With --live: a token that lets the check in."),
    ] = "",
    keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --live: signing keys that the service trusts (var/keys).")
    ] = None,
    authorities: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --live: the PEM authorities of its certificate.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="With --live: seconds for one exchange.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules and exit.")] = False,
    explain: Annotated[str, typer.Option(metavar="RULE", help="Print the page of a rule and exit.")] = "",
) -> None:
    """Check contracts, or a running service, against the standard.

    Exits 0 where nothing is found, 1 with findings, 2 where there is nothing to check.

      interlock check contracts/
      interlock check orders/contracts payments/contracts       as one platform
      interlock check --live http://127.0.0.1:8080 --token "$(interlock keys token --subject me --role admin)"
      interlock check --explain GRPC003

    A finding is silenced where it stands, in a comment with the reason:

      // interlock:ignore GRPC003 the request is shared with the old API until 2027
    """
    if rules or explain:
        _pages(explain)
        return
    if live and paths:
        raise typer.BadParameter("name paths, or a service with --live, not both")
    report = _live(live, token, keys, authorities, timeout) if live else _contracts(paths or [Path("contracts")])
    if as_json:
        from interlock.standards import as_data

        typer.echo(json.dumps(as_data(report), indent=2))
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(1)


def _contracts(paths: list[Path]) -> "Report":
    from interlock.standards import NothingToCheck, check_contract

    try:
        return check_contract(paths)
    except NothingToCheck as error:
        raise _refused(error) from error


def _live(url: str, token: str, keys: Path | None, authorities: Path | None, timeout: float) -> "Report":
    from interlock.security.keys import KeySetError, load_keys
    from interlock.standards import Target, Unreachable, check_live

    try:
        if keys is not None:
            load_keys(keys)
        target = Target(url=url.rstrip("/"), token=token, keys=keys, authorities=authorities, timeout=timeout)
        return asyncio.run(check_live(target))
    except (ValueError, Unreachable, KeySetError) as error:
        raise _refused(error) from error


def _refused(error: Exception) -> typer.Exit:
    typer.echo(str(error), err=True)
    return typer.Exit(2)


def _pages(wanted: str) -> None:
    from interlock.standards import explain

    pages = _all_pages()
    if not wanted:
        for each in pages:
            typer.echo(f"{each.id:8} {'live' if hasattr(each, 'probe') else 'contract':9} {each.title}")
        return
    found = [each for each in pages if each.id == wanted.upper()]
    if not found:
        typer.echo(f"there is no rule {wanted!r}; there are: {', '.join(dict.fromkeys(p.id for p in pages))}", err=True)
        raise typer.Exit(2)
    typer.echo("\n".join(map(explain, found)), nl=False)


def _all_pages() -> "list[Page]":
    from interlock.standards import CONTRACT_RULES, LIVE_RULES

    return [*CONTRACT_RULES, *LIVE_RULES]


def _print(report: "Report") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    for outcome in report.outcomes:
        for line in _lines(outcome):
            console.print(line, soft_wrap=True)
    _sum(console, report)


def _lines(outcome: "Outcome") -> Iterator[str]:
    from rich.markup import escape

    yield f"[bold]{outcome.rule:8}[/] {MARKS[outcome.verdict.value]}  [dim]{escape(outcome.title)}[/]"
    for each in outcome.findings:
        yield f"  {escape(str(each.source))}: {escape(each.message)}"
        if each.remedy:
            yield f"      [cyan]{escape(each.remedy)}[/]"
    for silenced in outcome.silenced:
        yield f"  [dim]{escape(str(silenced.finding.source))}: silenced: {escape(silenced.reason)}[/]"
    for note in outcome.notes:
        yield f"  [yellow]note:[/] {escape(note)}"


def _sum(console: "Console", report: "Report") -> None:
    unchecked = [each.rule for each in report.outcomes if each.verdict.value == "not checked"]
    silenced = sum(len(each.silenced) for each in report.outcomes)
    count = len(report.findings)
    parts = [f"{count} finding{'' if count == 1 else 's'} in {len(report.outcomes)} rules"]
    if silenced:
        parts.append(f"{silenced} silenced")
    if unchecked:
        parts.append(f"not checked: {', '.join(unchecked)}")
    console.print(f"[bold {'green' if report.ok else 'red'}]{'; '.join(parts)}[/]", soft_wrap=True)
