"""The contract of the REST tests, served without sockets: what a request becomes, and what a reply becomes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from protobuf import Message

from interlock.call import Call
from interlock.contract.compile import compile_image
from interlock.contract.load import load
from interlock.contract.model import Contract
from interlock.protocols.rest_server import RestServer
from interlock.protocols.serving import Endpoint, InFlight, Limits

CONTRACTS = Path(__file__).parent / "contracts"


@cache
def contract() -> Contract:
    return load(compile_image([CONTRACTS]))


def message(name: str) -> Any:
    """Return the class of a message of the contract."""
    found = contract().registry.message(f"orders.v1.{name}")
    assert found is not None
    return found.type


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for each, value in self.headers if each == name]
        assert len(found) < 2, f"{name} stands there twice"
        return found[0] if found else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def fields(self) -> dict[str, str]:
        """What is wrong, by field."""
        return {each["field"]: each["message"] for each in self.error["details"]}


@dataclass
class Orders:
    """A REST server whose handlers keep the call and answer as `reply` says (a message, or what makes one)."""

    reply: Any = None
    limits: Limits = field(default_factory=Limits)
    calls: list[Call] = field(default_factory=list)
    ended: list[Any] = field(default_factory=list)
    in_flight: InFlight = field(default_factory=InFlight)

    def __post_init__(self) -> None:
        endpoints = [Endpoint(each, self._handle) for each in contract().operations.values()]
        self.server = RestServer(endpoints, self.in_flight, self.limits)

    async def _handle(self, call: Call) -> Any:
        self.calls.append(call)
        call.on_end(lambda outcome: self.ended.append(outcome.error))
        assert call.incoming is not None
        call.request = await call.incoming.message()
        reply = self.reply(call) if callable(self.reply) else self.reply
        if isinstance(reply, Awaitable):
            reply = await reply
        return call.operation.reply_type() if reply is None else reply

    @property
    def request(self) -> Any:
        """The last request that a handler got."""
        return self.calls[-1].request

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | Any = b"",
        *,
        headers: Sequence[tuple[str, str]] = (),
        chunks: Sequence[bytes] | None = None,
        **scope: Any,
    ) -> Answer:
        """Send a request; a body that is not bytes goes as JSON, `chunks` go one by one without a length."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        path, _, query = target.partition("?")
        given = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        names = [name for name, _ in given]
        if (data or chunks) and b"content-type" not in names:
            given.append((b"content-type", b"application/json"))
        if data and chunks is None:
            given.append((b"content-length", b"%d" % len(data)))
        parts = [data] if chunks is None else list(chunks)
        return await exchange(
            self.server,
            {
                "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
                "query_string": query.encode(), "headers": given, "client": ("127.0.0.1", 1), **scope,
            },
            parts,
        )  # fmt: skip


async def exchange(app: Callable[..., Awaitable[None]], scope: dict[str, Any], parts: Sequence[bytes]) -> Answer:
    """Run one ASGI exchange."""
    waiting = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1} for index, part in enumerate(parts)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        sent.append(event)

    await app(scope, receive, send)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert [each.get("more_body", False) for each in bodies] == [True] * (len(bodies) - 1) + [False]
    headers = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
    answer = Answer(start["status"], headers, b"".join(each.get("body", b"") for each in bodies))
    if (length := answer.header("content-length")) is not None:
        assert int(length) == len(answer.body) or scope["method"] == "HEAD"
    return answer


def plain(given: Message[Any]) -> Any:
    """Return a message as JSON values, only what is set."""
    return json.loads(given.to_json(use_proto_field_name=True))
