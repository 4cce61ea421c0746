"""`interlock doctor`: what keeps a service from working, and what to do."""

import asyncio
import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.doctor import Finding, Patient

_MARKS = {"ok": ("✓", typer.colors.GREEN), "note": ("!", typer.colors.YELLOW), "fault": ("✗", typer.colors.RED)}


def doctor(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[MODULE:MAKE]", help="The app, or a platform; its database and own settings are seen too."
        ),
    ] = "",
    *,
    at: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Look at the service that runs there: its operations port.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Look at all that a service needs before it serves, or at one that runs: what is wrong, and the remedy.

    Before: settings and unknown variables, versions, disk, ports, keys and their age, roles, certificates, database and
    its clock, broker, neighbours, collector. Running (--at, or where the operations port answers already): readiness,
    failed calls, open circuits, outbox, dead letters, the last error. Changes nothing. Exits 1 if there is a fault;
    notes do not count.

      interlock doctor
      interlock doctor shop.orders:make
      interlock doctor shop.platform:platform
      interlock doctor --at localhost:8081
      interlock doctor --json | jq '.[] | select(.state == "fault")'
    """
    from interlock.doctor import State, examine, examine_platform, running

    if at:
        findings = asyncio.run(running(at))
    else:
        apps, findings = _platform(target)
        if apps:
            findings += asyncio.run(examine_platform(apps))
        elif not findings:
            findings, patient = _patient(target)
            if patient is not None:
                findings += asyncio.run(examine(patient))
    if as_json:
        rows = [{"part": f.part, "state": f.state.value, "told": f.told, "remedy": f.remedy} for f in findings]
        typer.echo(json.dumps(rows, indent=2))
    else:
        for each in findings:
            _tell(each)
        states = [each.state for each in findings]
        typer.echo(f"\n{_count(states.count(State.FAULT), 'fault')}, {_count(states.count(State.NOTE), 'note')}")
    if any(each.state is State.FAULT for each in findings):
        raise typer.Exit(1)


def _platform(target: str) -> "tuple[dict[str, App], list[Finding]]":
    """Return the apps of a platform, and what is wrong with those that can't be made; nothing if it is none.

    Their neighbours' addresses are given by what runs the platform, so any will do here.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from interlock.doctor.finding import fault
    from interlock.platform.platform import load as load_platform
    from interlock.server.application import StartError, load
    from interlock.settings import explain

    if not target:
        return {}, []
    try:
        platform = load_platform(target)
    except Exception:  # what is wrong with a module is told where it is loaded as an app
        return {}, []
    addresses = {f"INTERLOCK_UPSTREAMS__{name.upper()}": "127.0.0.1:9" for name in platform.services}
    given = [name for name in addresses if os.environ.setdefault(name, addresses[name]) == addresses[name]]
    apps: dict[str, App] = {}
    wrong: list[Finding] = []
    for name, each in {**platform.services, "gateway": platform.gateway}.items():
        try:
            apps[name] = load(each)  # type: ignore[assignment]  # an App is what these factories make
        except (ValidationError, SettingsError) as error:
            wrong.append(fault(name, explain(error), "correct it; `interlock show settings` explains each setting"))
        except StartError as error:
            wrong.append(fault(name, str(error), "put this right first; the others are seen without it"))
    for name in given:
        del os.environ[name]
    return apps, wrong


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


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _tell(finding: "Finding") -> None:
    from interlock.observability.logging import one_line

    mark, colour = _MARKS[finding.state.value]
    lines = [one_line(line) for line in finding.told.splitlines()] or [""]
    typer.echo(f"{typer.style(mark, fg=colour)} {finding.part:<20} {lines[0]}")
    for line in lines[1:]:
        typer.echo(f"{'':<23}{line}")
    if finding.remedy:
        typer.echo(f"{'':<23}→ {one_line(finding.remedy)}")
