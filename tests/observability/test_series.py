"""Strangers make no series: whatever they send over any protocol, the metrics hold what they held before."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from interlock import App
from interlock.observability.cloudwatch import CloudWatch
from interlock.security.access import roles_from
from interlock.security.algorithms import ALGORITHMS
from interlock.security.keys import new_keys
from interlock.security.tokens import Issuer
from interlock.settings import Settings
from tests.sample.handlers import make

REQUESTS, FIRST = 10_000, 1_000
OURS = "/sample.v1.SampleService/"
TYPES = ("application/grpc", "application/grpc-web+proto", "application/proto", "application/json", "text/html")
Request: TypeAlias = tuple[str, str, str, list[tuple[str, str]], bytes]
"""Method, path, content type (or none), headers, body."""
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW")


async def test_ten_thousand_strange_requests_make_no_series(tmp_path: Path) -> None:
    """Random paths, verbs, methods, principals, API keys, error texts: the series of the first thousand are all."""
    issuer = Issuer(keys=new_keys(tmp_path / "keys", algorithm=ALGORITHMS["EdDSA"]))
    settings = Settings(
        keys=tmp_path / "keys",
        token_algorithm="EdDSA",
        known_callers=("orders",),
        operations={"sample.v1.SampleService/CreateThing": {"rate_limit": "20/1h"}},  # soon used up
    )
    app = make(settings=settings, roles=roles_from({"clerk": ["sample:whisper"]}))
    requests = strange(random.Random(7), issuer)
    written: list[str] = []
    watch = CloudWatch("sample", app.metrics.requests, written.append, period=60)
    async with app:
        for each in itertools.islice(requests, FIRST):
            await ask(app, each)
        before = series(app)
        watch.emit()
        lines = len("".join(written).splitlines())
        for each in itertools.islice(requests, REQUESTS - FIRST):
            await ask(app, each)
        after = series(app)
        written.clear()
        watch.emit()
    assert after - before == set()
    assert len("".join(written).splitlines()) <= lines
    names = {each.partition("{")[0] for each in after}
    assert {"service_rate_limit_used_ratio", "service_deprecated_requests_total", "service_key_age_seconds"} <= names
    callers = {each.partition('caller="')[2].partition('"')[0] for each in after if "caller=" in each}
    assert callers == {"orders", "other"}
    total = counted(app)
    assert total >= REQUESTS - 100, "some were not counted"


def strange(dice: random.Random, issuer: Issuer) -> Iterator[Request]:
    """Yield requests without end, each kind in turn, so that none is missed."""
    for number in itertools.count():
        text = f"{dice.getrandbits(64):x}"
        token = ("authorization", f"Bearer {issuer.mint(f'stranger-{text}', ['clerk', text])}")
        message = json.dumps({"text": text, "displayName": text}).encode()
        failure = json.dumps({"code": 5, "message": f"no {text}", "reason": f"R_{text.upper()}"}).encode()
        verb = VERBS[number // 8 % len(VERBS)] if number < FIRST else dice.choice([*VERBS, text.upper()])
        yield (
            (verb, f"/{text}/{number}", "", [token], b""),
            ("GET", f"/v1/echo/{text}", "", [], b""),
            ("POST", f"{OURS}{text}", TYPES[number // 8 % len(TYPES)], [token], b""),
            ("POST", f"/{text}.Service/Do", TYPES[number // 8 % len(TYPES)], [], b""),
            ("POST", "/v1/whisper", "application/json", [token], message),
            ("POST", f"{OURS}EchoFormerly", "application/json", [token], message),
            ("POST", ("/v1/fail", f"{OURS}Fail")[number // 8 % 2], "application/json", [("x-api-key", text)], failure),
            ("POST", "/v1/things", "application/json", [token, ("x-forwarded-for", text)], message),
        )[number % 8]


async def ask(app: App, request: Request) -> None:
    """Send one request as the server would hand it on."""
    method, path, content_type, headers, body = request
    events = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(events, {"type": "http.disconnect"})

    async def send(_event: Any) -> None:
        return

    fields = [(b"content-type", content_type.encode())] if content_type else []
    fields += [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": fields}
    await app({**scope, "http_version": "2", "client": ("10.0.0.9", 5), "scheme": "http"}, receive, send)


def series(app: App) -> set[str]:
    """Return the samples of a scrape, without their values."""
    text = app.metrics.exposition()[1].decode()
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")}


def counted(app: App) -> float:
    """Return how many requests were counted."""
    text = app.metrics.exposition()[1].decode()
    starts = "service_requests_total{"
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(starts))
