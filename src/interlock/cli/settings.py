"""`interlock show settings`: every setting, its value now and where it came from; also the reference page."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated, Any

import typer

from interlock.cli.configured import configured

INTRODUCTION = """# Settings

Flags of `interlock serve` are strongest, then the environment, `.env`, the secrets directory (`/run/secrets`, or what
`INTERLOCK_SECRETS` names; a file called `interlock_port`), `interlock.toml` (or what `INTERLOCK_CONFIG` names; a key
called `port`), then the defaults. Durations read `30s`, `250ms`, `5m`; sizes `4MiB`. `interlock show settings` prints
the values in force. A service adds settings of its own by deriving from `interlock.Settings`.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, as people read it."""

    name: str
    variable: str
    value: str
    default: str
    description: str


def settings(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False) -> None:
    """Print every setting: its value here and now, its default, its environment variable.

    Read as a service reads them: environment, .env, secrets directory, interlock.toml in the current directory.

      interlock show settings
      INTERLOCK_PORT=9000 interlock show settings
      interlock show settings --json | jq '.[] | select(.value != .default)'
    """
    found = list(rows(configured()))
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], indent=2))
        return
    for row in found:
        marker = "*" if row.value != row.default else " "
        typer.echo(f"{marker} {row.variable:<38} {row.value:<12} {row.description}")
    typer.echo("* differs from the default")


def rows(values: Any = None) -> Iterator[Row]:
    """Yield every setting with its default, and with its value in `values` where that is given."""
    from interlock.settings import PREFIX, Settings

    for name, field in Settings.model_fields.items():
        default = shown(field.get_default(call_default_factory=True))
        value = default if values is None else shown(getattr(values, name))
        yield Row(name, PREFIX + name.upper(), value, default, field.description or "")


def markdown() -> str:
    """Return the reference page of all settings."""
    lines = [
        INTRODUCTION,
        "| variable | default | meaning |",
        "|---|---|---|",
        *(f"| `{row.variable}` | {f'`{row.default}`' if row.default else ''} | {row.description} |" for row in rows()),
        "",
        "Generated from the settings themselves; `make generate` writes it anew.",
    ]
    return "\n".join(lines) + "\n"


def shown(value: object) -> str:
    """Return a value as it would be written in the environment."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, default=_plain) if value else ""
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    """Return what JSON has no form for: another issuer's table, or a text that stands for a secret."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)
