"""What an HTTP status says to the policies: whether to repeat the request, and what it tells of the server.

The caller gets the response itself, whatever it says.
"""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx2

from interlock.errors import UNPROCESSED, Code, Error, error_class
from interlock.resilience.throttle import told_by

_CODES = {
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.UNAVAILABLE,
    409: Code.ABORTED,
    429: Code.RESOURCE_EXHAUSTED,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}


def refusal(response: httpx2.Response) -> Error | None:
    """Return the error that a response with a status from 400 on is to retries and breaker, None below.

    408, 502, 503 and 504 are UNAVAILABLE, 429 RESOURCE_EXHAUSTED, other 5xx INTERNAL; 4xx are the caller's own.
    """
    status = response.status_code
    if status < 400:
        return None
    code = _CODES.get(status, Code.INTERNAL if status >= 500 else Code.INVALID_ARGUMENT)
    error = error_class(code)(f"the answer is HTTP {status}", retry_after=retry_after(response.headers))
    error.received = True
    error.unsent = response.headers.get(UNPROCESSED[0]) == UNPROCESSED[1]
    return error


def retry_after(headers: httpx2.Headers) -> timedelta | None:
    """Return what `Retry-After` asks for (RFC 9110 §10.2.3: seconds or a date), else a `RateLimit` that is used up."""
    given = headers.get("retry-after", "").strip()
    if given.isdecimal() and len(given) < 10:
        return timedelta(seconds=int(given))
    if given:
        try:
            at = parsedate_to_datetime(given)
        except ValueError:
            return None
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return max(timedelta(), at - datetime.now(UTC))
    remaining, seconds = told_by(headers.get("ratelimit", "").encode()) or (1, 0.0)
    return timedelta(seconds=seconds) if not remaining else None
