"""`interlock events dead-letters …`: what services gave up. `interlock show asyncapi`: what they tell each other."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from interlock.cli.letters import as_table, as_text, described
from interlock.events import dead_letters
from interlock.events.broker import Broker, DeadLetter, open_broker
from interlock.events.dead_letters import Selection

Url = Annotated[
    str, typer.Option("--broker", metavar="URL", help="The broker; else the setting `broker`, as a service reads it.")
]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Ids as `list` prints them.")]
Group = Annotated[str, typer.Option("--group", metavar="SERVICE", help="Given up by this service (its full name).")]
Type = Annotated[str, typer.Option("--type", metavar="TYPE", help="Events of this type.")]
Key = Annotated[str, typer.Option("--key", metavar="KEY", help="Events with this partition key.")]
Code = Annotated[str, typer.Option("--code", metavar="CODE", help="Given up with this code, such as INTERNAL.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Whose cause has this text in it.")]
Older = Annotated[str, typer.Option("--older-than", metavar="AGE", help="Given up longer ago than 30m, 2h, 1d.")]
Newer = Annotated[str, typer.Option("--newer-than", metavar="AGE", help="Given up within the last 30m, 2h, 1d.")]
All = Annotated[bool, typer.Option("--all", help="All there are; needed where no id and no filter is given.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def list_(
    *,
    broker: Url = "",
    group: Group = "",
    type_: Type = "",
    key: Key = "",
    code: Code = "",
    reason: Reason = "",
    older_than: Older = "",
    newer_than: Newer = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Print so many at most.")] = 100,
    as_json: Json = False,
) -> None:
    """List dead letters: which event, who gave it up, when, after how many attempts, and why.

    interlock events dead-letters list
    interlock events dead-letters list --group api.payment.v1.PaymentService --newer-than 1h
    interlock events dead-letters list --broker nats://localhost:4222 --json | jq '.[].id'
    """
    selection = _selection(older_than, newer_than, group=group, type=type_, key=key, code=code, reason=reason)

    async def run(opened: Broker) -> tuple[list[DeadLetter], bool]:
        found = [each async for each in dead_letters.select(opened, selection, limit=limit + 1)]
        return found[:limit], len(found) > limit

    found, more = _with(broker, run)
    if as_json:
        typer.echo(json.dumps([described(each) for each in found], indent=2))
    elif found:
        typer.echo(as_table(found))
    else:
        typer.echo("no dead letters" + ("" if selection.is_all else " that fit"), err=True)
    if more:
        typer.echo(f"there are more than {limit}; --limit prints more of them", err=True)


def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="An id as `list` prints it.")],
    broker: Url = "",
    contract: Annotated[
        str, typer.Option("--contract", metavar="PATH|MODULE", help="Decodes the event: a project, image or module.")
    ] = ".",
    as_json: Json = False,
) -> None:
    """Print one dead letter: the event's attributes and data, the cause, the trace of the last attempt.

    The data is shown as JSON where the contract knows the event's message, else as base64.

      interlock events dead-letters show api.payment.v1.PaymentService/0199…
      interlock events dead-letters show ID --contract shop.orders --json
    """
    letter = _with(broker, lambda opened: dead_letters.show(opened, letter_id))
    facts = described(letter, contract)
    typer.echo(json.dumps(facts, indent=2) if as_json else as_text(facts))


def replay(
    ids: Ids = None,
    *,
    broker: Url = "",
    group: Group = "",
    type_: Type = "",
    key: Key = "",
    code: Code = "",
    reason: Reason = "",
    older_than: Older = "",
    newer_than: Newer = "",
    all_: All = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send dead letters to the service that gave them up, and to no other; each is removed once it is sent.

    They come behind the events of their key that were published meanwhile, and an inbox drops what was processed.

      interlock events dead-letters replay ID
      interlock events dead-letters replay --group api.payment.v1.PaymentService --reason timeout --dry-run
      interlock events dead-letters replay --all
    """
    selection = _selection(older_than, newer_than, group=group, type=type_, key=key, code=code, reason=reason)
    _refuse_nothing(ids, selection, all_)

    async def run(opened: Broker) -> tuple[list[DeadLetter], list[str]]:
        chosen = await _chosen(opened, ids, selection)
        return (chosen, []) if dry_run else await _each(chosen, lambda each: dead_letters.replay(opened, each.id))

    done, failures = _with(broker, run)
    _report("replayed", done, failures, dry_run=dry_run, as_json=as_json)


def discard(
    ids: Ids = None,
    *,
    broker: Url = "",
    group: Group = "",
    type_: Type = "",
    key: Key = "",
    code: Code = "",
    reason: Reason = "",
    older_than: Older = "",
    newer_than: Newer = "",
    all_: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove dead letters for good. More than one is asked for first, unless --yes is given.

    interlock events dead-letters discard ID
    interlock events dead-letters discard --type order.created --older-than 7d --yes
    """
    selection = _selection(older_than, newer_than, group=group, type=type_, key=key, code=code, reason=reason)
    _refuse_nothing(ids, selection, all_)

    async def run(opened: Broker) -> tuple[list[DeadLetter], list[str]]:
        chosen = await _chosen(opened, ids, selection)
        if dry_run:
            return chosen, []
        if len(chosen) > 1 and not yes:
            await asyncio.to_thread(_confirm, len(chosen))
        return await _each(chosen, lambda each: dead_letters.discard(opened, each.id))

    done, failures = _with(broker, run)
    _report("discarded", done, failures, dry_run=dry_run, as_json=as_json)


def asyncapi(
    target: Annotated[
        str, typer.Argument(metavar="[PATH|MODULE]", help="A project, an image (.binpb), or a module with one.")
    ] = ".",
) -> None:
    """Print the AsyncAPI 3 document of a contract: its events as channels, who sends and who receives them.

    It is what a service answers at /asyncapi.json, the same bytes each time.

      interlock show asyncapi
      interlock show asyncapi shop.gen > asyncapi.json
    """
    from interlock.contract.asyncapi import asyncapi_json
    from interlock.contract.find import find_image
    from interlock.contract.load import load

    typer.echo(asyncapi_json(load(find_image(target, Path.cwd()))).decode())


def _with(url: str, work: Callable[[Broker], Awaitable[Any]]) -> Any:
    """Run `work` with the broker at `url`, or of the settings, open."""
    url = url or _configured()
    _refuse(url)

    async def run() -> Any:
        async with _opened(url) as opened:
            return await work(opened)

    return asyncio.run(run())


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Broker]:
    try:
        broker = open_broker(url)
    except (ValueError, ImportError) as wrong:
        raise typer.BadParameter(str(wrong)) from wrong
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


def _refuse(url: str) -> None:
    """Refuse brokers that can't be reached from here, before one would be made anew."""
    kind, _, path = url.partition(":")
    if kind == "memory":
        raise typer.BadParameter("a broker in memory lives in its service's process, and can't be reached from here")
    if kind == "embedded" and path and not Path(path).exists():
        raise typer.BadParameter(f"there is no file {path}; run this where the service runs, or give --broker URL")


def _configured() -> str:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from interlock.settings import ProcessSettings, explain

    try:
        return ProcessSettings().broker.reveal()
    except (ValidationError, SettingsError) as error:
        raise typer.BadParameter(explain(error)) from error


async def _chosen(broker: Broker, ids: list[str] | None, selection: Selection) -> list[DeadLetter]:
    """Return the letters of `ids` that fit, or all that fit; UnknownLetter before anything is done."""
    if ids:
        named = [await dead_letters.show(broker, each) for each in dict.fromkeys(ids)]
        return [each for each in named if selection.fits(each)]
    return [each async for each in dead_letters.select(broker, selection)]


async def _each(
    chosen: list[DeadLetter], act: Callable[[DeadLetter], Awaitable[DeadLetter]]
) -> tuple[list[DeadLetter], list[str]]:
    """Act on each letter; return those done, and why others were not. One that is gone meanwhile is somebody else's."""
    done, failures = [], []
    for each in chosen:
        try:
            done.append(await act(each))
        except dead_letters.UnknownLetter:
            continue
        except dead_letters.CannotReplay as refused:
            failures.append(str(refused))
    return done, failures


def _report(what: str, done: list[DeadLetter], failures: list[str], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, what: [each.id for each in done], "failed": failures}, indent=2))
    else:
        for each in done:
            typer.echo(each.id)
        typer.echo(f"{len(done)} {'would be ' if dry_run else ''}{what}", err=True)
    for failure in failures:
        typer.echo(failure, err=True)
    if failures:
        raise typer.Exit(1)


def _confirm(count: int) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{count} dead letters would be removed for good; say --yes if that is meant")
    typer.confirm(f"remove {count} dead letters for good?", abort=True)


def _refuse_nothing(ids: list[str] | None, selection: Selection, all_: bool) -> None:
    if not ids and selection.is_all and not all_:
        raise typer.BadParameter("say which: an ID, a filter such as --group or --type, or --all")


def _selection(older: str, newer: str, **given: str) -> Selection:
    now = datetime.now(UTC)
    until = now - _age("--older-than", older) if older else None
    since = now - _age("--newer-than", newer) if newer else None
    return Selection(until=until, since=since, **given)


def _age(option: str, text: str) -> timedelta:
    from pydantic import TypeAdapter, ValidationError

    from interlock.settings import Duration

    try:
        found: timedelta = TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(f"{option}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    return found
