"""Error handling: common errors with cause and remedy, and the form of an error."""

import json

from interlock.errors import Code, error_class
from interlock.guide.markdown import block, bullets, joined, not_run, run, table
from interlock.guide.sections.reference import META
from interlock.guide.subject import Subject

_RETRY = {
    Code.RESOURCE_EXHAUSTED: "after `Retry-After`",
    Code.UNAVAILABLE: "yes, for reads and with an idempotency key",
    Code.ABORTED: "after reading again",
}


def authentication(subject: Subject) -> str:
    """Say what to do about 401."""
    token = subject.variable("TOKEN")
    renew = f'export {token}="$({subject.facts.text("credentials.command")})"'
    return joined(
        "**Cause**: Invalid or expired credentials (`401`, `UNAUTHENTICATED`)",
        "**Resolution**: see that there is a token, without printing it; then get another.",
        run("bash", f'if [ -n "${{{token}:-}}" ]; then echo "{token} is set"; else echo "{token} is not set"; fi'),
        not_run("bash", renew, "it issues a credential"),
    )


def limits(_: Subject) -> str:
    """Say what to do about 429."""
    return joined(
        "**Cause**: Too many requests (`429`, `RATE_LIMITED`); the limits stand under Rate Limits",
        "**Resolution**:\n"
        + bullets(
            (
                "Wait as long as `Retry-After` says; the typed client does, within its deadline",
                "Spread requests out: `RateLimit` tells with every reply how many are left",
                "Ask the owner for another limit if the work needs it",
            )
        ),
        "For a client of your own:",
        run("python", _BACKOFF),
    )


_BACKOFF = '''
import random
import time
from collections.abc import Callable
from typing import TypeVar

from interlock import ResourceExhausted

T = TypeVar("T")


def with_backoff(call: Callable[[], T], attempts: int = 3) -> T:
    """Call until it is let through: wait as the service asks, else ever longer, never in step with others."""
    for attempt in range(attempts - 1):
        try:
            return call()
        except ResourceExhausted as limited:
            asked = limited.retry_after.total_seconds() if limited.retry_after else 0.0
            time.sleep(asked or random.uniform(0, 0.1 * 2**attempt))
    return call()


answers = iter([ResourceExhausted("wait"), "through"])


def flaky() -> str:
    answer = next(answers)
    if isinstance(answer, Exception):
        raise answer
    return answer


assert with_backoff(flaky) == "through"
'''


def timeouts(subject: Subject) -> str:
    """Say what to do when nothing answers."""
    endpoint = subject.variable("ENDPOINT")
    return joined(
        "**Cause**: Network issues or service unavailable (`503`, `UNAVAILABLE`; `504`, `DEADLINE_EXCEEDED`)",
        "**Resolution**:\n"
        + bullets(
            (
                "Check network connectivity with the command below",
                f"Verify service status: {subject.facts.text('support.status_page')}",
                "Increase timeout values: `client.using(timeout=10)`, up to the operation's own",
            )
        ),
        run(
            "bash",
            "curl --silent --show-error --connect-timeout 5 --output /dev/null \\\n"
            f"  --write-out 'connected in %{{time_connect}} s\\n' \"${endpoint}/health\"",
        ),
    )


def response_format(_: Subject) -> str:
    """Show an error, and list the codes."""
    error = {
        "code": "VALIDATION_ERROR",
        "message": "Human readable message",
        "reason": "VALIDATION_ERROR",
        "details": [{"field": "items[0].quantity", "message": "what is wrong with it"}],
    }
    meta = META
    rows = []
    for code in Code:
        if code is not Code.OK:
            kind = error_class(code)
            rows.append((f"`{code.name}`", str(kind.http_status), f"`{kind.rest_code}`", _RETRY.get(code, "no")))
    return joined(
        "Standard error response:",
        block("json", json.dumps({"error": error, "meta": meta}, indent=2)),
        table(("gRPC status", "HTTP status", "`error.code`", "Try again"), rows),
    )


BODIES = {
    'Error: "Authentication failed"': authentication,
    'Error: "Rate limit exceeded"': limits,
    'Error: "Connection timeout"': timeouts,
    "Error Response Format": response_format,
}
