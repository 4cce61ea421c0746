"""Load on a server: h2load with the body of the reference call, every reply checked by status and by size."""

import http.client
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench import reference
from bench.identity import authorization
from bench.processes import NotMeasured, Server, output_of
from shop.gen.api.order.v1.order_pb import GetOrderRequest

LIMIT = 300.0
MISSING = "h2load is not installed: it sends the load (Debian, Ubuntu: apt-get install nghttp2-client)"


class WrongReply(Exception):
    """A server answered with something else than the reference reply: its figures would mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is sent: a path with a gRPC body, or a GET without one; `check` makes one call and sizes its reply.

    `requests` is how many make a full round.
    """

    path: str
    check: Callable[[int], int]
    body: bytes = b""
    content_type: str = "application/grpc"
    requests: int = 20_000
    connections: int = 4
    streams: int = 16


@dataclass(frozen=True, slots=True)
class Measured:
    """What a number of requests cost the server."""

    cpu: float
    """CPU microseconds a request."""
    rate: float
    """Requests a second."""


def require() -> None:
    """Raise NotMeasured where h2load is missing."""
    if shutil.which("h2load") is None:
        raise NotMeasured(MISSING)


def send(server: Server, work: Work, requests: int, cores: frozenset[int]) -> Measured:
    """Send `requests` of `work` and return their cost; WrongReply unless each was answered in full."""
    size = work.check(server.port)
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(work.body)
        command = ["h2load", f"-n{requests}", f"-c{work.connections}", f"-m{work.streams}", "-t1"]
        command += ["-H", f"authorization: {authorization()}"]
        if work.body:
            command += ["-H", f"content-type: {work.content_type}", "-H", "te: trailers", "-d", file.name]
        else:
            command += ["--h1"]
        before = server.cpu()
        told = output_of([*command, f"http://127.0.0.1:{server.port}{work.path}"], LIMIT, cores)
        used = server.cpu() - before
    work.check(server.port)
    succeeded = int(_number(r"(\d+) succeeded", told))
    received = int(_number(r"headers \(space savings [\d.]+%\), \S+ \((\d+)\) data", told))
    if succeeded != requests or received != requests * size:
        raise WrongReply(f"{work.path}: {succeeded} of {requests} succeeded, {received} bytes, not {requests * size}")
    return Measured(used / requests * 1e6, _number(r"finished in [\d.]+\w+, ([\d.]+) req/s", told))


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise NotMeasured(f"h2load said something unexpected:\n{text}")
    return float(found[1])


def _shown() -> list[tuple[str, str]]:
    return [("authorization", authorization())]


def _frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _get_order(port: int) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        reply: bytes = channel.unary_unary(reference.UNARY)(_REQUEST, timeout=10, metadata=_shown())
    if reply != reference.order(reference.ORDER_ID).to_binary():
        raise WrongReply(f"{reference.UNARY} gave {reply[:200]!r}")
    return len(_frame(reply))


def _get_order_as_json(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {**dict(_shown()), "content-type": "application/json", "connect-protocol-version": "1"}
        connection.request("POST", reference.UNARY, body=_JSON, headers=headers)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200 or json.loads(body)["id"] != reference.ORDER_ID:
        raise WrongReply(f"{reference.UNARY} as JSON gave {response.status} {body[:200]!r}")
    return len(body)


def _watch_order_status(port: int) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        replies: list[bytes] = list(channel.unary_stream(reference.STREAM)(_REQUEST, timeout=10, metadata=_shown()))
    if replies != [change.to_binary() for change in reference.changes(reference.ORDER_ID)]:
        raise WrongReply(f"{reference.STREAM} gave {len(replies)} messages, not the {reference.STREAM_LENGTH} expected")
    return sum(len(_frame(reply)) for reply in replies)


def _read_order(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", reference.REST + reference.ORDER_ID, headers=dict(_shown()))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    reply = json.loads(body)
    read = reply.get("data", reply)  # ours stands in its envelope
    amounts = [int(item["unit_price"]["units"]) for item in read.get("items", ())]
    if response.status != 200 or read["id"] != reference.ORDER_ID or amounts != [12, 34, 7]:
        raise WrongReply(f"{reference.REST} gave {response.status} {body[:200]!r}")
    return len(body)


_REQUEST = GetOrderRequest(order_id=reference.ORDER_ID).to_binary()  # one for the stream too: both hold but the id
_JSON = GetOrderRequest(order_id=reference.ORDER_ID).to_json().encode()
CONNECT = Work(path=reference.UNARY, body=_JSON, content_type="application/json", check=_get_order_as_json)
UNARY = Work(path=reference.UNARY, body=_frame(_REQUEST), check=_get_order)
STREAM = Work(path=reference.STREAM, body=_frame(_REQUEST), check=_watch_order_status, requests=60, streams=1)
REST = Work(path=reference.REST + reference.ORDER_ID, check=_read_order, connections=64, streams=1)
