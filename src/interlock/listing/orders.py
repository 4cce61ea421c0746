"""Orders of lists (AIP-132 `order_by`): fields separated by commas, each ascending unless `desc` follows."""

import re
from dataclasses import dataclass

from interlock.errors import InvalidArgument, Violation
from interlock.listing.fields import Fields, hint

LONGEST = 1024
MOST = 8
"""How many fields an order may name."""

_PART = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)(?:\s+(asc|desc))?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sort:
    """One field of an order, by its path."""

    path: str
    descending: bool = False


def parse_order(text: str, fields: Fields | None = None) -> tuple[Sort, ...]:
    """Return the fields in order, none for an empty text; without `fields` any name goes, for a service's own default.

    InvalidArgument says what is wrong and at which character, from 1.
    """
    if len(text) > LONGEST:
        raise _wrong(f"longer than {LONGEST} characters")
    if not text.strip():
        return ()
    found: list[Sort] = []
    at = 0
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _wrong(f"at {at + 1}: expected a field, and desc or nothing behind it")
        path = match[1]
        if fields is not None and fields.sortable(path) is None:
            allowed = [name for name, each in fields.by_path.items() if each.sortable]
            raise _wrong(f"at {at + match.start(1) + 1}: can't order by {path[:64]!r}{hint(path, allowed)}")
        if any(each.path == path for each in found):
            raise _wrong(f"at {at + match.start(1) + 1}: {path} is named twice")
        found.append(Sort(path, (match[2] or "").lower() == "desc"))
        at += len(part) + 1
    if len(found) > MOST:
        raise _wrong(f"more than {MOST} fields")
    return tuple(found)


def _wrong(what: str) -> InvalidArgument:
    return InvalidArgument("invalid order_by", violations=[Violation(field="order_by", description=what)])
