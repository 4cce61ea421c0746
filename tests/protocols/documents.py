"""A service of documents behind real sockets: etags compared, files, streams, what waits and what goes away."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx2

from interlock import App, Call
from interlock.app import Mounted
from interlock.contract.compile import compile_image
from interlock.contract.load import load
from interlock.contract.model import Contract
from interlock.errors import EtagMismatch, NotFound
from interlock.masks import apply_mask
from interlock.settings import Settings

CONTRACTS = Path(__file__).parent / "rest_contracts"
SERVICE = "documents.v1.DocumentService"
AT = "/api/v1/documents"
VERSIONS = ("HTTP/1.1", "HTTP/2")


@cache
def contract() -> Contract:
    return load(compile_image([CONTRACTS]))


def message(name: str) -> Any:
    """Return the class of a message of the contract."""
    found = contract().registry.message(name if "." in name else f"documents.v1.{name}")
    assert found is not None
    return found.type


def speaking(version: str, url: str) -> httpx2.AsyncClient:
    """Return a patient client that speaks this version of HTTP, and no other."""
    second = version == "HTTP/2"
    return httpx2.AsyncClient(base_url=url, http1=not second, http2=second, timeout=60)


@dataclass
class Documents:
    """The handlers, by the names of their operations; `closed` and `cancelled` tell how those that wait ended."""

    kept: dict[str, Any] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    version: int = 0

    def app(self, **settings: Any) -> App:
        """Return the app; `settings` are fields of its settings."""
        service = contract().service(SERVICE)
        handlers = {each.path: self._handler(each.python_name) for each in service.operations}
        mounted = Mounted(service=service, contract=contract(), handlers=handlers)
        return App(mounted, settings=Settings(**settings), access_log=False)

    def _handler(self, name: str) -> Any:
        method = getattr(self, name)

        async def handle(call: Call) -> Any:
            self.requests.append(call.request)
            reply = method(call.request, call)
            return await reply if asyncio.iscoroutine(reply) else reply

        return handle

    @property
    def request(self) -> Any:
        """The last request."""
        return self.requests[-1]

    def keep(self, document: Any) -> Any:
        self.version += 1
        document.etag = f"v{self.version}"
        self.kept[document.id] = document
        return document

    async def create_document(self, request: Any, call: Call) -> Any:
        return self.keep(request.document)

    async def get_document(self, request: Any, call: Call) -> Any:
        if request.id not in self.kept:
            raise NotFound("no such document")
        return self.kept[request.id]

    async def read_document(self, request: Any, call: Call) -> Any:
        return await self.get_document(request, call)

    async def update_document(self, request: Any, call: Call) -> Any:
        given = request.document
        old = self.kept.get(given.id)
        if old is None:
            raise NotFound("no such document")
        if given.etag and given.etag != old.etag:
            raise EtagMismatch("the document has changed")
        return self.keep(apply_mask(old, given, request.update_mask))

    async def delete_document(self, request: Any, call: Call) -> Any:
        old = await self.get_document(request, call)
        if request.etag and request.etag != old.etag:
            raise EtagMismatch("the document has changed")
        del self.kept[request.id]
        return call.operation.reply_type()

    async def watch_documents(self, request: Any, call: Call) -> AsyncIterator[Any]:
        call.reply_trailers.add("x-counted", str(request.count))
        return self._documents(request, call)

    async def _documents(self, request: Any, call: Call) -> AsyncIterator[Any]:
        try:
            for number in range(request.count):
                self.waiting.set()
                await asyncio.sleep(request.pause_ms / 1000)
                yield message("Document")(id=str(number), text="ü\nx")
            if request.fail:
                raise NotFound("no more documents")
        finally:
            self.closed.append(call.cancellation.name if call.cancellation else "")

    async def get_file(self, request: Any, call: Call) -> Any:
        kinds = {"page": "text/html; charset=utf-8", "bad": "no\r\ntype", "none": ""}
        data = bytes(range(256)) * 8 if request.id != "page" else b"<p>hello</p>" * 500
        return call.operation.reply_type(content_type=kinds.get(request.id, "image/png"), data=data)

    async def stream_file(self, request: Any, call: Call) -> AsyncIterator[Any]:
        async def pieces() -> AsyncIterator[Any]:
            for number in range(4):
                yield call.operation.reply_type(content_type="text/csv" if number == 0 else "", data=b"a,b\n")
            if request.id == "cut":
                raise NotFound("the rest is lost")

        return pieces()

    async def put_file(self, request: Any, call: Call) -> Any:
        return message("Document")(id=request.id, text=f"{request.file.content_type} {len(request.file.data)}")

    async def put_bytes(self, request: Any, call: Call) -> Any:
        return message("Document")(id=request.id, text=request.data.hex())

    async def wait(self, request: Any, call: Call) -> Any:
        if request.id == "stray":
            task = asyncio.create_task(asyncio.sleep(10))
            task.cancel()
            await task
        self.waiting.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled.append(call.cancellation.name if call.cancellation else "TASK")
            raise
        raise AssertionError("nobody came")
