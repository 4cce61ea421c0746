"""`interlock doctor`: what keeps a service from working, and what to do."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from interlock.doctor import Finding, Patient

_MARKS = {"ok": ("✓", typer.colors.GREEN), "note": ("!", typer.colors.YELLOW), "fault": ("✗", typer.colors.RED)}


def doctor(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[MODULE:MAKE]", help="The app; with it its database and its own settings are seen too."
        ),
    ] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Look at all that a service needs before it serves: what is wrong, and the remedy.

    Settings and unknown variables, versions, disk, ports, keys and their age, roles, certificates, database and its
    clock, broker, neighbours, collector. Changes nothing. Exits 1 if there is a fault; notes do not count.

      interlock doctor
      interlock doctor shop.orders:make
      interlock doctor --json | jq '.[] | select(.state == "fault")'
    """
    from interlock.doctor import State, examine

    findings, patient = _patient(target)
    if patient is not None:
        findings += asyncio.run(examine(patient))
    if as_json:
        rows = [{"part": f.part, "state": f.state.value, "told": f.told, "remedy": f.remedy} for f in findings]
        typer.echo(json.dumps(rows, indent=2))
    else:
        for each in findings:
            _tell(each)
    if any(each.state is State.FAULT for each in findings):
        raise typer.Exit(1)


def _patient(target: str) -> "tuple[list[Finding], Patient | None]":
    """Return what can be examined; where the app can't be made, why, and the bare settings at least."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from interlock.doctor.finding import Patient, fault
    from interlock.server.application import StartError, load
    from interlock.settings import ProcessSettings, explain

    found: list[Finding] = []
    try:
        if target:
            try:
                app = load(target)
                return found, Patient(settings=app.settings, app=app)  # type: ignore[arg-type]  # these make an App
            except StartError as error:
                found.append(fault("app", str(error), "put this right first; the rest is seen without the app"))
        return found, Patient(settings=ProcessSettings())
    except (ValidationError, SettingsError) as error:
        remedy = "correct it; `interlock show settings` explains each setting"
        return [fault("settings", explain(error), remedy)], None


def _tell(finding: "Finding") -> None:
    mark, colour = _MARKS[finding.state.value]
    lines = finding.told.splitlines() or [""]
    typer.echo(f"{typer.style(mark, fg=colour)} {finding.part:<20} {lines[0]}")
    for line in lines[1:]:
        typer.echo(f"{'':<23}{line}")
    if finding.remedy:
        typer.echo(f"{'':<23}→ {finding.remedy}")
