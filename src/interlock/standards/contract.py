"""`interlock check PATH`: every contract rule over the contracts of one or more directories."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from interlock.contract.compile import compile_image, proto_files
from interlock.contract.mistakes import ContractError, Mistake
from interlock.contract.model import Source
from interlock.contract.project import read_project
from interlock.contract.rules import find_mistakes
from interlock.standards.declarations import declarations
from interlock.standards.report import Finding, Outcome, Report, Silenced, found
from interlock.standards.rule import ContractRule
from interlock.standards.rules import CONTRACT_RULES
from interlock.standards.silence import directive_mistakes, directives, silence

SOUND, SOUND_TITLE = "CONTRACT", "The contract compiles, and says nothing that cannot be."
IGNORE, IGNORE_TITLE = "IGNORE", "What is silenced names its rule and the reason, and is still needed."


class NothingToCheck(Exception):
    """A path that is no contract."""


def check_contract(paths: Sequence[Path], *, rules: Sequence[ContractRule] = CONTRACT_RULES) -> Report:
    """Check what `paths` name together: directories of contracts, projects, or one image (`.binpb`).

    Services that call or hear each other are checked as one platform when all their directories are named. Findings
    name files from the path as it was given. NothingToCheck where a path is none of these.
    """
    target = " ".join(map(str, paths))
    if len(paths) == 1 and paths[0].is_file():
        return _check(target, paths[0].read_bytes(), rules)
    roots = [_root(path) for path in paths]
    try:
        report = _check(target, compile_image(roots), rules)
    except ContractError as error:
        findings = tuple(found(SOUND, error.mistakes))
        unchecked = (Outcome(rule=each.id, title=each.title, checked=False) for each in rules)
        sound = Outcome(rule=SOUND, title=SOUND_TITLE, findings=findings)
        report = Report(target=target, outcomes=(sound, *unchecked))
    origin = {name: root for root in roots for name in proto_files(root)}
    return _renamed(report, lambda name: (origin[name] / name).as_posix() if name in origin else name)


def check_image(image: bytes, *, rules: Sequence[ContractRule] = CONTRACT_RULES) -> Report:
    """Check an image; findings name files as it does, with lines where it has source info."""
    return _check("image", image, rules)


def _check(target: str, image: bytes, rules: Sequence[ContractRule]) -> Report:
    declared = declarations(image)
    mistakes = list(dict.fromkeys(find_mistakes(declared.declared)))
    given = directives(image)
    outcomes: list[Outcome] = []
    claimed: set[Mistake] = set()
    used = set()
    for rule in rules:
        breaches = list(dict.fromkeys(rule.check(declared)))
        claimed.update(breaches)
        kept, silenced, spent = silence(found(rule.id, breaches), given, mistakes)
        used |= spent
        outcomes.append(Outcome(rule=rule.id, title=rule.title, findings=_sorted(kept), silenced=tuple(silenced)))
    rest = found(SOUND, (each for each in mistakes if each not in claimed))
    known = [each.id for each in rules]
    stray = found(IGNORE, directive_mistakes(given, used, known))
    return Report(
        target=target,
        outcomes=(
            Outcome(rule=SOUND, title=SOUND_TITLE, findings=_sorted(rest)),
            *outcomes,
            Outcome(rule=IGNORE, title=IGNORE_TITLE, findings=_sorted(stray)),
        ),
    )


def _root(path: Path) -> Path:
    if (path / "pyproject.toml").is_file():
        contracts = read_project(path).contracts
        return path / contracts.relative_to(path.resolve()) if contracts.is_relative_to(path.resolve()) else contracts
    if not path.is_dir():
        raise NothingToCheck(f"{path} is neither a directory of contracts, nor a project, nor an image")
    if not proto_files(path):
        raise NothingToCheck(f"no .proto file stands below {path}")
    return path


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda each: (each.source.file, each.source.line)))


def _renamed(report: Report, name: Callable[[str], str]) -> Report:
    def finding(each: Finding) -> Finding:
        return replace(each, source=Source(name(each.source.file), each.source.line))

    def silenced(each: Silenced) -> Silenced:
        return replace(each, finding=finding(each.finding))

    outcomes = (
        replace(each, findings=tuple(map(finding, each.findings)), silenced=tuple(map(silenced, each.silenced)))
        for each in report.outcomes
    )
    return replace(report, outcomes=tuple(outcomes))
