"""Names: how proto names are written in Python, and which known name an unknown one was meant to be."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """Write a CamelCase name in snake_case; an acronym is one word (`GetHTTPInfo` becomes `get_http_info`)."""
    return _WORD_START.sub("_", name).lower()


def constant_case(name: str) -> str:
    """Write a CamelCase name as a constant (`GetOrder` becomes `GET_ORDER`)."""
    return snake_case(name).upper()


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known name closest to `name`, or an empty string."""
    found = get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
