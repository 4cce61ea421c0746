"""Lays generated statements out as `ruff format` does at 120 columns, so that formatting leaves them alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

WIDTH = 120
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Group:
    """A bracketed list that breaks when it does not fit: on one indented line if it may, else an item a line."""

    opening: str
    items: "tuple[str | Group, ...]"
    closing: str
    one_per_line: bool = False

    def __str__(self) -> str:
        return f"{self.opening}{', '.join(map(str, self.items))}{self.closing}"


def call(function: str, *items: "str | Group") -> Group:
    """Return the call of `function` with these arguments."""
    return Group(f"{function}(", items, ")")


def lay_out(group: Group, indent: int = 0, suffix: str = "") -> Iterator[str]:
    """Yield the lines of `group`, indented by that many levels, `suffix` at the end."""
    margin, inner = INDENT * indent, INDENT * (indent + 1)
    flat = f"{margin}{group}{suffix}"
    if len(flat) <= WIDTH or not group.items:
        yield flat
        return
    yield f"{margin}{group.opening}"
    body = f"{inner}{', '.join(map(str, group.items))}"
    if len(body) <= WIDTH and not group.one_per_line and group.items[-1] != "/":
        yield body
    else:
        for item in group.items:
            if isinstance(item, Group):
                yield from lay_out(item, indent + 1, ",")
            else:
                yield f"{inner}{item},"
    yield f"{margin}{group.closing}{suffix}"


def docstring(text: str, indent: int = 0) -> Iterator[str]:
    """Yield a docstring that says `text`."""
    margin = INDENT * indent
    first, *rest = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"').splitlines()
    if not rest:
        yield f'{margin}"""{first}{" " if first.endswith(chr(34)) else ""}"""'
        return
    yield f'{margin}"""{first}'
    yield from (f"{margin}{line}".rstrip() for line in rest)
    yield f'{margin}"""'


def indented(lines: Iterable[str], indent: int = 1) -> Iterator[str]:
    """Indent `lines`, the empty ones excepted."""
    return (f"{INDENT * indent}{line}" if line else line for line in lines)
