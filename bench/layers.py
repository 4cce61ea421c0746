"""`python -m bench profile`: the reference call through the ASGI app without sockets, and what each layer of it costs.

Every row has all that the rows above it have. The rows are measured in turn, in short slices, so that a machine that
changes its pace changes all of them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import uvloop

from bench import load, reference
from bench.figures import Effort, Section
from bench.identity import authorization
from bench.load import WrongReply
from interlock import App, Call, Layer
from interlock.call import compose
from interlock.observability.logging import AccessLog
from interlock.protocols.serving import Endpoint
from interlock.settings import Settings
from shop.gen.api.order.v1.order_pb import Order

One: TypeAlias = Callable[[], Awaitable[object]]
SLICE = 200
TURN = 20
REST = "REST, the whole app"
_refusals: list[str] = []


def profile(effort: Effort) -> Section:
    """Measure every layer of a unary gRPC call on the server, and REST as a whole."""
    section = Section(
        "profile",
        "The reference call inside the server's process, without sockets",
        "CPU time in a loop, the faster half of the slices; a row has all that the rows above it have",
    )
    with Path("/dev/null").open("w") as nowhere, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measured = runner.run(_measure(AccessLog(nowhere.write), max(10, effort.of(100))))
    before = 0.0
    for name, values in measured.items():
        section.add(name, "CPU", "µs/call", sorted(values)[: len(values) // 2])
        middle = section.figures[-1].median
        if name != REST:
            section.add(name, "adds", "µs", [middle - before])
        before = middle
    return section


async def _measure(access_log: AccessLog, slices: int) -> dict[str, list[float]]:
    app = App(reference.handler(), settings=Settings(trace_ratio=0.01), access_log=access_log)
    unary, rest = _request(app, load.UNARY.path, load.UNARY.body), _request(app, load.REST.path, b"")
    endpoints = app._endpoints
    whole = endpoints[reference.UNARY]
    stacks = _stacks(whole, app._layers)
    rows: dict[str, tuple[Endpoint, One]] = {
        "handler": (whole, _handler),
        "+ encode": (whole, _encode),
        **{f"+ {name}": (endpoint, unary) for name, endpoint in stacks.items()},
        "+ a task of its own": (whole, _in_task(unary)),
        REST: (whole, rest),
    }
    measured: dict[str, list[float]] = {name: [] for name in rows}
    async with app:
        for _ in range(slices):
            for name, (endpoint, one) in rows.items():
                endpoints[reference.UNARY] = endpoint
                measured[name].append(await _slice(one))
                if _refusals:
                    raise WrongReply(f"{name}: {_refusals[0]}")
    return measured


def _stacks(whole: Endpoint, layers: Sequence[Layer]) -> dict[str, Endpoint]:
    """Return the endpoint with no layer, then with one more at a time, from the outermost inwards."""
    operation = whole.operation
    chosen: list[Layer] = []
    stacks = {"routing and gRPC front": Endpoint(operation, compose(chosen, operation, _respond))}
    for layer in layers:
        if layer(operation) is not None:
            chosen.append(layer)
            stacks[layer.__qualname__.split(".")[0]] = Endpoint(operation, compose(chosen, operation, _respond))
    return stacks


async def _slice(one: One) -> float:
    began = time.process_time()
    for number in range(SLICE):
        await one()
        if number % TURN == 0:
            await asyncio.sleep(0)  # as a server's loop would, whose lateness is a sign of overload
    return (time.process_time() - began) / SLICE * 1e6


async def _handler() -> Order:
    return reference.order(reference.ORDER_ID)


async def _encode() -> bytes:
    return reference.order(reference.ORDER_ID).to_binary()


async def _respond(_call: Call) -> Order:
    return reference.order(reference.ORDER_ID)


def _in_task(inner: One) -> One:
    async def run() -> None:
        await inner()

    async def one() -> None:
        await asyncio.get_running_loop().create_task(run())

    return one


def _request(app: App, path: str, body: bytes) -> One:
    """Return what sends one request to the app, as h2corn does."""
    kind = [(b"content-type", b"application/grpc"), (b"te", b"trailers")] if body else [(b"accept", b"*/*")]
    shown = (b"authorization", authorization().encode())
    headers = [(b"host", b"127.0.0.1:8080"), (b"user-agent", b"h2load nghttp2/1.52.0"), shown, *kind]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "2" if body else "1.1",
        "method": "POST" if body else "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8080),
        "extensions": {"http.response.trailers": {}} if body else {},
    }

    async def one() -> None:
        await app({**scope, "headers": headers.copy()}, _Body(body), _sent)

    return one


class _Body:
    """A `receive` that gives the body, then the end of it, as it comes from gRPC clients."""

    def __init__(self, body: bytes) -> None:
        self._parts = [(b"", False), (body, True)] if body else [(b"", False)]

    async def __call__(self) -> Any:
        body, more = self._parts.pop()
        return {"type": "http.request", "body": body, "more_body": more}


async def _sent(event: Any) -> None:
    refused = event.get("status", 200) != 200
    if refused or any(name == b"grpc-status" and value != b"0" for name, value in event.get("headers", ())):
        _refusals.append(str(event))
