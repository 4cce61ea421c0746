"""An `App` makes one ASGI application of handlers: it joins the parts, and has their life."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from protobuf import Message

from interlock.app.documents import Documents
from interlock.app.front import Front
from interlock.app.lifecycle import Hook, closing, lifespan, opening, within
from interlock.app.services import Services
from interlock.assembly import assemble, token_endpoint
from interlock.call import Cancellation
from interlock.contract.model import Service
from interlock.defaults import Placed, insert, served
from interlock.errors import Error
from interlock.messaging import Messaging
from interlock.observability.admin import PERMISSION, Admin
from interlock.observability.health import Check, Health
from interlock.observability.logging import AccessLog
from interlock.observability.measure import Meter
from interlock.observability.metrics import Metrics
from interlock.observability.refusals import Refusals
from interlock.observability.snapshots import siblings
from interlock.observability.tracing import Tracing
from interlock.operations import Operations
from interlock.pages import Pages
from interlock.protocols.cors import Cors
from interlock.protocols.heads import HeadLimit
from interlock.protocols.in_process import InProcess
from interlock.protocols.rest_server import RestServer
from interlock.protocols.rpc_server import RpcServer
from interlock.protocols.serving import InFlight, Limits, Receive, Scope, Send
from interlock.security.access import Roles
from interlock.security.jwks import JwksPage
from interlock.security.refused import CredentialRefused

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.events.broker import Broker
    from interlock.security.verifier import Verifier
    from interlock.settings import Settings


class App:
    """Handlers of one or more services as one plain ASGI application (gRPC, gRPC-Web, Connect, REST, health, …).

    Each handler is an object of a generated abstract class, or `Mounted`. `database` is started and stopped with the
    app and holds outbox, inbox and stored answers. `roles`, `verifier` and `tracing` replace what the settings name,
    `broker` (a URL, or an object that its owner starts) the settings' broker. `layers` go by name (`after`, `before`)
    into the stack of SERVED calls, `consuming` into that of CONSUMED ones; `meters` see every served outcome; `checks`
    are what readiness depends on; `on_start` and `on_stop` run in order, and in reverse, around serving. Raises
    ContractError for mistakes of the contract, TypeError for a handler that does not fit it, RolesError for a wrong
    roles file. Belongs to one event loop; opens nothing before `start`.
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
        self._services = Services(handlers, settings)
        name = settings.service_name or self.services[0].name
        self._parts = parts = assemble(
            name,
            settings,
            database=database,
            roles=roles,
            verifier=verifier,
            tracing=tracing,
            meters=tuple(meters),
            access_log=access_log,
            version=settings.service_version or self._services.version,
        )
        self._on_start = tuple(on_start)
        self._on_stop = tuple(on_stop)
        self._started = False
        self.health = Health(self._services.names)
        refusals = Refusals(parts.metrics, parts.meters, parts.access_log)
        self._layers = insert(served(parts), layers)
        self._endpoints = self._services.endpoints(self._layers, refusals, self.health)
        self._messaging = Messaging(
            self._services.own,
            self._services.events,
            self._services.subscribed(),
            parts,
            broker=broker or settings.broker.reveal(),
            layers=consuming,
            batch=settings.event_batch,
        )
        self.health.checks.update(self._checks(checks or {}))
        tokens = token_endpoint(settings, parts.api_keys)
        self._documents = Documents(
            self._services, settings, api_keys=parts.api_keys is not None, tokens=tokens is not None
        )
        keys = JwksPage(settings.keys / "jwks.json")
        pages = Pages(self.health, self.openapi, self.asyncapi, keys, docs=settings.docs_in_force)
        front = Front(
            HeadLimit(settings.header_bytes, settings.header_fields),
            RpcServer(self._endpoints, self.in_flight, self.limits, refusals.unmatched),
            RestServer(self._endpoints.values(), self.in_flight, self.limits, refusals.unmatched),
            pages,
            tokens,
        )
        self._front = Cors(front.serve, settings.cors_origins) if settings.cors_origins else front.serve
        self.admin = Admin(self.health, parts.access_log, self._documents.described, self._overview, siblings(name))
        self._operations_port = Operations(pages, parts.metrics, self.admin, self._may_administer)
        if parts.verifier is not None:
            parts.verifier.measured(parts.metrics)
        if parts.api_keys is not None:
            parts.api_keys.measured(parts.metrics)
        parts.metrics.gauge("service_requests_in_flight", "Calls that run now.", lambda: len(self.in_flight.calls))

    def _checks(self, given: Mapping[str, Check]) -> dict[str, Check]:
        checks: dict[str, Check] = {}
        if self._parts.database is not None:
            checks["database"] = self._parts.database.check
        if self._messaging.broker is not None:
            checks["broker"] = self._messaging.check
        return {**checks, **given}

    # --- serving ----------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: http, or lifespan where the server has no runner of its own."""
        if scope["type"] == "http":
            await self._front(scope, receive, send)
        elif scope["type"] == "lifespan":
            await lifespan(self, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

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

    def _overview(self) -> dict[str, Any]:
        return {
            "services": self._services.names,
            "environment": self.settings.environment,
            "calls_in_flight": len(self.in_flight.calls),
        }

    def openapi(self) -> bytes:
        """Return the OpenAPI 3.1 document of all services."""
        return self._documents.openapi

    def asyncapi(self) -> bytes:
        """Return the AsyncAPI 3.0 document of the events that the services send and receive."""
        return self._documents.asyncapi

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
        verifies = not all(each.unauthenticated for each in self._services.operations)
        return [self.admin.start, *opening(self._parts, verifies=verifies), *self._on_start, self._messaging.start]

    def _stopping(self) -> list[Hook]:
        return [self._messaging.stop, *reversed(self._on_stop), *closing(self._parts)]

    async def drain(self, limit: float) -> None:
        """Stop being ready, let calls and events in flight end within `limit` seconds, then cancel what is left.

        New calls in process are refused as UNAVAILABLE from here on; those from outside are the server's to refuse.
        """
        self.health.drain()
        self.in_flight.closed = True
        await asyncio.gather(within(limit, self.in_flight.idle()), self._messaging.drain(limit))
        self.in_flight.cancel(Cancellation.DRAIN)
        await within(1.0, self.in_flight.idle())

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
        await self.admin.stop()
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
    def services(self) -> list[Service]:
        """The services it serves, in the order of its handlers."""
        return self._services.all

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
