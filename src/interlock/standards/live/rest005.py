"""REST005: every error has the one envelope, the server's own refusals too."""

from collections.abc import AsyncIterator

from interlock.contract.mistakes import Mistake
from interlock.standards.live.envelope import envelope_breaches
from interlock.standards.live.exchange import Answer
from interlock.standards.live.target import PLACEHOLDER, NoAnswer, Observed, Route, Target
from interlock.standards.rule import LiveRule

TOO_LARGE = 1 << 30
"""Bytes that the 413 probe announces; it sends 64 KiB of them."""

_JSON = {"content-type": "application/json"}
_ON_THE_WAY = (401, 403, 429)


async def _probe(target: Target) -> Observed:
    breaches: list[Mistake] = []
    notes = ["500 cannot be provoked from outside"]
    async for wanted, answer in _errors(target, notes):
        if answer.status < 400:
            message = f"answered {answer.status} where {wanted} was due"
            breaches.append(Mistake(answer.source, message, "refuse what is not understood"))
            continue
        breaches += envelope_breaches(answer)
        if answer.status == 405 and "allow" not in answer.headers:
            breaches.append(
                Mistake(answer.source, "the error 405 has no Allow header", "name the methods (RFC 9110 §15.5.6)")
            )
        if answer.status in _ON_THE_WAY and answer.status != wanted:
            notes.append(
                f"{wanted} not reached: {answer.source} answered {answer.status} (give a --token that may call it)"
            )
        elif answer.status != wanted:
            message = f"answered {answer.status} where {wanted} was due"
            breaches.append(Mistake(answer.source, message, f"answer {wanted}"))
    return Observed(breaches=tuple(breaches), notes=tuple(notes))


async def _errors(target: Target, notes: list[str]) -> AsyncIterator[tuple[int, Answer]]:
    """Provoke errors; yield the status that is due and the answer that came."""
    yield 404, await target.send("GET", f"/api/v1/{PLACEHOLDER}-nothing-here", target.bearer)
    routes = target.routes
    if (secured := next((each for each in routes if each.secured and each.verb == "GET"), None)) is not None:
        yield 401, await target.send("GET", secured.filled)
    if (wrong := _wrong_verb(routes)) is not None:
        yield 405, await target.send(wrong[0], wrong[1], target.bearer)
    taking = next((each for each in routes if each.verb == "POST" and each.takes_json), None)
    if taking is None:
        notes.append("400, 413 and 415 need an operation that takes JSON by POST, which /openapi.json does not name")
        return
    path = taking.filled
    yield 415, await target.send("POST", path, target.bearer | {"content-type": "text/plain"}, b"interlock")
    yield 400, await target.send("POST", path, target.bearer | _JSON, b'{"interlock')
    try:
        yield 413, await target.send("POST", path, target.bearer | _JSON, b" " * 65536, declared=TOO_LARGE)
    except NoAnswer as error:
        if not error.late:
            raise
        notes.append("413 not reached: a body announced with 1 GiB was waited for, not refused")


def _wrong_verb(routes: tuple[Route, ...]) -> tuple[str, str] | None:
    """Return a verb that nothing of the shape of some path takes, and that path."""
    for route in routes:
        shape = route.path.count("/")
        taken = {each.verb for each in routes if each.path.count("/") == shape}
        for verb in ("PUT", "PATCH", "DELETE", "POST"):
            if verb not in taken:
                return verb, route.filled
    return None


REST005 = LiveRule(
    id="REST005",
    title="Every error has the one envelope, the server's own 404, 405, 413 and 415 included.",
    why="A caller needs one piece of code for errors; the refusals that it did not foresee are those it must read.",
    wrong="HTTP/1.1 404 Not Found\ncontent-type: text/plain\n\nNot Found",
    right=(
        "HTTP/1.1 404 Not Found\ncontent-type: application/json\n\n"
        '{"error": {"code": "NOT_FOUND", "message": "no route GET /nothing", "details": []},\n'
        ' "meta": {"timestamp": "2026-01-31T09:30:00Z", "request_id": "0194b8f0-…"}}'
    ),
    probe=_probe,
)
