"""`interlock show …`: what Interlock knows of a service, for people and, with --json, for programs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.contract.describe import describe
from interlock.contract.find import find_image
from interlock.contract.load import load

if TYPE_CHECKING:
    from rich.table import Table

PIPE_WIDTH = 160


def contract(
    target: Annotated[
        str, typer.Argument(metavar="[PATH|MODULE]", help="A project, an image (.binpb), or a module with one.")
    ] = ".",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Print the services, operations, routes and rules of a contract.

    Without an argument it is that of the project in the current directory: the generated image, or where there is
    none, the contract compiled afresh.

      interlock show contract
      interlock show contract src/hello/gen/contract.binpb
      interlock show contract hello.service
      interlock show contract --json | jq '.services[].operations[].path'
    """
    described = describe(load(find_image(target, Path.cwd())))
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    _print(described)


def _print(described: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    for service in described["services"]:
        console.print(f"[bold]{service['name']}[/]  {escape(_facts(service))}")
        if service["operations"]:
            console.print(_table(service["operations"]))
    for event in described["events"]:
        console.print(f"event [bold]{event['type']}[/]  {event['message']}, ordered by {event['key']}")


def _facts(service: dict[str, Any]) -> str:
    named = ("owner", "tier", "publishes", "subscribes", "calls")
    texts = ((name, service[name]) for name in named if service[name])
    return "  ".join(f"{name}: {', '.join(value) if isinstance(value, list) else value}" for name, value in texts)


def _table(operations: list[dict[str, Any]]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for name in ("operation", "route", "access", "timeout", "repeating", "limit", "exposure"):
        table.add_column(name, overflow="fold")
    for each in operations:
        table.add_row(*_row(each))
    return table


def _row(operation: dict[str, Any]) -> list[str]:
    from rich.markup import escape

    kind, limit = operation["kind"], operation["rate_limit"]
    return [
        operation["name"] if kind == "unary" else f"{operation['name']} ({kind.replace('_', ' ')})",
        "\n".join(escape(f"{route['verb']} {route['path']}") for route in operation["http"]),
        "anybody" if operation["unauthenticated"] else operation["permission"],
        "none" if operation["timeout"] is None else f"{operation['timeout']:g} s",
        operation["idempotency"],
        f"{limit['requests']} in {limit['per']:g} s" if limit else "",
        operation["exposure"],
    ]
