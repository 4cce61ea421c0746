"""`interlock bench`: load on a target, and whether it keeps what its contract promises."""

import asyncio
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli.call import Connection, Tokens, metadata_of, read_contract, stopped, told

if TYPE_CHECKING:
    from interlock.bench import Goal, Measured, Plan, Progress, Report
    from interlock.bench.processes import Start

_LOAD = "How much is sent"


def bench(  # noqa: PLR0917 - typer makes options of parameters
    target: Annotated[str, typer.Argument(metavar="TARGET", help="host:port or grpcs://…; http(s)://… for Connect.")],
    rate: Annotated[float, typer.Option(help="Requests a second.", rich_help_panel=_LOAD)],
    seconds: Annotated[float, typer.Option(help="For how long, at most 3600.", rich_help_panel=_LOAD)],
    method: Annotated[
        str | None, typer.Option(help="/pkg.Service/Method, or as much of it as is clear. [the only one with examples]")
    ] = None,
    request: Annotated[str | None, typer.Option("--json", help="The request. [the contract's examples]")] = None,
    token: Annotated[str | None, typer.Option(help="Bearer token, or @FILE that holds it.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Sent with each call.")] = None,
    contract: Annotated[
        str | None, typer.Option(help="Image, project or module with the contract. [the target's reflection]")
    ] = None,
    connections: Annotated[int, typer.Option(min=1, max=64, help="TCP connections.", rich_help_panel=_LOAD)] = 4,
    in_flight: Annotated[int, typer.Option(help="Most calls unanswered at a time.", rich_help_panel=_LOAD)] = 1000,
    patience: Annotated[
        float, typer.Option(help="Seconds until what has no answer counts as failed.", rich_help_panel=_LOAD)
    ] = 10.0,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that send together.", rich_help_panel=_LOAD)
    ] = 1,
    json_report: Annotated[bool, typer.Option("--json-report", help="Print JSON, for programs.")] = False,
    i_own_this_host: Annotated[
        bool, typer.Option("--i-own-this-host", help="Allow a target that is not this machine.")
    ] = False,
) -> None:
    """Send calls at a fixed rate and hold what comes back against the declared objectives.

    Calls leave by the clock, whether or not earlier ones were answered, and latency counts from when a call was due:
    a server that stalls can't hide its queue. P95 latency, success and rate are held against the operation's
    objectives, else its service's, else what its tier means: 10,000, 1,000 or 100 requests/s.

    Exit 0 where the objectives are met, 1 where one is missed, 2 where nothing was measured. A rate below the promised
    one leaves that objective untested, and says so.

      interlock bench 127.0.0.1:8080 --rate 100 --seconds 10
      interlock bench 127.0.0.1:8080 --rate 500 --seconds 30 --method GetOrder --json '{"order_id": "o-1"}'
      interlock bench 127.0.0.1:8080 --rate 100 --seconds 5 --contract examples/shop --json-report | jq .verdict
    """
    from interlock.bench import Plan, as_json, read_target, refuse_foreign

    with stopped():
        where = read_target(target)
        refuse_foreign(where, owned=i_own_this_host)
        plan = Plan(rate=rate, seconds=seconds, in_flight=in_flight, patience=patience)
        connection = Connection(where, Tokens(token), tuple(metadata or ()), contract, connections)
        result = _load(Job(connection, plan, method, request), processes)
    if json_report:
        typer.echo(json.dumps(as_json(result), indent=2))
    else:
        _print(result)
    raise typer.Exit(0 if result.met else 1)


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured, by whichever process."""

    connection: Connection
    plan: "Plan"
    method: str | None
    request: str | None


@dataclass(frozen=True, slots=True)
class Share:
    """What one process measured, and the share of a core that it took."""

    operation: str
    goals: "tuple[Goal, ...]"
    measured: "Measured"
    cpu: float


def _load(job: Job, processes: int) -> "Report":
    from interlock.bench import in_processes, report, together

    if processes == 1:
        shares = [asyncio.run(_measure(job, lambda: True))]
    else:
        told(f"{processes} processes, {job.plan.rate / processes:g} requests/s each; one of them tells how far it is")
        shares = in_processes(processes, partial(_part, replace(job, plan=job.plan.share(processes))))
    measured = together(job.plan, [each.measured for each in shares])
    busiest = max(each.cpu for each in shares)
    target, one = str(job.connection.target), shares[0]
    return report(target, one.operation, measured, one.goals, generator_cpu=busiest)


def _part(job: Job, start: "Start") -> Share:
    return asyncio.run(_measure(job, start))


async def _measure(job: Job, start: "Start") -> Share:
    from interlock.bench import Run, find_operation, goals, only_operation, requests_of, sender

    plan, metadata = job.plan, await metadata_of(job.connection)
    transport = job.connection.transport()
    try:
        contract = await read_contract(job.connection, metadata)
        operation = find_operation(contract, job.method) if job.method is not None else only_operation(contract)
        requests = requests_of(operation, job.request)
        limit = operation.timeout.total_seconds() if operation.timeout is not None else plan.end
        send = sender(operation, transport.handler(operation), requests, metadata=metadata, timeout=limit)
        tells = start()
        if tells:
            told(f"{operation} on {job.connection.target}: {plan.rate:g} requests/s for {plan.seconds:g} s")
        began, used = time.perf_counter(), time.process_time()
        measured = await Run(plan, send, progress=_progress if tells else None).measure()
        cpu = (time.process_time() - used) / (time.perf_counter() - began)
        return Share(operation.path, goals(operation), measured, cpu)
    finally:
        await transport.close()


def _progress(now: "Progress") -> None:
    failed = f", {now.failed:,} failed" if now.failed else ""
    told(
        f"{now.elapsed:6.1f} s  {now.sent:,} of {now.total:,} sent, {now.in_flight:,} in flight, "
        f"{now.succeeded:,} succeeded{failed}, P95 {now.p95 * 1000:.1f} ms"
    )


def _print(result: "Report") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from interlock.bench.report import notes, rows

    console = Console()
    if not console.is_terminal:
        console.width = 160
    table = Table(box=SIMPLE_HEAD)
    for name in ("", "measured", "objective", ""):
        table.add_column(name, justify="right" if name == "measured" else "left")
    for row in rows(result):
        table.add_row(*map(escape, row))
    console.print(table)
    for note in notes(result):
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    console.print("objectives met" if result.met else "objectives missed", highlight=False)
