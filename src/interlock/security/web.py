"""HTTP as security needs it: small documents from known places, with every bound set."""

import asyncio
import logging
import ssl
from collections.abc import Mapping

import httpx2

if (_client := logging.getLogger("httpx2")).level == logging.NOTSET:
    _client.setLevel(logging.WARNING)  # it tells each URL whole, with a password or key that stands in it

PATIENCE = 10.0
"""Seconds for a whole exchange."""


class WebError(Exception):
    """An exchange that failed; the text names the place and the status, and nothing that was sent or came back."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


async def get(url: str, *, most: int, tls: ssl.SSLContext | None = None) -> bytes:
    """Return the document at `url`, at most `most` bytes of it and one more; WebError for any status but 200."""
    return await _exchange("GET", url, most=most, tls=tls, headers={"accept": "application/json"})


async def post_form(
    url: str,
    fields: Mapping[str, str],
    *,
    most: int,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Send a form and return what came back, as `get` does."""
    return await _exchange(
        "POST", url, most=most, tls=tls, headers={"accept": "application/json", **(headers or {})}, fields=fields
    )


async def _exchange(
    method: str,
    url: str,
    *,
    most: int,
    tls: ssl.SSLContext | None,
    headers: Mapping[str, str],
    fields: Mapping[str, str] | None = None,
) -> bytes:
    """Send and read: redirects are failures, for documents come from where the settings say."""
    body = bytearray()
    try:
        async with (
            asyncio.timeout(PATIENCE),
            httpx2.AsyncClient(verify=tls or True, timeout=PATIENCE, follow_redirects=False) as client,
            client.stream(method, url, headers=dict(headers), data=dict(fields) if fields is not None else None) as got,
        ):
            if got.status_code != 200:
                raise WebError(f"{_shown(url)} answered with {got.status_code}", got.status_code)
            async for chunk in got.aiter_bytes(16_384):
                body += chunk
                if len(body) > most:
                    break
    except httpx2.HTTPError as error:
        raise WebError(f"{_shown(url)} cannot be reached: {type(error).__name__}") from error
    except TimeoutError:
        raise WebError(f"{_shown(url)} took longer than {PATIENCE:g} s") from None
    return bytes(body[: most + 1])


def _shown(url: str) -> str:
    """Return a URL without what may be secret in it."""
    found = httpx2.URL(url)
    return f"{found.scheme}://{found.netloc.decode()}{found.path}"
