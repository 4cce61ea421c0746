"""What an examination finds: a part, its state, what was seen and what to do."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from interlock.app import App
    from interlock.settings import Settings


class State(Enum):
    """How a part is; only a FAULT keeps a service from working."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part that was looked at; `remedy` says what to do where it is not OK."""

    part: str
    state: State
    told: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What is examined: the settings of a process and, where a target was named, the app it would serve."""

    settings: "Settings"
    app: "App | None" = None


Examination: TypeAlias = Callable[[Patient], Awaitable[Sequence[Finding]]]
"""Looks at one part; what it raises becomes a FAULT of that part."""


def ok(part: str, told: str) -> Finding:
    """Return a finding of a part that is well."""
    return Finding(part, State.OK, told)


def note(part: str, told: str, remedy: str) -> Finding:
    """Return a finding that somebody should know of."""
    return Finding(part, State.NOTE, told, remedy)


def fault(part: str, told: str, remedy: str) -> Finding:
    """Return a finding that keeps the service from working."""
    return Finding(part, State.FAULT, told, remedy)
