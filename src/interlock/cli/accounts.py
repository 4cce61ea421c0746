"""`interlock accounts …`: service accounts and their API keys."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from interlock.cli.configured import configured

if TYPE_CHECKING:
    from interlock.data.account import ApiKey
    from interlock.security.api_keys import AccountStore

T = TypeVar("T")

Store = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="PLACE", help="A file, or a database's URL; by default what INTERLOCK_ACCOUNTS says."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Roles = Annotated[list[str] | None, typer.Option("--role", "-r", help="A role; give it again for more.")]


def create(
    name: Annotated[str, typer.Argument(help="What the account is called: the subject of its calls.")],
    role: Roles = None,
    store: Store = None,
) -> None:
    """Make a service account: a named principal with roles, which calls with API keys.

    interlock accounts create billing --role clerk --store var/accounts.json
    interlock accounts key billing --store var/accounts.json
    """
    from interlock.security.api_keys import create_account

    made = _with(store, lambda accounts: create_account(accounts, name, role or ()))
    typer.echo(f"made the account {made.name}, roles: {', '.join(made.roles) or 'none'}")
    typer.echo(f"next: interlock accounts key {made.name}")


def list_(store: Store = None, as_json: Json = False) -> None:
    """List the service accounts, with the number of keys that count.

    interlock accounts list --store var/accounts.json
    """

    async def read(accounts: "AccountStore") -> list[dict[str, Any]]:
        keys = await accounts.keys()
        return [
            {
                "name": each.name,
                "roles": list(each.roles),
                "disabled": each.disabled,
                "created_at": _date(each.created_at),
                "keys": sum(key.account == each.name and _state(key) == "counts" for key in keys),
            }
            for each in await accounts.accounts()
        ]

    rows = _with(store, read)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        state = "disabled" if row["disabled"] else f"{row['keys']} keys"
        typer.echo(f"{row['name']:<24} {', '.join(row['roles']) or '-':<32} {state}")
    if not rows:
        typer.echo("there is no account; make one with `interlock accounts create NAME --role ROLE`")


def disable(name: Annotated[str, typer.Argument(help="The account.")], store: Store = None) -> None:
    """Let no key of an account count any more, in all workers within 5 seconds.

    interlock accounts disable billing --store var/accounts.json
    """
    _with(store, lambda accounts: accounts.disable(name))
    typer.echo(f"{name} is disabled: none of its keys counts, in all workers within 5 s")


def enable(name: Annotated[str, typer.Argument(help="The account.")], store: Store = None) -> None:
    """Let the keys of a disabled account count again.

    interlock accounts enable billing --store var/accounts.json
    """
    _with(store, lambda accounts: accounts.disable(name, disabled=False))
    typer.echo(f"{name} is enabled")


def key(
    name: Annotated[str, typer.Argument(help="The account that it is for.")],
    role: Roles = None,
    lifetime: Annotated[str, typer.Option(help='How long it counts, such as "90d" or "12h"; empty: for ever.')] = "90d",
    store: Store = None,
) -> None:
    """Make an API key and print it, and nothing else: it cannot be shown again.

    With --role it has these roles of its account alone.

      interlock accounts key billing --store var/accounts.json
      KEY=$(interlock accounts key billing)
      curl -H "x-api-key: $KEY" http://127.0.0.1:8080/api/v1/orders
    """
    from datetime import timedelta

    from interlock.cli.keys import duration
    from interlock.security.api_keys import create_key

    with _told():
        time_left: timedelta | None = duration(lifetime) if lifetime else None
        if time_left is not None and time_left <= timedelta():
            raise ValueError("--lifetime must be above zero")
    pepper = configured().accounts_pepper.get_secret_value().encode()
    _, text = _with(store, lambda accounts: create_key(accounts, name, role or (), lifetime=time_left, pepper=pepper))
    typer.echo(text)


def keys(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Of one account alone.")] = "",
    store: Store = None,
    as_json: Json = False,
) -> None:
    """List API keys by what may be seen of them, newest first.

    interlock accounts keys billing --store var/accounts.json
    """
    found = _with(store, lambda accounts: accounts.keys(name))
    rows: list[dict[str, Any]] = [
        {
            "key": f"ilk_{each.id}",
            "account": each.account,
            "roles": list(each.roles) or None,
            "state": _state(each),
            "created_at": _date(each.created_at),
            "expires_at": _date(each.expires_at),
            "age_days": int((time.time() - each.created_at) // 86_400),
        }
        for each in found
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        until = f"until {row['expires_at'][:10]}" if row["expires_at"] else "without end"
        roles = ", ".join(row["roles"]) if row["roles"] else "all its roles"
        typer.echo(
            f"{row['key']}…  {row['account']:<24} {row['state']:<8} {row['age_days']} days old, {until}  {roles}"
        )


def revoke(
    prefix: Annotated[str, typer.Argument(metavar="KEY", help="The key as it is listed: ilk_… (or all of it, or -).")],
    store: Store = None,
) -> None:
    """Let an API key count no more, in all workers within 5 seconds.

    interlock accounts revoke ilk_2f6f0d0b7c5e4a11 --store var/accounts.json
    echo "$KEY" | interlock accounts revoke - --store var/accounts.json
    """
    given = sys.stdin.read().strip() if prefix == "-" else prefix
    key_id = given.removeprefix("ilk_").partition("_")[0].rstrip("…")
    _with(store, lambda accounts: accounts.revoke(key_id, time.time()))
    typer.echo(f"ilk_{key_id} is revoked, in all workers within 5 s")


def _state(key: "ApiKey") -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= time.time() else "counts"


def _date(at: float | None) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") if at is not None else None


def _with(store: str | None, work: Callable[["AccountStore"], Awaitable[T]]) -> T:
    """Do `work` on the store that the option or the settings name."""
    place = store or configured().accounts.reveal()
    if not place or place == "database":
        typer.echo(
            "name where the accounts are: --store FILE, or --store URL of the service's database, "
            "such as sqlite:///var/orders.db (INTERLOCK_ACCOUNTS says it for good)",
            err=True,
        )
        raise typer.Exit(2)
    with _told():
        return asyncio.run(_done(place, work))


async def _done(place: str, work: Callable[["AccountStore"], Awaitable[T]]) -> T:
    if "://" not in place:
        from interlock.security.account_file import AccountFile

        return await work(AccountFile(Path(place)))
    from interlock.data.accounts import StoredAccounts
    from interlock.data.database import Database

    async with Database(place) as database:
        return await work(StoredAccounts(database))


@contextmanager
def _told() -> Iterator[None]:
    """Tell a mistake in a line, without a traceback."""
    from interlock.errors import Error

    try:
        yield
    except Error as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(1) from error
    except (ValueError, ImportError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror}" if error.filename else str(error), err=True)
        raise typer.Exit(1) from error
