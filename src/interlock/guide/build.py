"""A guide is its headings in their order, each with what a section has to say."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from interlock.guide.facts import Fact
from interlock.guide.headings import GET, HEADINGS, POST, TITLE, Heading
from interlock.guide.markdown import anchor, bullets, joined
from interlock.guide.sections import code, failing, operating, overview, reference, setup, testing
from interlock.guide.subject import Route, Subject

Body: TypeAlias = Callable[[Subject], str]

BODIES: Mapping[str, Body] = {
    **overview.BODIES,
    **setup.BODIES,
    **reference.BODIES,
    **code.BODIES,
    **testing.BODIES,
    **failing.BODIES,
    **operating.BODIES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """A built guide: its Markdown, and the facts that are still to be filled in it."""

    text: str
    missing: tuple[Fact, ...]


def build(subject: Subject) -> Guide:
    """Write the guide: every heading of the template in its order; the same subject gives the same text."""
    parts = [each for heading in HEADINGS for each in _section(heading, subject)]
    return Guide(text=joined(*parts, _footer(subject)) + "\n", missing=subject.facts.missing)


def _section(heading: Heading, subject: Subject) -> Iterator[str]:
    if heading.text == TITLE:
        yield f"# {subject.name} Integration Guide"
        yield _header(subject)
        return
    if heading.level == 2:
        yield "---"
    if heading.text in (GET, POST):
        yield from _endpoints(heading, subject)
        return
    yield str(heading)
    body = BODIES.get(heading.text)
    yield _contents(subject) if heading.text == "Table of Contents" else body(subject) if body is not None else ""


def _endpoints(heading: Heading, subject: Subject) -> Iterator[str]:
    first, second, others = _by_place(subject)
    here = first if heading.text == GET else second
    if here is None:
        yield str(heading)
        yield f"No external operation of {subject.name} is bound to {heading.text.partition(' ')[0]}."
    for route in filter(None, (here, *(others if heading.text == POST else ()))):
        yield f"#### {route.binding}"
        yield reference.endpoint(subject, route)


def _by_place(subject: Subject) -> tuple[Route | None, Route | None, list[Route]]:
    """Return the routes that take the template's two places, and the others in the contract's order."""
    chosen = subject.chosen
    gets = [each for each in subject.routes if each.binding.verb == "GET"]
    posts = [each for each in subject.routes if each.binding.verb == "POST"]
    first = (chosen and chosen.retrieve) or next(iter(gets), None)
    second = (chosen and chosen.create) or next(iter(posts), None)
    return first, second, [each for each in subject.routes if each is not first and each is not second]


def _header(subject: Subject) -> str:
    facts = subject.facts
    lines = {
        "Document Type": "Integration Guide",
        "Last Updated": facts.text("document.last_updated"),
        "Status": facts.text("document.status"),
        "Owner": facts.text("owner.team"),
        "Review Cycle": facts.text("document.review_cycle"),
    }
    return "  \n".join(f"**{name}**: {value}" for name, value in lines.items())


def _contents(_: Subject) -> str:
    chapters = [each.text for each in HEADINGS if each.level == 2]
    listed = chapters[1 : chapters.index("Changelog")]  # what stands between, as in the template
    return bullets(f"[{each}](#{anchor(each)})" for each in listed)


def _footer(subject: Subject) -> str:
    facts = subject.facts
    lines = {
        "Maintained by": facts.text("owner.team"),
        "Questions": f"Contact {facts.text('owner.contact')}",
        "Service Support": facts.text("support.contact"),
    }
    return "---\n\n" + "  \n".join(f"**{name}:** {value}" for name, value in lines.items())
