"""Plain HTTP servers on ports of their own: documents of a test's, or whatever its handler answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeAlias

Documents: TypeAlias = dict[str, Any]
"""What stands at each path: JSON, bytes, a `Moved`, or a function of the request that gives status and JSON."""

Answer: TypeAlias = Callable[[bytes, dict[str, str]], tuple[int, Any]]
"""Gives status and JSON for a request's body and headers."""


@dataclass(frozen=True)
class Moved:
    """A redirect."""

    to: str


class _Handler(BaseHTTPRequestHandler):
    documents: ClassVar[Documents] = {}

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("content-length", 0))))

    def _answer(self, body: bytes) -> None:
        found = type(self).documents.get(self.path)
        status = 404 if found is None else 200
        if callable(found):
            status, found = found(body, {name.lower(): value for name, value in self.headers.items()})
        if isinstance(found, Moved):
            self.send_response(302)
            self.send_header("location", found.to)
            self.end_headers()
            return
        content = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@contextmanager
def documents_at(documents: Documents) -> Iterator[str]:
    """Serve `documents`, which may change meanwhile, and give the base URL."""
    with served(type("Handler", (_Handler,), {"documents": documents})) as url:
        yield url


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Let `handler` answer while the block runs, and give the base URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
