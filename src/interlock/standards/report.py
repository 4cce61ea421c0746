"""What a check found: findings by rule, what was silenced and why, and what could not be checked."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from interlock.contract.mistakes import Mistake
from interlock.contract.model import Source


class Verdict(Enum):
    """How a rule came out."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One breach of a rule: where (a line of a `.proto`, or a request that was sent), what, and the remedy."""

    rule: str
    source: Source
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.source}: {self.rule} {self.message}"
        return f"{text} — {self.remedy}" if self.remedy else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Silenced:
    """A finding that its contract silences, with the reason given there."""

    finding: Finding
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one rule found; `notes` say what could not be seen, `checked` whether anything was."""

    rule: str
    title: str
    findings: tuple[Finding, ...] = ()
    silenced: tuple[Silenced, ...] = ()
    notes: tuple[str, ...] = ()
    checked: bool = True

    @property
    def verdict(self) -> Verdict:
        """FAILED with a finding, NOT_CHECKED where nothing could be checked, else PASSED."""
        if self.findings:
            return Verdict.FAILED
        return Verdict.PASSED if self.checked else Verdict.NOT_CHECKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcomes of all rules for one target, in the order of the rules."""

    target: str
    outcomes: tuple[Outcome, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings."""
        return tuple(finding for each in self.outcomes for finding in each.findings)

    @property
    def ok(self) -> bool:
        """Whether nothing was found; what could not be checked does not count."""
        return not self.findings


def found(rule: str, mistakes: Iterable[Mistake]) -> Iterator[Finding]:
    """Yield the mistakes as findings of `rule`."""
    for each in mistakes:
        yield Finding(rule=rule, source=each.source, message=each.message, remedy=each.remedy)


def as_data(report: Report) -> dict[str, Any]:
    """Return the report as plain values, for JSON; `line` is 0 where there is none."""
    return {
        "target": report.target,
        "ok": report.ok,
        "findings": len(report.findings),
        "rules": [_outcome(each) for each in report.outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.rule,
        "title": outcome.title,
        "verdict": outcome.verdict.value,
        "notes": list(outcome.notes),
        "findings": [_finding(each) for each in outcome.findings],
        "silenced": [_finding(each.finding) | {"reason": each.reason} for each in outcome.silenced],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "file": finding.source.file,
        "line": finding.source.line,
        "message": finding.message,
        "remedy": finding.remedy,
    }
