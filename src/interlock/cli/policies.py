"""`interlock show policies`: what applies to each operation, and where that was said."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from interlock.contract.model import Operation
    from interlock.settings import Settings

PIPE_WIDTH = 180
CONTRACT, SETTINGS, DEFAULT = "contract", "settings", "default"


def policies(
    target: Annotated[
        str, typer.Argument(metavar="[PATH|MODULE]", help="A project, an image (.binpb), or a module with one.")
    ] = ".",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Print what applies to each operation (timeout, repeating, limit, tier, shedding, breaker) and where it came from.

    The settings are those of the current directory and the environment, as a service would read them. What a client is
    given in its constructor (retries, breaker, bulkhead) is its own affair; shown is what it has otherwise.

      interlock show policies
      interlock show policies src/shop/gen/contract.binpb
      interlock show policies --json | jq '.[] | select(.timeout.from == "settings")'
    """
    from interlock.contract.find import find_image
    from interlock.contract.mistakes import ContractError

    settings = _configured()
    try:
        found = rows(find_image(target, Path.cwd()), settings)
    except ContractError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)


def rows(image: bytes, settings: "Settings") -> list[dict[str, Any]]:
    """Return every policy of each operation, and where it is `from`; ContractError for wrong overrides."""
    from interlock.contract.effective import effective
    from interlock.contract.load import load

    declared = load(image)
    said = _said(image)
    contract = effective(declared, settings.operations)
    overridden = {name.removeprefix("/"): given for name, given in settings.operations.items()}
    return [
        _row(operation, said.get(operation.path, frozenset()), overridden, settings)
        for operation in contract.operations.values()
    ]


def _row(
    operation: "Operation", said: frozenset[str], overridden: Mapping[str, Mapping[str, Any]], settings: "Settings"
) -> dict[str, Any]:
    def origin(key: str) -> str:
        if key in overridden.get(operation.path[1:], {}):
            return SETTINGS
        if key in overridden.get(operation.service, {}):
            return f"{SETTINGS} ({operation.service})"
        return CONTRACT if key in said else DEFAULT

    limit = operation.rate_limit
    rate = f"{limit.requests}/{_seconds(limit.per)} by {settings.rate_limit_by}" if limit else "none"
    values = {
        "timeout": ("none" if operation.timeout is None else _seconds(operation.timeout), origin("timeout")),
        "idempotency": (operation.idempotency.name, origin("idempotency")),
        "retry": (_retry(operation), f"preset, idempotency: {origin('idempotency')}"),
        "breaker": (_breaker(), "preset"),
        "bulkhead": (_bulkhead(operation), "preset"),
        "rate_limit": (rate, origin("rate_limit")),
        "tier": (operation.tier.name, origin("tier")),
        "shed": _shed(operation, settings),
    }
    return {"operation": operation.path, **{name: {"value": v, "from": f} for name, (v, f) in values.items()}}


def _said(image: bytes) -> dict[str, frozenset[str]]:
    """Return what the contract itself says of each operation, by name of the option; a service's tier counts."""
    from interlock.contract.declared import read

    found = {}
    for service in read(image).services:
        of_service = {"tier"} if service.options.tier else set()
        for rpc in service.rpcs:
            given = {name for name in ("timeout", "idempotency", "rate_limit") if rpc.options.has_field(name)}
            if rpc.method.idempotency or any(
                rule.pattern is not None and rule.pattern.field == "get" for rule, _ in rpc.http
            ):
                given.add("idempotency")  # SAFE because the contract says that it reads
            tier = {"tier"} if rpc.options.tier else of_service
            found[f"/{rpc.method.parent.type_name}/{rpc.method.name}"] = frozenset(given | tier)
    return found


def _retry(operation: "Operation") -> str:
    from interlock.contract.gen.interlock.v1.options_pb import Idempotency
    from interlock.resilience.retry import RetryPolicy

    if operation.kind.client_streams:
        return "none: its requests are a stream"
    policy = RetryPolicy()
    text = (
        f"{policy.retries}, {_seconds(policy.base)} × {policy.multiplier:g}ⁿ up to {_seconds(policy.longest_backoff)}"
    )
    when = {Idempotency.SAFE: "", Idempotency.KEYED: " with its key"}.get(operation.idempotency, " if never sent")
    return text + when


def _breaker() -> str:
    from interlock.resilience.circuit_breaker import BreakerPolicy

    policy = BreakerPolicy()
    return (
        f"{policy.failure_rate:.0%} of {policy.minimum_calls} or more in {_seconds(policy.window)}, "
        f"open {_seconds(policy.open_for)}, {policy.probes} probes"
    )


def _bulkhead(operation: "Operation") -> str:
    from interlock.resilience.concurrency import BulkheadPolicy

    if operation.kind.server_streams and operation.timeout is None:
        return "none: a stream that runs on"
    policy = BulkheadPolicy()
    return f"{policy.calls} to a target, wait {_seconds(policy.wait)}"


def _shed(operation: "Operation", settings: "Settings") -> tuple[str, str]:
    from interlock.resilience.shedding import SHARES

    origin = SETTINGS if {"shed", "shed_floor"} & settings.model_fields_set else DEFAULT
    if not settings.shed:
        return "never", origin
    return f"beyond {SHARES.get(operation.tier, 1.0):.0%} of the limit, never below {settings.shed_floor}", origin


def _seconds(value: timedelta) -> str:
    return f"{value.total_seconds():g}s" if value >= timedelta(seconds=1) else f"{value.total_seconds() * 1000:g}ms"


def _print(found: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    for row in found:
        console.print(f"[bold]{escape(row['operation'])}[/]")
        table = Table(box=SIMPLE_HEAD, show_header=False)
        for name, each in row.items():
            if name != "operation":
                table.add_row(name, escape(each["value"]), escape(each["from"]))
        console.print(table)


def _configured() -> "Settings":
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from interlock.settings import ProcessSettings, explain

    try:
        return ProcessSettings()
    except (ValidationError, SettingsError) as error:
        typer.echo(explain(error), err=True)
        raise typer.Exit(1) from error
