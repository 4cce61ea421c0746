"""`interlock check --live URL`: every live rule against one running service, one after the other."""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from interlock.contract.mistakes import Mistake
from interlock.standards.live.exchange import Answer
from interlock.standards.live.grpc004 import GRPC004_LIVE
from interlock.standards.live.grpc006 import GRPC006
from interlock.standards.live.obs001 import OBS001
from interlock.standards.live.rest005 import REST005
from interlock.standards.live.sec001 import SEC001
from interlock.standards.live.target import NoAnswer, Observed, Target
from interlock.standards.report import Outcome, Report, found
from interlock.standards.rule import LiveRule

LIVE_RULES = (REST005, GRPC006, GRPC004_LIVE, SEC001, OBS001)
"""Every rule that a running service can break."""

DOCUMENT = "/openapi.json"


class Unreachable(Exception):
    """Nothing answers where the service should be."""


async def check_live(target: Target, *, rules: Sequence[LiveRule] = LIVE_RULES) -> Report:
    """Check the running service at `target.url`, with requests that change nothing in it.

    What to ask is read from its OpenAPI document. ValueError for a URL that is none, Unreachable where nothing answers.
    """
    parts = urlsplit(target.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{target.url!r} is no URL of a service; write http://host:port")
    try:
        answer = await target.send("GET", DOCUMENT)
    except NoAnswer as error:
        raise Unreachable(f"{target.url} does not answer: {error}") from error
    known = replace(target, document=answer.json) if _is_document(answer) else target
    outcomes = [await _outcome(rule, known) for rule in rules]
    return Report(target=target.url, outcomes=tuple(outcomes))


def _is_document(answer: Answer) -> bool:
    return answer.status == 200 and isinstance(answer.json, dict) and "paths" in answer.json


async def _outcome(rule: LiveRule, target: Target) -> Outcome:
    try:
        seen = await rule.probe(target)
    except NoAnswer as error:
        breach = Mistake(error.source, f"no answer came: {error}", "answer every request, a refused one too")
        seen = Observed(breaches=(breach,), notes=("the rest of the rule was not checked",))
    if not target.document:
        seen = _without_document(seen)
    return Outcome(
        rule=rule.id,
        title=rule.title,
        findings=tuple(found(rule.id, dict.fromkeys(seen.breaches))),
        notes=seen.notes,
        checked=seen.checked,
    )


def _without_document(seen: Observed) -> Observed:
    return replace(seen, notes=(*seen.notes, f"{DOCUMENT} holds no OpenAPI document, so no operation is known"))
