"""`python -m bench profile`: the reference call through the ASGI app without sockets, and what each layer of it costs.

Every row stacks one more thing on the row before it; all rows are measured in turn, in short slices.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from protovalidate import Validator

from bench import load, reference
from bench.figures import Effort, Section
from bench.load import WrongReply
from interlock import App, Call
from interlock.call import compose
from interlock.defaults import Named, served
from interlock.handlers import bind
from interlock.metadata import Metadata
from interlock.observability.logging import AccessLog
from interlock.protocols.grpc_server import GrpcServer
from interlock.protocols.serving import Endpoint, InFlight, Limits
from interlock.resilience.deadline import Wheel
from interlock.settings import Settings
from shop.gen.api.order.v1.order_pb import GetOrderRequest, Order
from shop.gen.api.order.v1.order_rpc import GET_ORDER

One: TypeAlias = Callable[[], Awaitable[object]]
SLICE = 200


def profile(effort: Effort) -> Section:
    """Measure every layer of a unary gRPC call on the server, and REST as a whole."""
    section = Section(
        "profile",
        "The reference call inside the server's process, without sockets",
        "CPU time in a loop; the faster half of the slices; each row has all that the rows above it have",
    )
    with Path("/dev/null").open("w") as nowhere:
        measured = asyncio.run(_measure(AccessLog(nowhere.write), max(10, effort.of(100))))
    before = 0.0
    for name, values in measured.items():
        section.add(name, "CPU", "µs/call", values)
        middle = section.figures[-1].median
        if name != REST:
            section.add(name, "adds", "µs", [middle - before])
        before = middle
    return section


REST = "REST, the whole app"


async def _measure(access_log: AccessLog, slices: int) -> dict[str, list[float]]:
    app = App(reference.handler(), settings=Settings(), access_log=access_log)
    stack = served(access_log=access_log, meters=(), wheel=Wheel(), validator=Validator())
    rows: dict[str, One] = {"handler": _handler, "+ encode": _encode, "+ gRPC front": _front([])}
    chosen: list[Named] = []
    inward = sorted(stack[::-1], key=lambda each: each.name != "decode")  # without it the others lack a request
    for layer in inward:
        chosen.append(layer)
        rows[f"+ {layer.name}"] = _front([each for each in stack if each in chosen])
    rows["+ routing: the whole app"] = _app(app, load.UNARY.path, load.UNARY.body)
    rows["+ a task of its own, as servers start"] = _in_task(rows["+ routing: the whole app"])
    rows[REST] = _app(app, load.REST.path, b"")
    measured: dict[str, list[float]] = {name: [] for name in rows}
    async with app:
        for _ in range(slices):
            for name, one in rows.items():
                measured[name].append(await _slice(one))
    return {name: sorted(values)[: max(1, len(values) // 2)] for name, values in measured.items()}


async def _slice(one: One) -> float:
    began = time.process_time()
    for _ in range(SLICE):
        await one()
    return (time.process_time() - began) / SLICE * 1e6


async def _handler() -> Order:
    return reference.order(reference.ORDER_ID)


async def _encode() -> bytes:
    return reference.order(reference.ORDER_ID).to_binary()


def _front(stack: Iterable[Named]) -> One:
    """Return a call through the gRPC front and these layers."""
    operation = GetOrderHandler.service.operation(GET_ORDER)
    handler = bind(operation, GetOrderHandler(), "get_order")
    endpoint = Endpoint(operation, compose([each.layer for each in stack], operation, handler))
    server = GrpcServer(InFlight(), Limits())
    scope = _scope(load.UNARY.path, load.UNARY.body)

    async def one() -> None:
        await server(endpoint, Metadata.from_raw(list(scope["headers"])), scope, _receiver(load.UNARY.body), _sent)

    return one


def _app(app: App, path: str, body: bytes) -> One:
    scope = _scope(path, body)

    async def one() -> None:
        await app(scope | {"headers": list(scope["headers"])}, _receiver(body), _sent)

    return one


def _in_task(inner: One) -> One:
    async def run() -> None:
        await inner()

    async def one() -> None:
        await asyncio.get_running_loop().create_task(run())

    return one


class GetOrderHandler:
    """The handler of the reference call, which asks nothing of the request: it is called without `decode` too."""

    service = type(reference.handler()).service

    async def get_order(self, _request: GetOrderRequest, _call: Call) -> Order:
        return reference.order(reference.ORDER_ID)


def _scope(path: str, body: bytes) -> dict[str, Any]:
    headers = [(b"content-type", b"application/grpc"), (b"te", b"trailers")] if body else [(b"accept", b"*/*")]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "2" if body else "1.1",
        "method": "POST" if body else "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"user-agent", b"h2load nghttp2/1.52.0"), *headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8080),
        "extensions": {"http.response.trailers": {}},
    }


def _receiver(body: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _sent(event: Any) -> None:
    for name, value in event.get("headers", ()):
        if name == b"grpc-status" and value != b"0":
            raise WrongReply(f"grpc-status {value.decode()}")
    if event.get("status", 200) != 200:
        raise WrongReply(f"status {event['status']}")
