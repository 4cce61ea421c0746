"""The sample service on connectrpc's Python server: a Connect peer that we did not write."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2corn
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint

from interlock.contract.gen.google.rpc.error_details_pb import ErrorInfo, RetryInfo
from interlock.contract.model import Kind
from tests.sample.gen.sample.v1.sample_pb import (
    BlobResponse,
    ChatResponse,
    CountUpResponse,
    EchoResponse,
    FailResponse,
    ListThingsResponse,
    SlowResponse,
    SumResponse,
)
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_SERVICE

CODES = {each.name: each for each in Code}


class Foreign:
    """What the sample service does, as connectrpc's users write it; `heads` keeps the headers of each request."""

    def __init__(self) -> None:
        self.heads: list[tuple[str, dict[str, str]]] = []
        self.addresses: list[str] = []
        self.cancelled: list[str] = []

    def note(self, context: Any) -> None:
        """Keep what the request says of itself."""
        headers = dict(context.request_headers.items())
        self.heads.append((context.http_method, headers))
        self.addresses.append(context.client_address or "")
        for name, value in headers.items():
            if name.startswith("x-test-"):
                context.response_headers[f"reply-{name}"] = value
                context.response_trailers[f"last-{name}"] = value

    async def echo(self, request: Any, context: Any) -> Any:
        """Send back the request."""
        self.note(context)
        return EchoResponse.from_binary(request.to_binary())

    async def fail(self, request: Any, context: Any) -> Any:
        """Fail as told."""
        self.note(context)
        if not request.code:
            return FailResponse()
        details: list[Any] = [ErrorInfo(reason=request.reason, domain="foreign")]
        if request.retry_after is not None:
            details.append(RetryInfo(retry_delay=request.retry_after))
        raise ConnectError(list(Code)[request.code - 1], request.message, details)

    async def slow(self, request: Any, context: Any) -> Any:
        """Wait."""
        self.note(context)
        try:
            await asyncio.sleep(request.seconds)
        except asyncio.CancelledError:
            self.cancelled.append("slow")
            raise
        return SlowResponse()

    async def blob(self, request: Any, context: Any) -> Any:
        """Send zero bytes."""
        return BlobResponse(data=bytes(request.size))

    async def list_things(self, request: Any, context: Any) -> Any:
        """List nothing."""
        self.note(context)
        return ListThingsResponse(total_size=request.page_size)

    async def count_up(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Count."""
        self.note(context)
        for number in range(1, request.count + 1):
            if request.fail_after and number > request.fail_after:
                raise ConnectError(Code.NOT_FOUND, "nothing more", [ErrorInfo(reason="OVER", domain="foreign")])
            if request.pause:
                try:
                    await asyncio.sleep(request.pause.to_seconds())
                except asyncio.CancelledError:
                    self.cancelled.append("count_up")
                    raise
            yield CountUpResponse(number=number)

    async def sum(self, requests: AsyncIterator[Any], context: Any) -> Any:
        """Add up."""
        self.note(context)
        numbers = [request.number async for request in requests]
        return SumResponse(sum=sum(numbers), count=len(numbers))

    async def chat(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answer each line."""
        self.note(context)
        async for request in requests:
            yield ChatResponse(text=request.text)


class Application(ConnectASGIApplication[Foreign]):
    """The service at its path."""

    path = f"/{SAMPLE_SERVICE.name}"


KINDS: dict[Kind, tuple[StreamType, Any]] = {
    Kind.UNARY: (StreamType.UNARY, Endpoint.unary),
    Kind.CLIENT_STREAM: (StreamType.CLIENT_STREAM, Endpoint.client_stream),
    Kind.SERVER_STREAM: (StreamType.SERVER_STREAM, Endpoint.server_stream),
    Kind.BIDI_STREAM: (StreamType.BIDI_STREAM, Endpoint.bidi_stream),
}


def _endpoints(service: Foreign) -> dict[str, Any]:
    found = {}
    for name, rpc in SAMPLE_SERVICE.rpcs.items():
        if not hasattr(service, name):
            continue
        kind, make = KINDS[rpc.kind]
        level = IdempotencyLevel.NO_SIDE_EFFECTS if name == "list_things" else IdempotencyLevel.UNKNOWN
        method = MethodInfo(
            name=rpc.name,
            service_name=SAMPLE_SERVICE.name,
            input=rpc.request_type,
            output=rpc.reply_type,
            idempotency_level=level,
            stream_type=kind,
        )
        found[rpc.path] = make(method, getattr(service, name))
    return found


@asynccontextmanager
async def connectrpc_server(service: Foreign, **options: Any) -> AsyncIterator[str]:
    """Serve it on h2corn, bare, and give its URL."""
    app = Application(service=service, endpoints=_endpoints, **options)
    config = h2corn.Config(bind=("127.0.0.1:0",), lifespan="off", access_log=False)
    server = h2corn.Server(app, config)
    serving = asyncio.create_task(server.serve())
    try:
        await server.wait_started()
        yield f"http://{server.addresses[0]}"
    finally:
        server.shutdown()
        await serving
