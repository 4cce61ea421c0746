"""An `App` makes one ASGI application of handlers: routes to the protocol fronts, chains composed once, a lifecycle."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from protobuf import DescFile
from protovalidate import Validator

from interlock.call import Cancellation, Handler, compose
from interlock.contract.builtin import operations_of
from interlock.contract.effective import effective_together
from interlock.contract.gen.grpc.health.v1 import health_pb
from interlock.contract.gen.grpc.reflection.v1 import reflection_pb
from interlock.contract.gen.grpc.reflection.v1alpha import reflection_pb as reflection_alpha_pb
from interlock.contract.model import Contract, Operation, Service
from interlock.contract.openapi import openapi_json
from interlock.contract.stub import Image, ServiceStub
from interlock.defaults import Placed, insert, served
from interlock.errors import Error, MethodNotAllowed, RouteNotFound, UnsupportedMediaType
from interlock.handlers import bind
from interlock.metadata import Metadata
from interlock.observability.health import Check, Health, HealthService
from interlock.observability.logging import AccessLog, wants_json
from interlock.observability.measure import Meter
from interlock.pages import PROBES, Pages
from interlock.protocols.grpc_server import CONTENT_TYPES, GrpcServer, Receive, Scope, Send, refuse
from interlock.protocols.in_process import InProcess
from interlock.protocols.reflection import Index, ReflectionService
from interlock.protocols.rest_server import RestServer
from interlock.protocols.rest_server import refuse as refuse_rest
from interlock.protocols.serving import Endpoint, InFlight, Limits
from interlock.resilience.deadline import Wheel

if TYPE_CHECKING:
    from interlock.settings import Settings

Hook = Callable[[], Awaitable[None]]


class App:
    """Handlers of one or more services as one plain ASGI application (gRPC, REST, health, reflection, OpenAPI).

    Each handler is an object of a generated abstract class. `layers` are placed by name (`after`, `before`) in the
    stack of SERVED calls; `meters` see every outcome; `checks` are what readiness depends on; `on_start` and `on_stop`
    run in order, and in reverse, around serving. Raises ContractError for mistakes of the contract and TypeError for a
    handler that does not fit it. Belongs to one event loop; does no I/O before `start`.
    """

    def __init__(
        self,
        *handlers: Any,
        settings: "Settings | None" = None,
        layers: Iterable[Placed] = (),
        meters: Iterable[Meter] = (),
        checks: Mapping[str, Check] | None = None,
        on_start: Iterable[Hook] = (),
        on_stop: Iterable[Hook] = (),
        access_log: AccessLog | bool = True,
    ) -> None:
        if not handlers:
            raise TypeError("App needs at least one handler")
        if settings is None:
            from interlock.settings import Settings  # noqa: PLC0415 - pydantic costs 100 ms, an app has settings mostly

            settings = Settings()
        self.settings = settings
        self.limits = Limits(request_bytes=settings.request_bytes, reply_bytes=settings.reply_bytes)
        self.in_flight = InFlight()
        self._access_log = _access_log(access_log, settings)
        self._wheel = Wheel(idle=settings.stream_idle_timeout.total_seconds())
        self._validator = Validator()
        self._layers = insert(
            served(access_log=self._access_log, meters=tuple(meters), wheel=self._wheel, validator=self._validator),
            layers,
        )
        self._on_start = tuple(on_start)
        self._on_stop = tuple(on_stop)
        self._started = False

        self.services: list[Service] = []
        self._contracts = _contracts(handlers, settings)
        self._endpoints: dict[str, Endpoint] = {}
        for handler in handlers:
            self._serve(handler)
        self.health = Health(each.name for each in self.services)
        self.health.checks.update(checks or {})
        self._serve_builtin(health_pb.desc(), HealthService(self.health))
        index = self._index()
        self._serve_builtin(reflection_pb.desc(), ReflectionService(index))
        self._serve_builtin(reflection_alpha_pb.desc(), ReflectionService(index, reflection_alpha_pb))

        self._grpc = GrpcServer(self.in_flight, self.limits)
        self._rest = RestServer(self._endpoints.values(), self.in_flight, self.limits)
        self._pages = Pages(self.health, self.openapi)
        self._openapi: bytes | None = None

    # --- building ---------------------------------------------------------------------------------------------------

    def _serve(self, handler: Any) -> None:
        stub = _stub(handler)
        contract = self._contracts[stub.image]
        service = contract.service(stub.name)
        if any(each.name == stub.name for each in self.services):
            raise TypeError(f"two handlers implement {stub.name}")
        self.services.append(service)
        for python_name, rpc in stub.rpcs.items():
            operation = stub.operation(rpc, contract)
            self._add(operation, bind(operation, handler, python_name))

    def _serve_builtin(self, file: DescFile, handler: Any) -> None:
        for operation in operations_of(file):
            self._add(operation, bind(operation, handler, operation.python_name))

    def _add(self, operation: Operation, handler: Handler) -> None:
        self._endpoints[operation.path] = Endpoint(operation, compose(self._layers, operation, handler))

    def _index(self) -> Index:
        files = [
            file.proto
            for contract in self._contracts.values()
            for file in contract.registry
            if isinstance(file, DescFile)
        ]
        builtin = (health_pb.desc(), reflection_pb.desc(), reflection_alpha_pb.desc())
        names = [each.name for each in self.services]
        names += [service.type_name for file in builtin for service in file.services]
        return Index([*files, *(file.proto for file in builtin)], names)

    # --- serving ----------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: http, or lifespan where the server has no runner of its own."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        metadata = Metadata.from_raw(scope["headers"])
        path = scope["path"]
        endpoint = self._endpoints.get(path)
        content_type = metadata.header(b"content-type") or b""
        if endpoint is not None and content_type in CONTENT_TYPES and scope["method"] == "POST":
            await self._grpc(endpoint, metadata, scope, receive, send)
        elif endpoint is not None or content_type.startswith(b"application/grpc"):
            await self._not_rpc(endpoint is not None, metadata, scope, send)
        elif self._pages.has(scope) and scope["method"] in ("GET", "HEAD"):
            await self._pages(scope, send)
        else:
            await self._rest(scope, receive, send)

    async def _not_rpc(self, known: bool, metadata: Metadata, scope: Scope, send: Send) -> None:
        if scope["method"] != "POST":
            error: Error = _not_post()
        elif known or metadata.header(b"content-type") not in CONTENT_TYPES:
            error = UnsupportedMediaType("an RPC path takes application/grpc or application/grpc+proto")
        else:
            await refuse(RouteNotFound(f"no operation {scope['path'][:200]} here"), send)
            return
        await refuse_rest(error, metadata, send)

    async def operations(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Serve the operations port: `/livez`, `/readyz` (`/health`)."""
        if scope["type"] != "http":
            return
        if scope["path"] in PROBES and scope["method"] in ("GET", "HEAD"):
            await self._pages(scope, send, details=True)
        else:
            error = RouteNotFound(f"the operations port answers GET {', '.join(sorted(PROBES))}")
            await refuse_rest(error, Metadata.from_raw(scope["headers"]), send)

    def openapi(self) -> bytes:
        """Return the OpenAPI 3.1 document of all services."""
        if self._openapi is None:
            self._openapi = openapi_json(self.services, images=[each.image for each in self._contracts.values()])
        return self._openapi

    def in_process(self) -> InProcess:
        """Return the transport to this app without sockets; a client given an App as target takes it."""
        return InProcess(self._endpoints.get, self.in_flight, self.limits)

    # --- lifecycle --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Run the start hooks, then be ready. What was started is stopped again if a later hook raises."""
        try:
            for hook in self._on_start:
                await hook()
        except BaseException:
            await self.stop()
            raise
        self._started = True
        self.health.serving = True

    async def drain(self, limit: float) -> None:
        """Stop being ready, let calls in flight end within `limit` seconds, then cancel what is left."""
        self.health.drain()
        await _within(limit, self.in_flight.idle())
        self.in_flight.cancel(Cancellation.DRAIN)
        await _within(1.0, self.in_flight.idle())

    async def stop(self) -> None:
        """Run the stop hooks, each even if one before it failed; the first failure is raised at the end."""
        self.health.serving = False
        self._started = False
        failed: BaseException | None = None
        for hook in reversed(self._on_stop):
            try:
                await hook()
            except Exception as error:
                failed = failed or error
        if self._access_log is not None:
            self._access_log.flush()
        if failed is not None:
            raise failed

    async def __aenter__(self) -> "App":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain(self.settings.drain_limit.total_seconds())
        await self.stop()

    @property
    def streaming_paths(self) -> list[str]:
        """The RPC paths whose requests are streams, which may stay quiet for longer than a body may."""
        return [path for path, each in self._endpoints.items() if each.operation.kind.client_streams]

    @property
    def banner(self) -> list[str]:
        """Lines for the start-up banner: what is served."""
        return [f"{each.name} ({len(each.operations)} operations)" for each in self.services]

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await send({"type": "websocket.close", "code": 1008})
            return
        while True:
            event = await receive()
            kind = event["type"].removeprefix("lifespan.")
            try:
                if kind == "startup":
                    await self.start()
                else:
                    await self.drain(self.settings.drain_limit.total_seconds())
                    await self.stop()
            except Exception as error:
                await send({"type": f"lifespan.{kind}.failed", "message": str(error)})
            else:
                await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown":
                return


def _stub(handler: Any) -> ServiceStub:
    stub = getattr(handler, "service", None)
    if not isinstance(stub, ServiceStub):
        raise TypeError(f"{type(handler).__name__} implements no generated service: derive it from one")
    return stub


def _contracts(handlers: Iterable[Any], settings: "Settings") -> dict[Image, Contract]:
    """Read each image once and apply the settings to all of them together."""
    images = list(dict.fromkeys(_stub(handler).image for handler in handlers))
    contracts = [image.contract for image in images]
    return dict(zip(images, effective_together(contracts, settings.operations), strict=True))


def _not_post() -> MethodNotAllowed:
    error = MethodNotAllowed("an RPC path takes POST")
    error.allow = ("POST",)
    return error


def _access_log(wanted: AccessLog | bool, settings: "Settings") -> AccessLog | None:
    if isinstance(wanted, bool):
        return AccessLog(json_lines=wants_json(settings.log_format, sys.stderr)) if wanted else None
    return wanted


async def _within(limit: float, waiting: Coroutine[Any, Any, None]) -> None:
    try:
        await asyncio.wait_for(waiting, limit)
    except TimeoutError:
        return
