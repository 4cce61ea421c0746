"""OBS001 on a running service: how it treats a caller's trace, as far as that shows outside."""

from secrets import token_hex

from interlock.contract.mistakes import Mistake
from interlock.standards.live.target import Observed, Target
from interlock.standards.rule import LiveRule

_SHOWS = ("traceresponse", "traceparent")
_MALFORMED = ("00-not-a-trace-01", f"00-{'0' * 32}-{'0' * 16}-01", "x" * 600)


async def _probe(target: Target) -> Observed:
    path = next((each.filled for each in target.routes if each.verb == "GET"), "/health")
    breaches: list[Mistake] = []
    plain = await target.send("GET", path, target.bearer)
    for malformed in _MALFORMED:
        answer = await target.send("GET", path, target.bearer | {"traceparent": malformed})
        if answer.status != plain.status:
            message = f"the malformed traceparent {malformed[:40]!r} makes {answer.status} of {plain.status}"
            breaches.append(Mistake(answer.source, message, "begin a new trace instead (W3C Trace Context §3.3)"))
    trace_id = token_hex(16)
    sent = f"00-{trace_id}-{token_hex(8)}-01"
    answer = await target.send("GET", path, target.bearer | {"traceparent": sent})
    if answer.status != plain.status:
        message = f"a traceparent makes {answer.status} of {plain.status}"
        breaches.append(Mistake(answer.source, message, "continue the trace (W3C Trace Context)"))
    shown = next((answer.headers[name] for name in _SHOWS if name in answer.headers), None)
    if shown is None:
        note = (
            "whether the trace is continued is not checkable from outside: no answer carries a traceresponse header; "
            f"look for the trace {trace_id} where traces are collected"
        )
        return Observed(breaches=tuple(breaches), notes=(note,), checked=bool(breaches))
    if trace_id not in shown:
        message = f"the trace sent is not continued: {trace_id} was sent, {shown[:80]!r} came back"
        breaches.append(Mistake(answer.source, message, "take the trace id of the caller's traceparent"))
    return Observed(breaches=tuple(breaches))


OBS001 = LiveRule(
    id="OBS001",
    title="The caller's trace is continued, and a malformed one does no harm.",
    why="One trace over all services only comes about if each takes it on; a broken header must not break a call.",
    wrong="traceparent: 00-not-a-trace-01\n\nHTTP/1.1 400 Bad Request",
    right="traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n\n"
    "HTTP/1.1 200 OK\ntraceresponse: 00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01",
    probe=_probe,
)
