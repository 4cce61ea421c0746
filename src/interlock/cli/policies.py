"""`interlock show policies`: what applies to each operation, and where that was said."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.cli.configured import configured

if TYPE_CHECKING:
    from interlock.contract.model import Operation
    from interlock.resilience.circuit_breaker import BreakerPolicy
    from interlock.resilience.concurrency import BulkheadPolicy
    from interlock.resilience.policies import Policy, Resolved
    from interlock.resilience.retry import RetryPolicy
    from interlock.settings import Settings

PIPE_WIDTH = 180
CONTRACT, SETTINGS, DEFAULT = "contract", "settings", "default"


def policies(
    target: Annotated[
        str, typer.Argument(metavar="[PATH|MODULE]", help="A project, an image (.binpb), or a module with one.")
    ] = ".",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Print what applies to each operation, served and called, and where it came from: contract, preset, settings.

    Then the targets of which the settings say something. The settings are those of the current directory and the
    environment, as a service would read them. What a client is given in its constructor is its own affair; shown is
    what it has otherwise.

      interlock show policies
      interlock show policies src/shop/gen/contract.binpb
      interlock show policies --json | jq '.[] | select(.timeout.from == "settings")'
    """
    from interlock.contract.find import find_image
    from interlock.contract.mistakes import ContractError

    settings = configured()
    try:
        found = [*rows(find_image(target, Path.cwd()), settings), *targets(settings)]
    except (ContractError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    for name in _of_nobody(settings, [row.get("operation", "") for row in found]):
        typer.echo(f"policies: {name!r} concerns none of these operations", err=True)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)


def rows(image: bytes, settings: "Settings") -> list[dict[str, Any]]:
    """Return every policy of each operation, and where it is `from`; ContractError for wrong overrides."""
    from interlock.contract.effective import effective
    from interlock.contract.load import load
    from interlock.contract.policies import read_policy
    from interlock.resilience.policies import Policies

    declared = load(image)
    said = _said(image)
    contract = effective(declared, settings.operations)
    policies = Policies(settings={name: read_policy(given) for name, given in settings.policies.items()})
    for service in contract.services:
        policies.check(service.name, (each.path for each in service.operations))
    return [
        _row(operation, said.get(operation.path, frozenset()), settings, policies.resolved(operation))
        for operation in contract.operations.values()
    ]


def targets(settings: "Settings") -> list[dict[str, Any]]:
    """Return what the settings say of each target by its name: neighbours and third parties."""
    from interlock.contract.model import Kind
    from interlock.outbound.external import operation, operations
    from interlock.resilience.policies import Policies, Target

    found = []
    for name, address in [*settings.upstreams.items(), *((n, str(e.url)) for n, e in settings.externals.items())]:
        known = settings.policies_for(name)
        if name not in known and name not in settings.externals:
            continue
        policies = Policies(Target(name, name, known), code=_of_external(settings, name))
        if name in settings.externals:
            policies.check(name, (each.path for each in operations(name)))
        called = operation(name, "GET", Kind.UNARY)
        calls = policies.resolved(called)
        origins = {key: f"{SETTINGS} (externals)" if where == "code" else where for key, where in calls.origins.items()}
        found.append(
            {"target": name, "address": address, **_calling(called, replace(calls, origins=origins), told=True)}
        )
    return found


def _of_nobody(settings: "Settings", paths: list[str]) -> Iterator[str]:
    """Yield the policies for services, operations and patterns that are none of these, nor of an external."""
    services = {path[1:].partition("/")[0] for path in paths}
    named = {each: settings.policies_for(each) for each in settings.externals}
    for name in settings.policies:
        if any(name.startswith(f"{each}/") or name not in known for each, known in named.items()):
            continue  # one of an external, however it is spelled: checked with it
        bare = name.removeprefix("/")
        concerned = bare in services or any(fnmatchcase(path[1:], bare) for path in paths)
        if name != "*" and ("." in bare or "/" in bare) and not concerned:
            yield name


def _of_external(settings: "Settings", name: str) -> dict[str, Any]:
    found = settings.externals.get(name)
    return {"timeout": found.timeout} if found is not None else {}


def _row(operation: "Operation", said: frozenset[str], settings: "Settings", calls: "Resolved") -> dict[str, Any]:
    from interlock.contract.effective import concerning

    def origin(key: str) -> str:
        for name in reversed(concerning(settings.operations, operation)):
            if key in settings.operations[name]:
                own = name.removeprefix("/") == operation.path[1:]
                return SETTINGS if own else f"{SETTINGS} ({name})"
        return CONTRACT if key in said else DEFAULT

    limit = operation.rate_limit
    rate = f"{limit.requests}/{_seconds(limit.per)} by {settings.rate_limit_by}" if limit else "none"
    values = {
        "timeout": ("none" if operation.timeout is None else _seconds(operation.timeout), origin("timeout")),
        "idempotency": (operation.idempotency.name, origin("idempotency")),
        "rate_limit": (rate, origin("rate_limit")),
        "tier": (operation.tier.name, origin("tier")),
        "shed": _shed(operation, settings),
    }
    shown = {name: {"value": v, "from": f} for name, (v, f) in values.items()}
    return {"operation": operation.path, **shown, **_calling(operation, calls, told=limit is not None)}


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


def _calling(operation: "Operation", calls: "Resolved", *, told: bool) -> dict[str, Any]:
    """Return what clients of the operation do; what a constructor says is not known here.

    `told`: there may be a rate limit that they are told of.
    """
    policy, origins = calls.policy, calls.origins
    shown = {
        "retry": _retry(operation, policy.retry),
        "breaker": _breaker(policy.breaker),
        "bulkhead": _bulkhead(operation, policy.bulkhead),
        "throttle": _throttle(policy, told=told),
    }
    found = {name: {"value": value, "from": _origin(origins, name)} for name, value in shown.items()}
    if policy.timeout is not None:
        found["call_timeout"] = {"value": _seconds(policy.timeout), "from": origins["timeout"]}
    return found


def _origin(origins: Mapping[str, str], section: str) -> str:
    """Return where the values of a section were said: first what most of them are from, then the others by name."""
    inside = {name: where for name, where in origins.items() if name.partition(".")[0] == section}
    most = Counter(inside.values()).most_common(1)[0][0]
    others = [f"{name.rpartition('.')[2]}: {where}" for name, where in inside.items() if where != most]
    return "; ".join([most, *others])


def _retry(operation: "Operation", policy: "RetryPolicy") -> str:
    from interlock.contract.gen.interlock.v1.options_pb import Idempotency

    if operation.kind.client_streams:
        return "none: its requests are a stream"
    if not policy.retries:
        return "none"
    waits = f"{_seconds(policy.base)} × {policy.multiplier:g}ⁿ up to {_seconds(policy.longest_backoff)}"
    when = {Idempotency.SAFE: "", Idempotency.KEYED: " with its key"}.get(operation.idempotency, " if never sent")
    return f"{policy.retries}, {waits}{when}"


def _breaker(policy: "BreakerPolicy | None") -> str:
    if policy is None:
        return "none"
    opens = []
    if policy.minimum_calls:
        opens.append(f"{policy.failure_rate:.0%} of {policy.minimum_calls} or more in {_seconds(policy.window)}")
    if policy.consecutive_failures:
        opens.append(f"{policy.consecutive_failures} failures in a row")
    if policy.slow is not None:
        opens.append(f"{policy.slow_rate:.0%} slower than {_seconds(policy.slow)}")
    return f"{' or '.join(opens)}, open {_seconds(policy.open_for)}, {policy.probes} probes"


def _bulkhead(operation: "Operation", policy: "BulkheadPolicy") -> str:
    if operation.kind.server_streams and operation.timeout is None:
        return "none: a stream that runs on"
    if not policy.calls:
        return "none"
    return f"{policy.calls} at a time, {policy.waiting} more wait {_seconds(policy.wait)}"


def _throttle(policy: "Policy", *, told: bool) -> str:
    if not told:
        return "none: no limit"
    return "keeps under the limit it is told" if policy.throttle else "none"


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
        title = row.get("operation") or f"calls to {row['target']} ({row['address']})"
        console.print(f"[bold]{escape(title)}[/]")
        table = Table(box=SIMPLE_HEAD, show_header=False)
        for name, each in row.items():
            if isinstance(each, dict):
                table.add_row(name, escape(each["value"]), escape(each["from"]))
        console.print(table)
