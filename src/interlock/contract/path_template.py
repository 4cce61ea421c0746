"""Path templates of `google.api.http`: parsed here, matched by the REST router.

The grammar is that of google/api/http.proto:
`/v1/{name=shelves/*}/books/{book_id}:archive`, where `*` is one segment and `**` the rest.
"""

import re
from dataclasses import dataclass

_SEGMENT = re.compile(r"[A-Za-z0-9\-._~%!$&'()+,;=@]+\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")


@dataclass(frozen=True, slots=True)
class Variable:
    """A field path captured from the segments `start` to `end` (exclusive; None: to the end of the path)."""

    field: str
    start: int
    end: int | None


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A parsed template: literal segments, `*` and `**` (last only), the variables that capture them, the verb."""

    text: str
    segments: tuple[str, ...]
    variables: tuple[Variable, ...]
    verb: str = ""

    def __str__(self) -> str:
        return self.text

    @property
    def shape(self) -> str:
        """The template without its variables' names: two operations of one shape collide."""
        return "/" + "/".join(self.segments) + (f":{self.verb}" if self.verb else "")

    @classmethod
    def parse(cls, text: str) -> "PathTemplate":
        """Parse `text`; ValueError says what is wrong and where (column from 1)."""
        if not text.startswith("/"):
            raise ValueError(f"path {text!r} must start with '/'")
        body, verb = _split_verb(text)
        segments: list[str] = []
        variables: list[Variable] = []
        for part in _split_segments(body, text):
            if part.startswith("{"):
                _add_variable(part[1:-1], text, segments, variables)
            else:
                _add_segment(part, text, segments)
        if "**" in segments[:-1]:
            raise ValueError(f"path {text!r}: '**' must be the last segment")
        names = [each.field for each in variables]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"path {text!r}: variable {min(twice)!r} stands there twice")
        return cls(text, tuple(segments), tuple(variables), verb)


def _split_verb(text: str) -> tuple[str, str]:
    colon = text.rfind(":")
    if colon > max(text.rfind("/"), text.rfind("}")):
        verb = text[colon + 1 :]
        if not _SEGMENT.match(verb):
            raise ValueError(f"path {text!r}: a custom verb of letters must follow ':' at column {colon + 1}")
        return text[1:colon], verb
    return text[1:], ""


def _split_segments(body: str, text: str) -> list[str]:
    parts: list[str] = []
    depth, start = 0, 0
    for index, char in enumerate(body):
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
        elif char == "/" and depth == 0:
            parts.append(body[start:index])
            start = index + 1
        if depth not in (0, 1):
            raise ValueError(f"path {text!r}: unbalanced {char!r} at column {index + 2}")
    if depth:
        raise ValueError(f"path {text!r}: '{{' without '}}'")
    parts.append(body[start:])
    for part in parts:
        if ("{" in part or "}" in part) and not (part.startswith("{") and part.endswith("}")):
            raise ValueError(f"path {text!r}: a variable must fill its whole segment, not {part!r}")
    return parts


def _add_variable(inner: str, text: str, segments: list[str], variables: list[Variable]) -> None:
    field, _, pattern = inner.partition("=")
    if not _VARIABLE.match(field):
        raise ValueError(f"path {text!r}: {field!r} is no field path")
    start = len(segments)
    for part in (pattern or "*").split("/"):
        _add_segment(part, text, segments)
    variables.append(Variable(field, start, None if segments[-1] == "**" else len(segments)))


def _add_segment(part: str, text: str, segments: list[str]) -> None:
    if part not in ("*", "**") and not _SEGMENT.match(part):
        raise ValueError(f"path {text!r}: {part!r} is no path segment" if part else f"path {text!r}: empty segment")
    segments.append(part)
