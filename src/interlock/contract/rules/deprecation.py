"""The rule of deprecations: since when or until when, and what to use instead."""

from collections.abc import Callable, Iterator
from datetime import date

from interlock.contract.gen.interlock.v1.options_pb import Deprecation
from interlock.contract.mistakes import Mistake
from interlock.contract.model import Source


def deprecation_mistakes(subject: str, given: Deprecation | None, where: Callable[[str], Source]) -> Iterator[Mistake]:
    """Yield what is wrong with the deprecation of `subject`."""
    if given is None:
        return
    source = where("deprecation")
    if not given.since and not given.sunset:
        yield Mistake(source, f"{subject} is deprecated without a date", 'say since when: `since: "2026-01-31"`')
    dates = {name: _date(text) for name, text in (("since", given.since), ("sunset", given.sunset)) if text}
    for name, value in dates.items():
        if value is None:
            message = f"{subject}: `{name}: {getattr(given, name)!r}` is no date"
            yield Mistake(source, message, "write it as YYYY-MM-DD")
    since, sunset = dates.get("since"), dates.get("sunset")
    if since and sunset and sunset < since:
        yield Mistake(source, f"{subject}: its sunset lies before it is deprecated", "swap the dates")
    if not given.successor:
        message = f"{subject} is deprecated without a successor"
        yield Mistake(source, message, 'name the method, event or page to use instead: `successor: "GetOrderV2"`')


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if len(text) == len("YYYY-MM-DD") else None
    except ValueError:
        return None
