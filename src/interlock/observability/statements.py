"""A database statement as a span tells of it: what it does to which table, never its values."""

import re

LONGEST = 8192
"""Characters of a statement that are looked at."""

_TARGET = re.compile(
    r"""\b(?:FROM|INTO|UPDATE|JOIN|TABLE)\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?["`\[]?([A-Za-z_][\w.$]*)""", re.IGNORECASE
)
_VERB = re.compile(r"[\s(]*([A-Za-z]+)")


def summary(statement: object) -> tuple[str, str]:
    """Return the verb (`SELECT`) and the first table (`orders`), each empty where it can't be told.

    `statement` is SQLAlchemy's, SQL text, or a list of pairs of text and values, of which the first tells.
    """
    if isinstance(statement, tuple | list):
        statement = statement[0] if statement else ""
        if isinstance(statement, tuple | list):
            statement = statement[0]
    try:
        text = str(statement)[:LONGEST]
    except Exception:  # a statement that only its own dialect can write
        return type(statement).__name__.upper(), ""
    verb, target = _VERB.match(text), _TARGET.search(text)
    return ("" if verb is None else verb[1].upper()), ("" if target is None else target[1])
