"""GRPC004 on a running service: what a list refuses, and by what name; seen over REST."""

from urllib.parse import urlencode

from interlock.contract.mistakes import Mistake
from interlock.standards.live.exchange import Answer
from interlock.standards.live.target import Observed, Route, Target, unseen
from interlock.standards.rule import LiveRule

# Each is wrong whatever the list's fields are.
_WRONG = {
    "page_token": "interlock-check-no-token",
    "filter": 'interlock_check_no_field = "1" AND (',
    "order_by": "interlock_check_no_field",
    "page_size": "-1",
}
_LARGE = "1000000"


async def _probe(target: Target) -> Observed:
    lists = [each for each in target.routes if each.verb == "GET" and "page_token" in each.query]
    if not lists:
        return unseen("/openapi.json names no list (a GET with the parameter page_token)")
    breaches: list[Mistake] = []
    notes: list[str] = []
    for route in lists:
        first = await _ask(target, route, {})
        if first.status == 200:
            breaches += await _of(target, route)
        elif first.status >= 500:
            breaches.append(Mistake(first.source, f"the list answered {first.status}", "answer its first page"))
        else:
            hint = " (give a --token that may call it)" if first.status in (401, 403) else ""
            notes.append(f"not seen: {first.source} answered {first.status}{hint}")
    return Observed(breaches=tuple(breaches), notes=tuple(notes), checked=len(notes) < len(lists))


async def _of(target: Target, route: Route) -> list[Mistake]:
    found: list[Mistake] = []
    for name, wrong in _WRONG.items():
        if name not in route.query:
            continue
        answer = await _ask(target, route, {name: wrong})
        named = {each.get("field") for each in answer.error.get("details", ()) if isinstance(each, dict)}
        if answer.status != 400 or answer.error.get("code") != "VALIDATION_ERROR":
            message = f"a wrong `{name}` is answered with {answer.status} {answer.error.get('code', '')}".rstrip()
            found.append(Mistake(answer.source, message, "answer INVALID_ARGUMENT (400 VALIDATION_ERROR)"))
        elif name not in named:
            message = f"a wrong `{name}` is refused without naming it"
            found.append(Mistake(answer.source, message, f'name it in the details: {{"field": "{name}"}}'))
    if "page_size" in route.query:
        answer = await _ask(target, route, {"page_size": _LARGE})
        if answer.status != 200:
            message = f"a `page_size` of {_LARGE} is answered with {answer.status}"
            found.append(Mistake(answer.source, message, "give as many as a page may hold (AIP-158)"))
    return found


async def _ask(target: Target, route: Route, query: dict[str, str]) -> Answer:
    path = f"{route.filled}?{urlencode(query)}" if query else route.filled
    return await target.send("GET", path, target.bearer)


GRPC004_LIVE = LiveRule(
    id="GRPC004",
    title="A wrong page_token, filter, order_by or page_size is refused by name; a page_size too large is coerced.",
    why="A list that takes a misspelt filter for none returns everything, and nobody notices.",
    wrong="GET /api/v1/orders?filter=nonsense\n200 OK",
    right=(
        "GET /api/v1/orders?filter=nonsense\n400 Bad Request\n"
        '{"error": {"code": "VALIDATION_ERROR", "details": [{"field": "filter", "message": "…"}], …}, …}'
    ),
    probe=_probe,
)
