"""gRPC requests as bare ASGI events: whatever bytes, in whatever pieces, cut off wherever."""

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from protobuf import Message

from interlock import Code
from interlock.contract.gen.google.rpc.status_pb import Status
from interlock.protocols.grpc_wire import frame

GRPC = (b"content-type", b"application/grpc")
GONE = {"type": "http.disconnect"}
NEVER = {"type": "never"}

Headers = list[tuple[bytes, bytes]]
Asgi = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Answer:
    """What an app sent."""

    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.events[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        """The leading headers."""
        return _texts(self.events[0]["headers"])

    @property
    def trailers_only(self) -> bool:
        """Whether the status came with the headers."""
        return "grpc-status" in self.headers

    @property
    def trailers(self) -> dict[str, str]:
        """What carries the gRPC status, wherever it stands; the events before it are checked for their order."""
        kinds = [each["type"].removeprefix("http.response.") for each in self.events]
        if self.trailers_only:
            assert kinds == ["start", "body"]
            assert not self.events[0].get("trailers")
            assert not self.body
            return self.headers
        assert kinds == ["start", *["body"] * (len(kinds) - 2), "trailers"]
        assert self.events[0]["trailers"] is True
        assert [each["more_body"] for each in self.events[1:-1]] == [True] * (len(kinds) - 3) + [False]
        return _texts(self.events[-1]["headers"])

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(each.get("body", b"") for each in self.events if each["type"] == "http.response.body")

    @property
    def code(self) -> Code:
        """The gRPC status code."""
        return Code(int(self.trailers["grpc-status"]))

    @property
    def message(self) -> str:
        """The gRPC status message, decoded."""
        return unquote(self.trailers.get("grpc-message", ""))

    @property
    def details(self) -> Status:
        """The rich status, which has to agree with the plain one."""
        packed = self.trailers["grpc-status-details-bin"]
        status = Status.from_binary(b64decode(packed + "=" * (-len(packed) % 4)))
        assert status.code == self.code
        return status


def _texts(headers: Headers) -> dict[str, str]:
    for name, value in headers:
        assert name == name.lower()
        assert not {0, 10, 13} & set(name + value), f"{name!r} would break the wire"
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


def framed(*messages: Message[Any]) -> bytes:
    """Return messages as they follow each other in a body."""
    return b"".join(frame(message.to_binary()) for message in messages)


async def ask(
    app: Asgi,
    path: str,
    *parts: bytes | dict[str, Any],
    headers: Sequence[tuple[bytes, bytes]] = (GRPC,),
    method: str = "POST",
    send: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
) -> Answer:
    """Run one request whose body comes in `parts`: the last ends it; an event instead of bytes stands for itself."""
    waiting = list(parts) or [b""]
    answer = Answer()

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if not waiting:
            return GONE
        part = waiting.pop(0)
        if part is NEVER:
            await asyncio.Event().wait()
        if isinstance(part, dict):
            return part
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def record(event: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        answer.events.append(event)
        if send is not None:
            await send(event)

    scope = {
        "type": "http",
        "http_version": "2",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "extensions": {"http.response.trailers": {}},
    }
    await asyncio.create_task(app(scope, receive, record))  # type: ignore[arg-type]  # is a coroutine
    return answer
