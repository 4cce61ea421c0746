"""`interlock show access`: which role may call which operation, and why."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.configured import configured

if TYPE_CHECKING:
    from interlock.contract.model import Contract, Operation
    from interlock.security.access import Roles

NO_ROLES = """No roles file is set, so nobody may call an operation that needs a permission. Write one, roles.toml:

  [roles]
  clerk = ["orders:create", "orders:read"]
  admin = ["*"]

and name it: INTERLOCK_ROLES=roles.toml, or roles = "roles.toml" in interlock.toml"""
PIPE_WIDTH = 160


def access(
    target: Annotated[
        str, typer.Argument(metavar="[PATH|MODULE]", help="A project, an image (.binpb), or a module with one.")
    ] = ".",
    roles: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The roles file; by default what the settings say.")
    ] = None,
    role: Annotated[str | None, typer.Option("--role", help="With --method: tell why it may call it, or not.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="With --role: the operation.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Print which role may call which operation of a contract.

    Exits 1 with --role and --method where the role may not.

      interlock show access
      interlock show access --role clerk --method CreateOrder
      interlock show access src/shop/gen/contract.binpb --roles roles.toml --json
    """
    from interlock.contract.find import find_image
    from interlock.contract.load import load
    from interlock.security.access import RolesError, load_roles

    contract = load(find_image(target, Path.cwd()))
    try:
        held = load_roles(roles or configured().roles)
        if role is not None or method is not None:
            if role is None or method is None:
                typer.echo("--role and --method go together", err=True)
                raise typer.Exit(2)
            _explain(contract, held, role, method)
            return
    except RolesError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(matrix(contract, held), indent=2))
        return
    _print(contract, held)


def matrix(contract: "Contract", roles: "Roles") -> dict[str, Any]:
    """Return who may call what, as plain data, and what stands in the roles for nothing."""
    operations = [
        {
            "operation": path,
            "permission": each.permission,
            "unauthenticated": each.unauthenticated,
            "roles": sorted(roles.permissions if each.unauthenticated else roles.granting(each.permission)),
        }
        for path, each in contract.operations.items()
    ]
    return {"roles": sorted(roles.permissions), "operations": operations, "unused": list(_unused(contract, roles))}


def _unused(contract: "Contract", roles: "Roles") -> Iterator[str]:
    """Yield the permissions that a role holds and no operation needs; often they are misspelt."""
    needed = {each.permission for each in contract.operations.values()}
    resources = {each.partition(":")[0] for each in needed}
    for held in sorted(set().union(*roles.permissions.values())):
        resource, _, action = held.partition(":")
        if held != "*" and (resource not in resources if action == "*" else held not in needed):
            yield held


def _print(contract: "Contract", roles: "Roles") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    found = matrix(contract, roles)
    for service in contract.services:
        table = Table(box=SIMPLE_HEAD)
        table.add_column("operation", overflow="fold")
        table.add_column("needs", overflow="fold")
        for role in found["roles"]:
            table.add_column(role, justify="center")
        for each in service.operations:
            table.add_row(*_row(each, roles, found["roles"]))
        console.print(f"[bold]{service.name}[/]")
        console.print(table)
    for permission in found["unused"]:
        console.print(f"no operation needs {permission}, which a role holds", markup=False)
    if not roles.permissions:
        typer.echo(NO_ROLES)


def _row(operation: "Operation", roles: "Roles", names: list[str]) -> list[str]:
    granting = roles.granting(operation.permission)
    needs = "nothing (anybody)" if operation.unauthenticated else operation.permission or "(closed)"
    marks = ("yes" if operation.unauthenticated or name in granting else "-" for name in names)
    return [operation.name, needs, *marks]


def _explain(contract: "Contract", roles: "Roles", role: str, method: str) -> None:
    from interlock.security.access import why

    found = [
        each
        for path, each in contract.operations.items()
        if method in (each.name, path, path[1:], path.rpartition(".")[2])
    ]
    if not found:
        known = ", ".join(each.name for each in contract.operations.values())
        typer.echo(f"there is no operation {method!r}; there are: {known}", err=True)
        raise typer.Exit(2)
    may = True
    for operation in found:
        allowed, reason = why(roles, role, operation)
        typer.echo(f"{'yes' if allowed else 'no'}: {reason}")
        may = may and allowed
    if not may:
        raise typer.Exit(1)
