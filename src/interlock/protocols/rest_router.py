"""Finds the route of an HTTP request: a trie of path segments for each HTTP method.

Literals win over `*`, `*` over `**` (google/api/http.proto); the first route added at a place stays the only one.
"""

from typing import Generic, NamedTuple, TypeVar
from urllib.parse import unquote

from interlock.contract.path_template import PathTemplate, Variable

T = TypeVar("T")


class Match(NamedTuple, Generic[T]):
    """A route that was found, and the path's segments as they came: undecoded, without the custom verb."""

    target: T
    segments: list[str]


class _Node(Generic[T]):
    __slots__ = ("any", "literals", "rest", "targets")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.any: _Node[T] | None = None
        self.rest: _Node[T] | None = None
        self.targets: dict[str, T] = {}  # by custom verb, "" for none


class Router(Generic[T]):
    """Maps an HTTP method and a path to the target that was added for it."""

    def __init__(self) -> None:
        self._tries: dict[str, _Node[T]] = {}
        self._verbs: set[str] = set()

    def add(self, method: str, template: PathTemplate, target: T) -> None:
        """Add a route; ValueError if one of the same method and shape is there."""
        node = self._tries.setdefault(method, _Node())
        for segment in template.segments:
            if segment == "*":
                node.any = node.any or _Node()
                node = node.any
            elif segment == "**":
                node.rest = node.rest or _Node()
                node = node.rest
            else:
                node = node.literals.setdefault(unquote(segment), _Node())
        if template.verb in node.targets:
            raise ValueError(f"{method} {template}: another operation has a route of the same shape")
        node.targets[template.verb] = target
        if template.verb:
            self._verbs.add(template.verb)

    def find(self, method: str, path: str) -> Match[T] | None:
        """Return the route for the path as it came (undecoded, without the query), or None.

        A last segment `id:cancel` belongs to the custom verb where any method has one there, else it is all value.
        """
        root = self._tries.get(method)
        if root is None or path[:1] != "/":
            return None
        segments = path[1:].split("/")
        last = segments[-1]
        if ":" in last:
            value, _, verb = last.rpartition(":")
            if verb in self._verbs and value:
                short = [*segments[:-1], value]
                known = _literals(short)
                target = _walk(root, known, 0, verb)
                if target is not None:
                    return Match(target, short)
                if any(_walk(each, known, 0, verb) is not None for each in self._tries.values()):
                    return None
        target = _walk(root, _literals(segments) if "%" in path else segments, 0, "")
        return None if target is None else Match(target, segments)

    def methods(self, path: str | None) -> tuple[str, ...]:
        """Return the HTTP methods that the path has, sorted: what `Allow` says; of all paths for None.

        HEAD stands wherever GET does, OPTIONS wherever anything does.
        """
        found = {method for method in self._tries if path is None or self.find(method, path) is not None}
        if not found:
            return ()
        return tuple(sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())))


def _literals(segments: list[str]) -> list[str]:
    return [unquote(each) for each in segments]


def _walk(node: _Node[T], segments: list[str], index: int, verb: str) -> T | None:
    size = len(segments)
    while index < size:
        segment = segments[index]
        literal = node.literals.get(segment)
        if literal is not None:
            if node.any is None and node.rest is None:
                node = literal
                index += 1
                continue
            found = _walk(literal, segments, index + 1, verb)
            if found is not None:
                return found
        some = node.any
        if some is not None and segment:
            if node.rest is None:
                node = some
                index += 1
                continue
            found = _walk(some, segments, index + 1, verb)
            if found is not None:
                return found
        return None if node.rest is None else node.rest.targets.get(verb)
    found = node.targets.get(verb)
    if found is None and node.rest is not None:
        found = node.rest.targets.get(verb)
    return found


def captured(variable: Variable, segments: list[str]) -> str:
    """Return the value of a variable, percent-decoded as google/api/http.proto asks.

    One segment is decoded whole; in several an encoded slash stays encoded. UnicodeDecodeError if it is not UTF-8.
    """
    start, end = variable.start, variable.end
    if end == start + 1:
        text = segments[start]
        return unquote(text, errors="strict") if "%" in text else text
    text = "/".join(segments[start:end])
    if "%" not in text:
        return text
    kept = text.replace("%2F", "%252F").replace("%2f", "%252f")
    return unquote(kept, errors="strict")
