"""Pieces of Markdown, and the marks by which a built guide says which of its blocks are executed."""

import re
from collections.abc import Iterable, Mapping, Sequence

RUN = "run"
NOT_EXECUTED = re.compile(r"\*Not executed by `interlock guide verify`: (?P<why>.+)\.\*")


def joined(*parts: str) -> str:
    """Return paragraphs, the empty ones left out, with a blank line between them."""
    return "\n\n".join(filter(None, (each.strip("\n") for each in parts)))


def block(language: str, text: str, *attributes: str) -> str:
    """Return a fenced block; readers see the language, programs the attributes behind it."""
    return "\n".join((f"```{' '.join((language, *attributes))}", text.strip("\n"), "```"))


def run(language: str, text: str, *, name: str = "", after: str = "", first: bool = False) -> str:
    """Return a block that `verify` executes.

    `name` is what other blocks of that language may start with (`after`); those that are `first` run before the rest.
    """
    given = (f"name={name}" if name else "", f"after={after}" if after else "", "first" if first else "")
    return block(language, text, RUN, *filter(None, given))


def not_run(language: str, text: str, why: str) -> str:
    """Return a block that is shown only, and say so and why."""
    return f"{block(language, text)}\n\n*Not executed by `interlock guide verify`: {why}.*"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; bars and line breaks in cells are made harmless."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(cell, each))} |" for each in lines)


def cell(text: str) -> str:
    """Return a text as one cell of a table holds it."""
    return " ".join(text.split()).replace("|", "\\|")


def bullets(items: Iterable[str]) -> str:
    """Return a list."""
    return "\n".join(f"- {each}" for each in items)


def numbered(items: Iterable[str]) -> str:
    """Return a numbered list."""
    return "\n".join(f"{number}. {each}" for number, each in enumerate(items, 1))


def checks(items: Mapping[str, bool] | Iterable[str]) -> str:
    """Return a checklist; a mapping says which are ticked."""
    ticked = items if isinstance(items, Mapping) else dict.fromkeys(items, False)
    return "\n".join(f"- [{'x' if is_ticked else ' '}] {each}" for each, is_ticked in ticked.items())


def links(items: Mapping[str, str]) -> str:
    """Return a list of links, title -> address."""
    return bullets(f"[{title}]({address})" for title, address in items.items())


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets."""
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
