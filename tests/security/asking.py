"""Asking the sample app by hand, over each protocol, without sockets: what is read of the request shows."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from interlock import App, Code
from tests.sample.gen.sample.v1.sample_pb import EchoRequest

PROTOCOLS = ("grpc", "grpc-web", "connect", "rest")
HTTP = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "OK": 200, "RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503}
_TYPES = {
    "grpc": b"application/grpc",
    "grpc-web": b"application/grpc-web+proto",
    "connect": b"application/proto",
    "rest": b"application/json",
}


@dataclass
class Answered:
    """What came back: the code by name, all bytes of it, and whether the body was asked for."""

    code: str
    status: int
    headers: dict[str, str]
    content: bytes
    read: bool


async def ask(
    app: App, protocol: str, headers: Iterable[tuple[str, str]] = (), *, host: str = "192.0.2.7", **scope: Any
) -> Answered:
    """Call Whisper with those headers."""
    message = EchoRequest(text="hush").to_binary()
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    body = {"rest": b'{"text": "hush"}', "connect": message}.get(protocol, framed)
    events: list[Any] = []
    read = False

    async def receive() -> dict[str, Any]:
        nonlocal read
        read = read or not events  # what is read past behind a refusal is not looked at
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event: Any) -> None:
        events.append(event)

    given = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    path = "/v1/whisper" if protocol == "rest" else "/sample.v1.SampleService/Whisper"
    about = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "http_version": "2",
        "client": (host, 5555),
        "headers": [(b"content-type", _TYPES[protocol]), (b"te", b"trailers"), *given],
        "extensions": {"http.response.trailers": {}},
    }
    await app({**about, **scope}, receive, send)
    return _answered(protocol, events, read)


def _answered(protocol: str, events: list[Any], read: bool) -> Answered:
    start = next(each for each in events if each["type"] == "http.response.start")
    pairs = list(start["headers"])
    for each in events:
        if each["type"] == "http.response.trailers":
            pairs += each["headers"]
    content = b"".join(each.get("body", b"") for each in events)
    found = {name.decode(): value.decode("latin-1") for name, value in pairs}
    if protocol == "grpc-web" and "grpc-status" not in found:
        text = content[content.index(b"grpc-status") :].decode("latin-1")
        found |= dict(line.split(":", 1) for line in text.strip().split("\r\n"))
    if "grpc-status" in found:
        code = Code(int(found["grpc-status"].strip())).name
    elif start["status"] == 200:
        code = "OK"
    else:
        error = json.loads(content)
        code = (error.get("error", {}).get("code") if protocol == "rest" else error["code"]).upper()
    everything = content + json.dumps(found).encode()
    return Answered(code, start["status"], found, everything, read)
