"""A service that runs, as its operations port tells of it: what an operator would look at in the first minute."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import httpx2

from interlock.doctor.credentials import OLDEST
from interlock.doctor.finding import Finding, fault, note, ok
from interlock.doctor.reach import place, refused
from interlock.observability.scrape import Scrape

LIMIT = 5.0
"""Seconds that one page may take."""
LARGEST = 32 << 20
"""Bytes that one page may have."""
SLOW = "2.0"
"""Seconds, as a bucket's label, that the standard lets no more than one call in twenty take."""
STUCK = 60.0
"""Seconds after which an event that waits in the outbox is stuck; as the alert has it."""
_FAILED = frozenset(("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"))

_REMEDIES = {
    "database": "start it, or free what holds it: long transactions, a full disk; the service comes back by itself",
    "broker": "start it; the service comes back by itself, and what waits in the outbox is sent then",
    "serving": "wait, if it was just started or told to stop; else read its log",
}


async def running(address: str, while_: float = 2.0) -> list[Finding]:
    """Look at the service whose operations port is at `address` (HOST:PORT), at its calls for `while_` seconds."""
    address = address.removeprefix("http://").rstrip("/")
    remedy = "start the service, or name the operations port of the one that you mean (--at HOST:PORT)"
    try:
        if told := await refused(*place(address)):
            return [fault("running", f"no service answers at {address}: {told}", remedy)]
        return await _look(address, while_)
    except Exception as error:  # who listens there may say anything
        told = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        return [fault("running", f"what is at {address} does not answer as an operations port: {told}", remedy)]


async def _look(address: str, while_: float) -> list[Finding]:
    base = f"http://{address}"
    status, report = await _get(f"{base}/readyz")
    before = await _scrape(base)
    await asyncio.sleep(while_)
    scrape = await _scrape(base)
    said: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # who may not see them does without
        said = json.loads((await _get(f"{base}/admin/errors"))[1])
    recent = scrape.since(before)
    seen = (recent, f"in {while_:g} s") if recent.total("service_requests_total") else (scrape, "since the start")
    return [
        *_readiness(address, status, report, scrape),
        *_calls(*seen),
        *_waits(*seen),
        *_circuits(scrape),
        *_events(scrape),
        *_rest(scrape),
        *_last("failed call", said.get("calls", []), 300.0),
        *_last("error", said.get("errors", []), 900.0),
        *_last("warning", said.get("warnings", []), 60.0),
    ]


async def _scrape(base: str) -> Scrape:
    status, text = await _get(f"{base}/metrics")
    if status != 200:
        raise OSError(f"/metrics gives {status}")
    return Scrape.of(text)


async def _get(url: str) -> tuple[int, str]:
    """Return status and text of a page, within `LIMIT` and `LARGEST`; OSError tells what is in the way."""
    body = bytearray()
    try:
        async with (
            asyncio.timeout(LIMIT),
            httpx2.AsyncClient(timeout=LIMIT, trust_env=False) as client,  # what an operator names needs no proxy
            client.stream("GET", url) as reply,
        ):
            async for chunk in reply.aiter_bytes():
                body += chunk
                if len(body) > LARGEST:
                    raise OSError(f"{url} has more than {LARGEST >> 20} MiB")
    except (TimeoutError, httpx2.TimeoutException):
        raise OSError(f"{url} took longer than {LIMIT:g} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise OSError(f"{url}: {error}") from error
    return reply.status_code, body.decode()


def _readiness(address: str, status: int, report: str, scrape: Scrape) -> Iterator[Finding]:
    about = next((labels for labels, _ in scrape.rows("service_build_info")), {})
    name = " ".join(filter(None, (about.get("service", "a service"), about.get("version"))))
    since = time.time() - scrape.most("process_start_time_seconds")
    if status == 200:
        yield ok("running", f"{name} at {address} is ready, and up for {_span(since)}")
        return
    failing: dict[str, str] = json.loads(report).get("failing", {})
    for part, told in failing.items() or {"serving": "not ready"}.items():
        remedy = _REMEDIES.get(part, "put right what this check asks for; the service is ready again by itself then")
        yield fault(part, f"{name} is not ready: {told}", remedy)


def _calls(scrape: Scrape, span: str) -> Iterator[Finding]:
    total, failed = 0.0, dict[str, float]()
    for labels, value in scrape.rows("service_requests_total"):
        total += value
        status = labels["status"]
        if value and (status in _FAILED or status.startswith("5")):
            what = f"{labels['method']} {labels['endpoint']} {status}"
            failed[what] = failed.get(what, 0.0) + value
    share = sum(failed.values()) / total if total else 0.0
    if not failed:
        yield ok("calls", f"{total:,.0f} {span}, none failed by the service's fault")
        return
    worst = sorted(failed.items(), key=lambda each: -each[1])[:3]
    told = f"{share:.1%} of {total:,.0f} failed {span}: " + ", ".join(f"{what} x{n:.0f}" for what, n in worst)
    remedy = "curl the operations port's /admin/errors; roll back if it began with a release"
    yield (fault if share > 0.05 else note)("calls", told, remedy)


def _waits(scrape: Scrape, span: str) -> Iterator[Finding]:
    """Tell which endpoints are slower than the standard lets them be, and what calls spent their time on."""
    name = "service_request_duration_seconds"
    counts = {(each["method"], each["endpoint"]): value for each, value in scrape.rows(f"{name}_count")}
    quick = {
        (each["method"], each["endpoint"]): value for each, value in scrape.rows(f"{name}_bucket") if each["le"] == SLOW
    }
    slow = {key: count - quick.get(key, 0.0) for key, count in counts.items()}
    worst = sorted((key for key in counts if slow[key] > 0.05 * counts[key]), key=lambda key: -slow[key])[:3]
    if not worst:
        return
    spent = ", ".join(
        f"{what} {scrape.total(f'service_{part}_duration_seconds_sum'):.1f} s"
        for part, what in (
            ("database", "in the database"),
            ("external", "on other services"),
            ("publish", "publishing"),
        )
    )
    told = ", ".join(f"{method} {endpoint} x{slow[method, endpoint]:.0f}" for method, endpoint in worst)
    whole = scrape.total(f"{name}_sum")
    remedy = f"of {whole:.1f} s in all, {spent}; the rest is CPU, a lock, or statements that never ended"
    yield note("slow", f"took over {SLOW} s {span}: {told}", remedy)


def _circuits(scrape: Scrape) -> Iterator[Finding]:
    rows = scrape.rows("service_circuit_breaker_state")
    for target in sorted({labels["target"] for labels, value in rows if value == 2.0}):
        paths = ", ".join(sorted(each["endpoint"] for each, value in rows if each["target"] == target and value == 2.0))
        remedy = f"look at the neighbour at {target} the same way; the circuit closes once it answers"
        yield fault("circuits", f"calls to {target} fail and are not tried any more: {paths}", remedy)


def _events(scrape: Scrape) -> Iterator[Finding]:
    waiting, age = scrape.most("service_outbox_events"), scrape.most("service_outbox_age_seconds")
    if age > STUCK:
        remedy = "see whether the broker is up; the log says why the relay waits; nothing is lost"
        yield fault("outbox", f"{waiting:,.0f} events wait to be sent, the oldest for {_span(age)}", remedy)
    for labels, value in scrape.rows("service_dead_letters_kept"):
        if value:
            remedy = "`interlock events dead-letters list`; put the cause right, then `… replay`"
            yield fault("dead letters", f"{labels['group']} gave up {value:,.0f} events", remedy)
    for labels, value in scrape.rows("service_event_lag"):
        if value > 1000:
            remedy = "see how long an event takes and whether it fails (calls, above); more workers, up to 16"
            yield note("events", f"{value:,.0f} wait for {labels['group']}", remedy)


def _rest(scrape: Scrape) -> Iterator[Finding]:
    if waiting := scrape.most("service_database_connections_awaited"):
        remedy = "look for long transactions: /admin/tasks; then a larger pool_size, within what the database bears"
        yield note("connections", f"{waiting:.0f} calls wait for a database connection", remedy)
    if (age := scrape.most("service_key_age_seconds")) > OLDEST.total_seconds():
        yield note("keys", f"a key is {_span(age)} old", "`interlock keys rotate`; running services take it over")
    if shed := sum(value for _, value in scrape.rows("service_requests_shed_total")):
        yield note("overload", f"{shed:,.0f} calls were refused since the start", "see CPU; then more replicas")
    if lost := scrape.most("service_spans_lost_total"):
        yield note("traces", f"{lost:,.0f} spans were lost", "see whether the collector is up; or lower trace_ratio")
    if dropped := scrape.most("service_log_lines_dropped_total"):
        yield note("log", f"{dropped:,.0f} lines were dropped", "see why the disk, or who reads the log, is slow")


def _last(kind: str, lines: Sequence[Mapping[str, Any]], recent: float) -> Iterator[Finding]:
    if not lines:
        return
    last = lines[-1]
    ago = time.time() - datetime.fromisoformat(str(last["timestamp"])).timestamp()
    if ago > recent:
        return
    event, endpoint = str(last["event"]), str(last.get("endpoint", ""))
    if "status_code" in last:
        event = f"{last['status_code']} after {last['response_time_ms']:.0f} ms: {last['error']}"
    where = f" in {endpoint}" if endpoint and not event.startswith(endpoint) else ""
    cause = f"\n{last['cause']}" if "cause" in last else ""
    ids = ", ".join(f"{name} {last[name]}" for name in ("request_id", "trace_id") if name in last)
    remedy = f"its log lines and its trace: {ids}" if ids else "curl the operations port's /admin/errors"
    yield note(f"last {kind}", f"{_span(ago)} ago{where}: {event}{cause}", remedy)


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
