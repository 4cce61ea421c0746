"""An `App` makes one ASGI application of handlers: routes to the protocol fronts, chains composed once, a lifecycle."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protobuf import DescFile, Message

from interlock.assembly import TOKENS, assemble, token_endpoint
from interlock.call import Cancellation, Handler, compose
from interlock.contract.asyncapi import asyncapi_json
from interlock.contract.builtin import operations_of
from interlock.contract.describe import describe
from interlock.contract.effective import effective_together
from interlock.contract.gen.grpc.health.v1 import health_pb
from interlock.contract.gen.grpc.reflection.v1 import reflection_pb
from interlock.contract.gen.grpc.reflection.v1alpha import reflection_pb as reflection_alpha_pb
from interlock.contract.model import Contract, Operation, Service
from interlock.contract.openapi import Credentials, openapi_json
from interlock.contract.stub import Image, ServiceStub
from interlock.defaults import Placed, insert, served
from interlock.errors import Error
from interlock.events.subscriptions import subscriptions
from interlock.handlers import bind
from interlock.messaging import Messaging
from interlock.metadata import Metadata
from interlock.observability.admin import PERMISSION, Admin
from interlock.observability.health import Check, Health, HealthService
from interlock.observability.logging import AccessLog
from interlock.observability.measure import Meter
from interlock.observability.metrics import Metrics
from interlock.observability.refusals import Refusals
from interlock.observability.tracing import Tracing
from interlock.operations import Operations
from interlock.pages import Pages
from interlock.protocols.cors import Cors
from interlock.protocols.heads import HeadLimit, refuse_rpc
from interlock.protocols.in_process import InProcess
from interlock.protocols.reflection import Index, ReflectionService
from interlock.protocols.rest_server import RestServer
from interlock.protocols.rpc_server import RpcServer
from interlock.protocols.serving import Endpoint, InFlight, Limits, Receive, Scope, Send
from interlock.security.access import Roles
from interlock.security.headers import secured
from interlock.security.jwks import JwksPage
from interlock.security.refused import CredentialRefused

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.events.broker import Broker
    from interlock.security.verifier import Verifier
    from interlock.settings import Settings

Hook = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mounted:
    """A service whose operations have ready handlers (RPC path -> Handler), such as those of a gateway."""

    service: Service
    contract: Contract
    handlers: Mapping[str, Handler]


class App:
    """Handlers of one or more services as one plain ASGI application (gRPC, gRPC-Web, Connect, REST, health, …).

    Each handler is an object of a generated abstract class, or `Mounted`. `database` is started and stopped with the
    app and holds outbox, inbox and stored answers. `roles`, `verifier` and `tracing` replace what the settings name,
    `broker` (a URL, or an object that its owner starts) the settings' broker. `layers` go by name (`after`, `before`)
    into the stack of SERVED calls, `consuming` into that of CONSUMED ones; `meters` see every served outcome; `checks`
    are what readiness depends on; `on_start` and `on_stop` run in order, and in reverse, around serving. Raises
    ContractError for mistakes of the contract, TypeError for a handler that does not fit it, RolesError for a wrong
    roles file. Belongs to one event
    loop; opens nothing before `start`.
    """

    def __init__(
        self,
        *handlers: Any,
        settings: "Settings | None" = None,
        database: "Database | None" = None,
        broker: "str | Broker | None" = None,
        roles: Roles | None = None,
        verifier: "Verifier | None" = None,
        tracing: Tracing | None = None,
        layers: Iterable[Placed] = (),
        consuming: Iterable[Placed] = (),
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
        self.limits = Limits(
            request_bytes=settings.request_bytes,
            reply_bytes=settings.reply_bytes,
            json_depth=settings.json_depth,
            query_parameters=settings.query_parameters,
            heartbeat=settings.stream_heartbeat.total_seconds(),
        )
        self.in_flight = InFlight()
        self._contracts = _contracts(handlers, settings)
        self.services = [self._service(handler) for handler in handlers]
        self._parts = assemble(
            settings.service_name or self.services[0].name,
            settings,
            database=database,
            roles=roles,
            verifier=verifier,
            tracing=tracing,
            meters=tuple(meters),
            access_log=access_log,
        )
        self._layers = insert(served(self._parts), layers)
        self._on_start = tuple(on_start)
        self._on_stop = tuple(on_stop)
        self._started = False
        self._refusals = Refusals(self._parts.metrics, self._parts.meters, self._parts.access_log)
        self._endpoints: dict[str, Endpoint] = {}
        for handler, service in zip(handlers, self.services, strict=True):
            self._serve(handler, service)
        self.health = Health(each.name for each in self.services)
        self._serve_builtin()
        self._messaging = self._make_messaging(handlers, broker or settings.broker, consuming)
        self.health.checks.update(self._checks(checks or {}))
        self._rpc = RpcServer(self._endpoints, self.in_flight, self.limits, self._refusals.unmatched)
        self._rest = RestServer(self._endpoints.values(), self.in_flight, self.limits, self._refusals.unmatched)
        self._heads = HeadLimit(settings.header_bytes, settings.header_fields)
        self._front = Cors(self._route, settings.cors_origins) if settings.cors_origins else self._route
        keys = JwksPage(settings.keys / "jwks.json")
        self._pages = Pages(self.health, self.openapi, self.asyncapi, keys, docs=settings.docs_in_force)
        self.admin = Admin(self.health, self._parts.access_log, self._described, self._overview)
        self._operations_port = Operations(self._pages, self._parts.metrics, self.admin, self._may_administer)
        self._openapi: bytes | None = None
        self._asyncapi: bytes | None = None
        self._tokens = token_endpoint(settings, self._parts.api_keys)
        metrics = self._parts.metrics
        if self._parts.verifier is not None:
            self._parts.verifier.measured(metrics)
        if self._parts.api_keys is not None:
            self._parts.api_keys.measured(metrics)
        metrics.gauge("service_requests_in_flight", "Calls that run now.", lambda: len(self.in_flight.calls))

    # --- building ---------------------------------------------------------------------------------------------------

    def _service(self, handler: Any) -> Service:
        if isinstance(handler, Mounted):
            return handler.service
        stub = _stub(handler)
        return self._contracts[stub.image].service(stub.name)

    def _serve(self, handler: Any, service: Service) -> None:
        if sum(each.name == service.name for each in self.services) > 1:
            raise TypeError(f"two handlers implement {service.name}")
        if isinstance(handler, Mounted):
            for operation in service.operations:
                self._add(operation, handler.handlers[operation.path])
            return
        stub = _stub(handler)
        for python_name, rpc in stub.rpcs.items():
            operation = stub.operation(rpc, self._contracts[stub.image])
            self._add(operation, bind(operation, handler, python_name))

    def _serve_builtin(self) -> None:
        index = self._index()
        for file, handler in (
            (health_pb.desc(), HealthService(self.health)),
            (reflection_pb.desc(), ReflectionService(index)),
            (reflection_alpha_pb.desc(), ReflectionService(index, reflection_alpha_pb)),
        ):
            for operation in operations_of(file):
                self._add(operation, bind(operation, handler, operation.python_name))

    def _add(self, operation: Operation, handler: Handler) -> None:
        chain = compose(self._layers, operation, handler)
        self._endpoints[operation.path] = Endpoint(operation, chain, self._refusals.of(operation))

    def _make_messaging(
        self, handlers: Sequence[Any], broker: "str | Broker", consuming: Iterable[Placed]
    ) -> Messaging:
        events = [event for contract in self._contracts.values() for event in contract.events]
        subscribed = [
            subscriptions(service, events, handler)
            for handler, service in zip(handlers, self.services, strict=True)
            if not isinstance(handler, Mounted)
        ]
        own = [
            service
            for handler, service in zip(handlers, self.services, strict=True)
            if not isinstance(handler, Mounted)
        ]
        return Messaging(own, events, subscribed, self._parts, broker=broker, layers=consuming)

    def _checks(self, given: Mapping[str, Check]) -> dict[str, Check]:
        checks: dict[str, Check] = {}
        if self._parts.database is not None:
            checks["database"] = self._parts.database.check
        if self._messaging.broker is not None:
            checks["broker"] = self._messaging.check
        return {**checks, **given}

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
        await self._front(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        metadata = Metadata.from_raw(scope["headers"])
        too_large = self._heads.exceeded(scope)
        if too_large is not None:
            refusal = refuse_rpc(too_large, metadata, send)
            await (refusal or self._rest.refuse(too_large, metadata, scope, receive, send))
            return
        rpc = self._rpc(metadata, scope, receive, send)
        if rpc is not None:
            await rpc
        elif self._pages.has(scope) and scope["method"] in ("GET", "HEAD"):
            await self._pages(scope, secured(send, page=True, tls=scope.get("scheme") == "https"))
        elif self._tokens is not None and scope["path"] == TOKENS:
            await self._tokens.serve(scope, receive, send)
        else:
            await self._rest(scope, receive, secured(send, page=False, tls=scope.get("scheme") == "https"))

    async def operations(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the operations port: `/livez`, `/readyz` (`/health`), `/metrics`, `/admin`."""
        if scope["type"] == "http":
            await self._operations_port(scope, receive, send)

    async def _may_administer(self, authorization: bytes) -> bool:
        """Tell whether a token is that of somebody whose roles hold the permission."""
        verifier = self._parts.verifier
        if verifier is None or not authorization:
            return False
        try:
            principal = verifier.known(authorization) or await verifier.verify(authorization)
        except (CredentialRefused, Error):
            return False
        return not principal.roles.isdisjoint(self._parts.roles.granting(PERMISSION))

    def _described(self) -> dict[str, Any]:
        return {"contracts": [describe(each) for each in self._contracts.values()]}

    def _overview(self) -> dict[str, Any]:
        names = [each.name for each in self.services]
        environment = self.settings.environment
        return {"services": names, "environment": environment, "calls_in_flight": len(self.in_flight.calls)}

    def openapi(self) -> bytes:
        """Return the OpenAPI 3.1 document of all services."""
        if self._openapi is None:
            taken = Credentials(
                api_keys=self._parts.api_keys is not None,
                token_url=TOKENS if self._tokens is not None else "",
                certificates=self.settings.tls_client_authorities is not None,
            )
            images = [each.image for each in self._contracts.values()]
            title = self.settings.service_name if len(self.services) > 1 else ""
            self._openapi = openapi_json(self.services, images=images, title=title, credentials=taken)
        return self._openapi

    def asyncapi(self) -> bytes:
        """Return the AsyncAPI 3.0 document of the events that the services send and receive."""
        if self._asyncapi is None:
            self._asyncapi = asyncapi_json(self._contracts.values(), services=self.services)
        return self._asyncapi

    def in_process(self) -> InProcess:
        """Return the transport to this app without sockets; a client given an App as target takes it."""
        return InProcess(self._endpoints.get, self.in_flight, self.limits)

    async def publish(self, event: Message[Any]) -> str:
        """Send `event` to the broker now, and return its id; for services without a database, and what needs none.

        `tx.publish` sends an event if and only if its transaction commits; this one goes out whatever follows.
        InvalidEvent for what the contract does not let the app's services publish, BrokerUnavailable, and RuntimeError
        where the app publishes nothing or is not started.
        """
        return await self._messaging.publish(event)

    # --- lifecycle --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open what calls need, run the start hooks, then be ready. What was started is stopped again if one fails.

        RuntimeError for an app that is started already; one that was stopped may be started again.
        """
        if self._started:
            raise RuntimeError(
                f"the app of {self.services[0].name} is started already; one `async with app` or one server runs it, "
                "and a second one needs an app of its own"
            )
        self._started = True
        self.in_flight.closed = False
        try:
            for hook in self._starting():
                await hook()
        except BaseException:
            await self.stop()
            raise
        self.health.serving = True

    def _starting(self) -> list[Hook]:
        parts = self._parts
        logging.getLogger().addHandler(self.admin.errors)
        own: list[Hook] = [parts.tracing.start, parts.metrics.start]
        if parts.verifier is not None and not all(each.unauthenticated for each in self._operations()):
            own.append(parts.verifier.start)  # it tells where there are no keys, which concerns nobody else
        if parts.database is not None:
            own.append(parts.database.start)
        if parts.purge is not None:
            own.append(parts.purge.start)
        if parts.api_keys is not None:
            own.append(parts.api_keys.start)
        return [*own, *self._on_start, self._messaging.start]

    def _operations(self) -> list[Operation]:
        return [operation for service in self.services for operation in service.operations]

    def _stopping(self) -> list[Hook]:
        parts = self._parts
        own: list[Hook] = [parts.limiter.close, parts.metrics.stop, parts.tracing.stop]
        if parts.verifier is not None:
            own.insert(0, parts.verifier.close)
        if parts.api_keys is not None:
            own.insert(0, parts.api_keys.close)
        if parts.database is not None:
            own.insert(0, parts.database.stop)
        if parts.purge is not None:
            own.insert(0, parts.purge.stop)
        return [self._messaging.stop, *reversed(self._on_stop), *own]

    async def drain(self, limit: float) -> None:
        """Stop being ready, let calls and events in flight end within `limit` seconds, then cancel what is left.

        New calls in process are refused as UNAVAILABLE from here on; those from outside are the server's to refuse.
        """
        self.health.drain()
        self.in_flight.closed = True
        await asyncio.gather(_within(limit, self.in_flight.idle()), self._messaging.drain(limit))
        self.in_flight.cancel(Cancellation.DRAIN)
        await _within(1.0, self.in_flight.idle())

    async def stop(self) -> None:
        """Close what `start` opened, each even if one before it failed; the first failure is raised at the end."""
        self.health.serving = False
        self._started = False
        self.in_flight.closed = True
        failed: BaseException | None = None
        for hook in self._stopping():
            try:
                await hook()
            except Exception as error:
                failed = failed or error
        logging.getLogger().removeHandler(self.admin.errors)
        if self._parts.access_log is not None:
            self._parts.access_log.flush()
        if failed is not None:
            raise failed

    async def __aenter__(self) -> "App":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain(self.settings.drain_limit.total_seconds())
        await self.stop()

    @property
    def database(self) -> "Database | None":
        """The database it was given."""
        return self._parts.database

    @property
    def metrics(self) -> Metrics:
        """Its metrics; a user's own of prometheus_client join with `registry=app.metrics.registry`."""
        return self._parts.metrics

    @property
    def broker(self) -> "Broker | None":
        """Where its events go; None where it has none."""
        return self._messaging.broker

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


def _contracts(handlers: Iterable[Any], settings: "Settings") -> dict[object, Contract]:
    """Read each image once and apply the settings to all of them together; mounted contracts are in force already."""
    images: list[Image] = []
    mounted: dict[object, Contract] = {}
    for handler in handlers:
        if isinstance(handler, Mounted):
            mounted[handler.contract] = handler.contract
        elif (image := _stub(handler).image) not in images:
            images.append(image)
    contracts = effective_together([image.contract for image in images], settings.operations) if images else []
    return {**mounted, **dict(zip(images, contracts, strict=True))}


async def _within(limit: float, waiting: Coroutine[Any, Any, None]) -> None:
    try:
        await asyncio.wait_for(waiting, limit)
    except TimeoutError:
        return
