"""Executes the examples of a built guide against a running service, each as a process of its own.

Only blocks that the guide marks (`run`) are executed; the others are reported with the guide's own reason.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from time import monotonic

from interlock.guide.markdown import NOT_EXECUTED, RUN

LONGEST = 30.0
"""Seconds that one example may take where nothing else is said."""

STEPS = frozenset(("python", "bash", "javascript", "hcl"))
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$(?=(?P<after>\n\n[^\n]+)?)", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_EXPORT = re.compile(r"^export ([A-Z][A-Z0-9_]*)=(\S+)$", re.MULTILINE)


class State(Enum):
    """What became of one example."""

    OK = "ok"
    FAILED = "failed"
    NOT_EXECUTED = "not executed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One block of a guide: the heading above it, its language and text, what its fence says, why it is not run."""

    heading: str
    language: str
    text: str
    attributes: Mapping[str, str]
    why_not: str = ""

    @property
    def runs(self) -> bool:
        """Whether the guide wants it executed."""
        return RUN in self.attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one example; `told` is why it was not executed, or the end of what it printed when it failed."""

    heading: str
    language: str
    state: State
    seconds: float = 0.0
    told: str = ""


def examples(guide: str) -> list[Example]:
    """Return the blocks of a guide that are steps to execute, in its order."""
    return list(_examples(guide))


def verify(
    guide: str,
    variables: Mapping[str, str],
    *,
    path: Sequence[Path] = (),
    longest: float = LONGEST,
    report: Callable[[Report], None] = lambda _: None,
) -> list[Report]:
    """Execute a guide's examples with `variables` in their environment, and report each, in the guide's order.

    `path` is where Python finds the generated client. Lines `export NAME=value` that an example prints are variables
    of those after it; so what is marked `first` runs first. Each gets `longest` seconds and a directory of its own,
    and is killed with its children at the end. It blocks; `report` is called as each ends.
    """
    found = examples(guide)
    named = {(each.language, each.attributes["name"]): each.text for each in found if "name" in each.attributes}
    environment = {**os.environ, **variables}
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])])
    reports: dict[int, Report] = {}
    for place in sorted(range(len(found)), key=lambda each: "first" not in found[each].attributes):
        example = found[place]
        text = named.get((example.language, example.attributes.get("after", "")), "") + example.text
        reports[place] = _report(example, text, environment, longest)
        report(reports[place])
    return [reports[place] for place in range(len(found))]


def _examples(guide: str) -> Iterator[Example]:
    prose = _FENCE.sub(lambda fence: " " * len(fence[0]), guide)  # a comment of a shell looks like a heading
    headings = [(each.start(), each[2]) for each in _HEADING.finditer(prose)]
    for fence in _FENCE.finditer(guide):
        language, *words = fence["info"].split()[:8] or [""]
        if language not in STEPS:
            continue
        attributes = {name: value for name, _, value in (word.partition("=") for word in words)}
        said = NOT_EXECUTED.fullmatch((fence["after"] or "").strip())
        yield Example(
            heading=next((text for at, text in reversed(headings) if at < fence.start()), ""),
            language=language,
            text=fence["text"],
            attributes=attributes,
            why_not=said["why"] if said else "the guide does not mark it to be run",
        )


def _report(example: Example, text: str, environment: dict[str, str], longest: float) -> Report:
    heading, language = example.heading, example.language
    if not example.runs:
        return Report(heading=heading, language=language, state=State.NOT_EXECUTED, told=example.why_not)
    command = _command(language)
    if command is None:
        told = f"{_PROGRAMS.get(language, language)} is not installed here"
        return Report(heading=heading, language=language, state=State.NOT_EXECUTED, told=told)
    began = monotonic()
    code, printed = _run([*command, f"example{_SUFFIXES[language]}"], text, environment, longest)
    if code == 0:
        environment.update(_EXPORT.findall(printed))
    return Report(
        heading=heading,
        language=language,
        state=State.OK if code == 0 else State.FAILED,
        seconds=monotonic() - began,
        told="" if code == 0 else _end_of(printed, code, longest),
    )


_PROGRAMS = {"bash": "bash", "javascript": "node"}
_SUFFIXES = {"python": ".py", "bash": ".sh", "javascript": ".mjs"}


def _command(language: str) -> list[str] | None:
    """Return the program that runs a file of that language, None where this machine has none."""
    if language == "python":
        return [sys.executable]
    program = shutil.which(_PROGRAMS.get(language, ""))
    if program is None or (language == "bash" and shutil.which("curl") is None):
        return None
    return [program, "-euo", "pipefail"] if language == "bash" else [program]


def _run(command: list[str], text: str, environment: Mapping[str, str], longest: float) -> tuple[int | None, str]:
    """Run a program whose last argument is its file; return exit code, None where it took too long, and output."""
    with tempfile.TemporaryDirectory(prefix="interlock-guide-") as directory:
        Path(directory, command[-1]).write_text(text, encoding="utf-8")
        process = subprocess.Popen(  # noqa: S603 - executing the guide's own examples is the purpose
            command,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=longest)
            return process.returncode, printed.decode(errors="replace")
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            with suppress(ProcessLookupError):  # its children too, which may hold its output open
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _end_of(printed: str, code: int | None, longest: float) -> str:
    if code is None:
        return f"it was not done after {longest:g} s"
    return "\n".join([f"exit {code}", *printed.strip().splitlines()[-12:]])
