"""JSON documents over HTTP on a port of one's own."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeAlias

Documents: TypeAlias = dict[str, Any]
"""What stands at each path: JSON, or a function of the request's body and headers that gives status and JSON."""

Answer: TypeAlias = Callable[[bytes, dict[str, str]], tuple[int, Any]]


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
    handler = type("Handler", (_Handler,), {"documents": documents})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
