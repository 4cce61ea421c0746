"""Paths of field masks in parts: fields, and keys of maps, in backticks where they are no words (AIP-161)."""

import re

_WORD = re.compile(r"[A-Za-z0-9_]+\Z", re.ASCII)
_PART = re.compile(r"`((?:[^`]|``)*)`|([^.`]+)")


def mask_key(key: str) -> str:
    """Write the key of a map as a part of a path: in backticks, doubled inside, where it is no plain word."""
    return key if _WORD.match(key) else "`" + key.replace("`", "``") + "`"


def split_path(path: str) -> list[str]:
    """Return the parts of a path, a key's backticks undone; none where it is malformed."""
    parts: list[str] = []
    at = 0
    while found := _PART.match(path, at):
        parts.append(found[2] if found[1] is None else found[1].replace("``", "`"))
        at = found.end()
        if at == len(path):
            return parts
        if path[at] != ".":
            return []
        at += 1
    return []
