"""Silencing: `interlock:ignore RULE reason` in a comment takes findings of that element out, and keeps the reason."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from protobuf.wkt import FileDescriptorSet
from protobuf.wkt.google.protobuf.descriptor_pb import FileDescriptorProto

from interlock.contract.mistakes import Mistake
from interlock.contract.model import Source
from interlock.contract.modules import installed
from interlock.contract.names import nearest
from interlock.standards.report import Finding, Silenced

_DIRECTIVE = re.compile(r"^[\s*/]*interlock:ignore\b[ \t]*(\S*)[ \t]*(.*)$", re.MULTILINE)
_WHOLE_FILE = ((2,), (12,))  # package and syntax, by their numbers in descriptor.proto


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """One `interlock:ignore`: it holds for the lines `first` to `last` of a file, all of them where both are 0."""

    rule: str
    reason: str
    source: Source
    first: int
    last: int

    def covers(self, finding: Finding) -> bool:
        """Tell whether it silences `finding`."""
        if not self.reason or finding.rule != self.rule or finding.source.file != self.source.file:
            return False
        return not self.first or self.first <= finding.source.line <= self.last


def directives(image: bytes) -> list[Directive]:
    """Return the directives in the comments of an image's own files, in their order."""
    files = FileDescriptorSet.from_binary(image).file
    return [directive for file in files if installed(file.name) is None for directive in _of_file(file)]


def _of_file(file: FileDescriptorProto) -> Iterator[Directive]:
    for location in file.source_code_info.location if file.source_code_info is not None else ():
        comments = (*location.leading_detached_comments, location.leading_comments, location.trailing_comments)
        for rule, reason in (match for text in comments for match in _DIRECTIVE.findall(text)):
            first, last = location.span[0] + 1, location.span[2 if len(location.span) == 4 else 0] + 1
            whole = tuple(location.path) in _WHOLE_FILE
            yield Directive(
                rule=rule.rstrip(":,"),
                reason=reason.strip(" :—-*/"),
                source=Source(file.name, first),
                first=0 if whole else first,
                last=0 if whole else last,
            )


def silence(
    findings: Iterable[Finding], given: Collection[Directive], binding: Collection[Mistake]
) -> tuple[list[Finding], list[Silenced], set[Directive]]:
    """Part findings into those that stay and those that a directive takes out; return the directives used, too.

    What is in `binding` stays: a mistake that keeps the contract from being used is not a matter of taste.
    """
    kept: list[Finding] = []
    silenced: list[Silenced] = []
    used: set[Directive] = set()
    for finding in findings:
        covering = [each for each in given if each.covers(finding)]
        if covering and Mistake(finding.source, finding.message, finding.remedy) not in binding:
            used.update(covering)
            silenced.append(Silenced(finding=finding, reason=covering[0].reason))
        else:
            kept.append(finding)
    return kept, silenced, used


def directive_mistakes(given: Iterable[Directive], used: Collection[Directive], known: list[str]) -> Iterator[Mistake]:
    """Yield the directives without a rule, without a reason, or that silence nothing any more."""
    for each in given:
        if each.rule not in known:
            what = f"`interlock:ignore {each.rule}` names no rule{nearest(each.rule, known)}"
            yield Mistake(
                each.source, what, "write `interlock:ignore RULE reason`; `interlock check --rules` lists them"
            )
        elif not each.reason:
            what = f"`interlock:ignore {each.rule}` gives no reason, so it silences nothing"
            yield Mistake(each.source, what, "say behind the rule why this one is different")
        elif each not in used:
            what = f"`interlock:ignore {each.rule}` silences nothing"
            yield Mistake(each.source, what, "remove it; what keeps a contract from being used cannot be silenced")
