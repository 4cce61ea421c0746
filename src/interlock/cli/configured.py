"""The settings that stand where a command runs, read as a service reads them."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from interlock.settings import ProcessSettings


def configured() -> "ProcessSettings":
    """Return the settings; mistakes in them are told, a line each, and end the command with exit code 1."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from interlock.settings import ProcessSettings, explain

    try:
        return ProcessSettings()
    except (ValidationError, SettingsError) as error:
        typer.echo(explain(error), err=True)
        raise typer.Exit(1) from error
