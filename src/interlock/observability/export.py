"""Spans to a collector over OTLP/HTTP: one kept connection, retries that end, one warning a minute while it is gone.

Runs in the exporting thread of the batch processor; calls never wait for it.
"""

import base64
import gzip
import http.client
import logging
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, unquote, urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from interlock.url import shown

log = logging.getLogger("interlock.tracing")

PATH = "/v1/traces"
RETRIES = (0.25, 1.0, 3.0)
"""Seconds before each repetition; meanwhile the queue, which is bounded, takes what comes."""
_REPEATABLE = frozenset((408, 429, 502, 503, 504))  # OTLP specification, "Failures": others are dropped at once
_COMPRESSED_FROM = 1024
_SILENCE = 60.0


class OtlpExporter(SpanExporter):
    """Posts batches of spans to `endpoint` (base URL, or that of the traces); ValueError if it is no http(s) URL.

    One request may take `timeout` seconds. `headers` may hold credentials, as may the URL (Basic, a query): they are
    never logged.
    """

    def __init__(self, endpoint: str, *, headers: Mapping[str, str] | None = None, timeout: float = 5.0) -> None:
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"the OTLP endpoint must be a URL such as http://localhost:4318, not {shown(endpoint)!r}")
        self._host, self._port = url.hostname, url.port or (443 if url.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        path = url.path.rstrip("/")
        self._path = (path if path.endswith(PATH) else path + PATH) + (f"?{url.query}" if url.query else "")
        own = {"content-type": "application/x-protobuf", "user-agent": "interlock"}
        self._headers = {**_basic(url), **(headers or {}), **own}
        self._timeout = timeout
        self._closing = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self.taken = 0
        """How many spans came here, exported or not."""
        self.left_out = 0
        """How many had no room before; counted by who has the queue."""
        self._failed = self._forgiven = 0
        self._away = False
        self._told = float("-inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, again after each pause while the collector does not take it."""
        self.taken += len(spans)
        body = encode_spans(spans).SerializeToString()
        headers = self._headers
        if len(body) >= _COMPRESSED_FROM:
            body, headers = gzip.compress(body, 1), {**headers, "content-encoding": "gzip"}
        trouble = ""
        for pause in (0.0, *RETRIES):
            if pause and self._closing.wait(pause):
                break
            trouble, repeatable = self._post(body, headers)
            if not trouble:
                self._tell_recovery()
                return SpanExportResult.SUCCESS
            if not repeatable:
                break
        self._failed += len(spans)
        self._tell_trouble(trouble)
        return SpanExportResult.FAILURE

    @property
    def lost(self) -> int:
        """How many spans were lost: those that could not be exported, and those that had no room."""
        return self._failed + self.left_out

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[str, bool]:
        """Return what went wrong, empty for nothing, and whether to repeat it."""
        kept = self._connection is not None
        try:
            status = self._send(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self._disconnect()
            if not kept:
                return f"{type(error).__name__}: {error}".rstrip(": "), True
            return self._post(body, headers)  # the collector may have closed a connection that was kept
        return ("", False) if 200 <= status < 300 else (f"HTTP {status}", status in _REPEATABLE)

    def _send(self, body: bytes, headers: dict[str, str]) -> int:
        connection = self._connection
        if connection is None:
            if self._tls is None:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            else:
                connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=self._timeout, context=self._tls
                )
            self._connection = connection
        connection.request("POST", self._path, body, headers)
        response = connection.getresponse()
        response.read(1 << 16)
        if not response.isclosed():  # a longer answer than any collector gives
            self._disconnect()
        return response.status

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _tell_trouble(self, trouble: str) -> None:
        now, self._away = time.monotonic(), True
        if now - self._told >= _SILENCE:
            self._told = now
            where = f"{self._host}:{self._port}"
            log.warning(
                "traces can't be exported to %s: %s; %d spans are lost so far",
                where,
                trouble,
                self.lost - self._forgiven,
            )

    def _tell_recovery(self) -> None:
        lost, now = self.lost - self._forgiven, time.monotonic()
        if not lost or (not self._away and now - self._told < _SILENCE):
            return
        if self._away:
            log.warning("traces are exported again; %d spans were lost", lost)
        else:
            log.warning("%d spans were lost: more come than the collector takes; a lower trace_ratio makes fewer", lost)
        self._told = float("-inf") if self._away else now
        self._away, self._forgiven = False, self.lost

    def hasten(self) -> None:
        """Try once from now on, and repeat nothing: the process ends."""
        self._closing.set()

    def shutdown(self) -> None:
        """Close the connection; called once no batch will follow."""
        self._closing.set()
        self._disconnect()

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing waits here."""
        return True


def _basic(url: SplitResult) -> dict[str, str]:
    """Return the header for user and password of a URL (RFC 7617), none where it has none."""
    if url.username is None:
        return {}
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
