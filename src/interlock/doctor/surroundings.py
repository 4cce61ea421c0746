"""What a process brings along: the interpreter and libraries, variables, disk, ports."""

import difflib
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from interlock.doctor.finding import Finding, Patient, State, fault, note, ok
from interlock.doctor.running import running

LEAST_FREE = 256 << 20
"""Bytes below which a database or broker file will soon fail to grow."""

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(.*)")
_BOUND = re.compile(r"(>=|<)\s*([0-9.]+)")
_OTHERS = frozenset(("INTERLOCK_CONFIG", "INTERLOCK_SECRETS", "INTERLOCK_TOKEN", "INTERLOCK_API_KEY"))
"""Variables that are read elsewhere than by the settings."""


async def versions(_patient: Patient) -> Sequence[Finding]:
    """Hold the interpreter and the libraries against what Interlock needs."""
    wrong = [told for told in map(_unfit, requires("interlock") or ()) if told]
    if wrong:
        return [fault("versions", "; ".join(wrong), "install what the project pins: pip install -r requirements.txt")]
    python = ".".join(map(str, sys.version_info[:3]))
    return [ok("versions", f"Interlock {version('interlock')}, Python {python}, its libraries as required")]


def _unfit(requirement: str) -> str:
    """Return what is wrong with the library that `requirement` (PEP 508, as our own metadata has them) names."""
    wanted, _, marker = requirement.partition(";")
    name, bounds = _REQUIREMENT.match(wanted.strip()).groups()  # type: ignore[union-attr]  # our own metadata
    if "extra" in marker or ("win32" in marker and sys.platform == "win32"):
        return ""
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is not installed"
    for sign, bound in _BOUND.findall(bounds):
        below = _numbers(found) < _numbers(bound)
        if below == (sign == ">="):
            return f"{name} {found}, not {bounds}"
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", text)[:4])


async def variables(patient: Patient) -> Sequence[Finding]:
    """Find variables that look like settings and are none."""
    return [*unknown_variables(os.environ, type(patient.settings).model_fields)]


def unknown_variables(environment: Mapping[str, str], fields: Iterable[str]) -> list[Finding]:
    """Return a note for each INTERLOCK_ variable that no setting reads, naming the nearest that there is."""
    known = {f"INTERLOCK_{name.upper()}" for name in fields} | _OTHERS
    given = sorted(name for name in environment if name.startswith("INTERLOCK_"))
    wrong = [name for name in given if name.partition("__")[0] not in known]
    if not wrong:
        told = f"{len(given)} INTERLOCK_ variables, all of them settings" if given else "no INTERLOCK_ variable is set"
        return [ok("variables", told)]
    return [note("variables", f"{name} is set, and nothing reads it", _rename(name, known)) for name in wrong]


def _rename(name: str, known: Iterable[str]) -> str:
    names = {each.removeprefix("INTERLOCK_"): each for each in sorted(known)}
    near = difflib.get_close_matches(name.removeprefix("INTERLOCK_"), names, n=1)
    return f"did you mean {names[near[0]]}?" if near else "unset it; `interlock show settings` lists what there is"


async def disk(patient: Patient) -> Sequence[Finding]:
    """See whether `var/`, where SQLite and the embedded broker write, can be written and has room."""
    folder = Path("var")
    scheme, _, file = patient.settings.broker.reveal().partition(":")
    if scheme == "embedded" and file:
        folder = Path(file).parent
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return [fault("disk", f"{existing} cannot be written", f"give this user the right to write to {folder}")]
    free = shutil.disk_usage(existing).free
    told = f"{folder} can be written; {free / (1 << 20):,.0f} MiB are free"
    if free < LEAST_FREE:
        return [fault("disk", told, f"free some space on the file system of {existing}")]
    return [ok("disk", told)]


async def ports(patient: Patient) -> Sequence[Finding]:
    """Try to take both ports, as the server would."""
    settings = patient.settings
    wanted = {
        "port": (settings.host, settings.port),
        "operations_port": (settings.operations_host, settings.operations_port),
    }
    found = [_port(name, host, port) for name, (host, port) in wanted.items() if port]
    if settings.operations_port and any(each.state is State.FAULT for each in found):
        there = await running(f"{_reachable(settings.operations_host)}:{settings.operations_port}")
        if there[0].part != "running" or there[0].state is State.OK:
            remedy = "nothing, if it is the one that you mean: what follows is what it tells"
            return [note("ports", "a service runs here already", remedy), *there]
    return found


def _reachable(host: str) -> str:
    """Return where somebody on this machine reaches what listens at `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host


def _port(name: str, host: str, port: int) -> Finding:
    variable = f"INTERLOCK_{name.upper()}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        remedy = f"stop what listens there (ss -ltnp 'sport = :{port}'), or set {variable} to another"
        return fault(name, f"{host}:{port} cannot be taken: {error.strerror or error}", remedy)
    return ok(name, f"{host}:{port} is free")
