"""Header fields that REST reads: media types with weights, entity tags, preferences (RFC 9110, RFC 7240)."""

import re
from collections.abc import Iterator
from functools import lru_cache

from interlock.errors import InvalidArgument
from interlock.metadata import Metadata

ANY = frozenset((b"*",))
"""The entity tags of `*`: whatever there is."""

_MAX_ELEMENTS = 100
_ELEMENT = re.compile(rb'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARAMETER = re.compile(rb'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
_WEIGHT = re.compile(rb"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")
_TAG = re.compile(rb'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|\Z)')


def whole(metadata: Metadata, name: bytes) -> bytes | None:
    """Return a list field whole: its lines joined by commas (RFC 9110 §5.3), None where there is none."""
    if metadata.header(name) is None:
        return None
    return b", ".join(value for each, value in metadata.raw if each == name)


def elements(value: bytes) -> list[bytes]:
    """Split a list field at its commas, not at those in quotes; at most 100 elements, empty ones left out."""
    found = (each.group().strip() for each in _ELEMENT.finditer(value))
    return [each for each, _ in zip((each for each in found if each), range(_MAX_ELEMENTS), strict=False)]


def _parts(element: bytes) -> Iterator[bytes]:
    for each in _PARAMETER.finditer(element):
        if part := each.group().strip():
            yield part


@lru_cache(512)
def preferred(accept: bytes | None, offered: tuple[bytes, ...]) -> bytes | None:
    """Return the media type of `offered` that an Accept field likes best, None where it excludes all of them.

    The most specific range that matches a type decides its weight (RFC 9110 §12.5.1); of equal weights the first of
    `offered` counts. Parameters but `q` are not looked at.
    """
    if accept is None:
        return offered[0]
    ranges = _ranges(accept)
    best, most = None, 0.0
    for each in offered:
        kind = each.partition(b"/")[0] + b"/*"
        weight = ranges.get(each, ranges.get(kind, ranges.get(b"*/*", 0.0)))
        if weight > most:
            best, most = each, weight
    return best


def _ranges(accept: bytes) -> dict[bytes, float]:
    ranges: dict[bytes, float] = {}
    for element in elements(accept.lower()):
        name, *parameters = *_parts(element), b""
        ranges[name] = max(ranges.get(name, 0.0), _weight(parameters))
    return ranges


def _weight(parameters: list[bytes]) -> float:
    for each in parameters:
        name, _, value = each.partition(b"=")
        if name.strip() == b"q":
            value = value.strip()
            return float(value) if _WEIGHT.match(value) else 0.0
    return 1.0


def entity_tags(value: bytes, name: str) -> frozenset[bytes]:
    """Return the entity tags of `If-Match` or `If-None-Match` as they stand there, or `ANY`; else InvalidArgument."""
    if value.strip() == b"*":
        return ANY
    tags: set[bytes] = set()
    at = 0
    rest = value.rstrip(b" \t,")
    while at < len(rest):
        found = _TAG.match(rest, at)
        if found is None or len(tags) == _MAX_ELEMENTS:
            raise InvalidArgument(f'{name} must be "*" or entity tags in quotes, separated by commas (RFC 9110 §8.8.3)')
        tags.add(found[1])
        at = found.end()
    if not tags:
        raise InvalidArgument(f"{name} is empty")
    return frozenset(tags)


def entity_tag(text: str) -> bytes | None:
    """Write a contract's etag as a strong entity tag; None for an empty one, and for one that no header can carry."""
    if not text or not text.isascii() or not text.isprintable() or '"' in text or " " in text:
        return None
    return b'"%s"' % text.encode()


def weakly_match(tags: frozenset[bytes], tag: bytes) -> bool:
    """Compare as `If-None-Match` does (RFC 9110 §8.8.3.2): a weak tag is as good as a strong one."""
    return tags is ANY or tag in tags or b"W/" + tag in tags


@lru_cache(256)
def wants_minimal(prefer: bytes) -> bool:
    """Tell whether a Prefer field asks for `return=minimal`; of several `return` the first counts (RFC 7240 §2)."""
    for element in elements(prefer):
        preference = next(_parts(element), b"")
        name, _, value = preference.partition(b"=")
        if name.strip().lower() == b"return":
            return value.strip().strip(b'"').lower() == b"minimal"
    return False
