"""A collector for tests: takes OTLP/HTTP on a real port, decodes it, and misbehaves when told."""

import contextlib
import gzip
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, kw_only=True)
class Span:
    """What arrived of one span."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    failed: bool
    status: str
    seconds: float
    attributes: dict[str, Any]
    events: list[dict[str, Any]]
    links: list[str]
    """The span ids that it is linked to."""


@dataclass
class Collector:
    """Spans that arrived; `status` is what it answers, `held` keeps it from answering while it is set."""

    url: str = ""
    status: int = 200
    requests: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Take one request."""
        if self.held.is_set():
            self.released.wait(20)
        self.requests.append(headers)
        if self.status == 200:
            data = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
            self.bodies.append(data)
            self.spans += _spans(ExportTraceServiceRequest.FromString(data))
        return self.status

    def one(self, **wanted: Any) -> Span:
        """Return the only span with these facts."""
        found = [each for each in self.spans if all(getattr(each, name) == value for name, value in wanted.items())]
        assert len(found) == 1, (wanted, [(each.service, each.kind, each.name) for each in self.spans])
        return found[0]


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=service,
                    name=span.name,
                    kind=type(span).SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    failed=span.status.code == 2,
                    status=span.status.message,
                    seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    attributes=_attributes(span.attributes),
                    events=[{"name": each.name, **_attributes(each.attributes)} for each in span.events],
                    links=[each.span_id.hex() for each in span.links],
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}


@contextlib.contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """Run a collector on a free port, or on the one given."""
    collector = Collector()

    connections: set[socket.socket] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            connections.add(self.connection)

        def finish(self) -> None:
            connections.discard(self.connection)
            super().finish()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()} | {"path": self.path}
            status = collector.take(headers, body)
            with contextlib.suppress(OSError):  # who sent it did not wait
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            return

    with Server(("127.0.0.1", port), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.released.set()
            server.shutdown()
            thread.join(5)
            for each in tuple(connections):  # kept ones, which their threads wait on
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
