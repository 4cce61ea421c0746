"""What an app serves: its handlers' services, their contracts in force, and an endpoint for each operation."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from protobuf import DescFile

from interlock.call import Handler, Layer, compose
from interlock.contract.builtin import operations_of
from interlock.contract.effective import effective_together
from interlock.contract.gen.grpc.health.v1 import health_pb
from interlock.contract.gen.grpc.reflection.v1 import reflection_pb
from interlock.contract.gen.grpc.reflection.v1alpha import reflection_pb as reflection_alpha_pb
from interlock.contract.model import Contract, Event, Operation, Service
from interlock.contract.stub import Image, ServiceStub
from interlock.events.subscriptions import subscriptions
from interlock.handlers import bind
from interlock.observability.health import Health, HealthService
from interlock.observability.refusals import Refusals
from interlock.protocols.reflection import Index, ReflectionService
from interlock.protocols.serving import Endpoint

if TYPE_CHECKING:
    from interlock.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mounted:
    """A service whose operations have ready handlers (RPC path -> Handler), such as those of a gateway."""

    service: Service
    contract: Contract
    handlers: Mapping[str, Handler]


class Services:
    """The services of an app, in the order of its handlers.

    Each image is read once and the settings applied to all of them together; mounted contracts are in force already.
    ContractError for mistakes of the contract, TypeError for what implements no service, or one that another does.
    """

    def __init__(self, handlers: Sequence[Any], settings: "Settings") -> None:
        self._handlers = handlers
        self._contracts = _in_force(handlers, settings)
        self.all = [self._service(handler) for handler in handlers]

    @property
    def contracts(self) -> Iterable[Contract]:
        """The contracts in force."""
        return self._contracts.values()

    @property
    def names(self) -> list[str]:
        """The full names of the services."""
        return [each.name for each in self.all]

    @property
    def version(self) -> str:
        """The version of the package that holds the handlers; empty where they are no part of an installed one."""
        for handler in self._handlers:
            package = type(handler).__module__.partition(".")[0]
            if package == "interlock":  # a gateway's, for one
                continue
            with suppress(PackageNotFoundError):
                return version(package)
        return ""

    @property
    def operations(self) -> list[Operation]:
        """The operations of the services."""
        return [operation for service in self.all for operation in service.operations]

    @property
    def events(self) -> list[Event]:
        """The events that the contracts declare."""
        return [event for contract in self.contracts for event in contract.events]

    @property
    def own(self) -> list[Service]:
        """The services that this process implements itself."""
        return [service for service, _ in self._own()]

    def subscribed(self) -> list[list[tuple[Operation, Handler]]]:
        """Return what each of our own services consumes, with its handlers."""
        return [subscriptions(service, self.events, handler) for service, handler in self._own()]

    def endpoints(self, layers: Sequence[Layer], refusals: Refusals, health: Health) -> dict[str, Endpoint]:
        """Return an endpoint for each RPC path, those of health and reflection too, each with its chain."""
        return {
            operation.path: Endpoint(operation, compose(layers, operation, handler), refusals.of(operation))
            for operation, handler in (*self._served(), *self._builtin(health))
        }

    def _service(self, handler: Any) -> Service:
        if isinstance(handler, Mounted):
            return handler.service
        stub = _stub(handler)
        return self._contracts[stub.image].service(stub.name)

    def _own(self) -> list[tuple[Service, Any]]:
        pairs = zip(self.all, self._handlers, strict=True)
        return [(service, handler) for service, handler in pairs if not isinstance(handler, Mounted)]

    def _served(self) -> Iterable[tuple[Operation, Handler]]:
        for handler, service in zip(self._handlers, self.all, strict=True):
            if self.names.count(service.name) > 1:
                raise TypeError(f"two handlers implement {service.name}")
            if isinstance(handler, Mounted):
                yield from ((operation, handler.handlers[operation.path]) for operation in service.operations)
                continue
            stub = _stub(handler)
            for python_name, rpc in stub.rpcs.items():
                operation = stub.operation(rpc, self._contracts[stub.image])
                yield operation, bind(operation, handler, python_name)

    def _builtin(self, health: Health) -> Iterable[tuple[Operation, Handler]]:
        index = self._index()
        for file, handler in (
            (health_pb.desc(), HealthService(health)),
            (reflection_pb.desc(), ReflectionService(index)),
            (reflection_alpha_pb.desc(), ReflectionService(index, reflection_alpha_pb)),
        ):
            for operation in operations_of(file):
                yield operation, bind(operation, handler, operation.python_name)

    def _index(self) -> Index:
        files = [file.proto for contract in self.contracts for file in contract.registry if isinstance(file, DescFile)]
        builtin = (health_pb.desc(), reflection_pb.desc(), reflection_alpha_pb.desc())
        names = [*self.names, *(service.type_name for file in builtin for service in file.services)]
        return Index([*files, *(file.proto for file in builtin)], names)


def _in_force(handlers: Iterable[Any], settings: "Settings") -> dict[object, Contract]:
    images: list[Image] = []
    mounted: dict[object, Contract] = {}
    for handler in handlers:
        if isinstance(handler, Mounted):
            mounted[handler.contract] = handler.contract
        elif (image := _stub(handler).image) not in images:
            images.append(image)
    contracts = effective_together([image.contract for image in images], settings.operations) if images else []
    return {**mounted, **dict(zip(images, contracts, strict=True))}


def _stub(handler: Any) -> ServiceStub:
    stub = getattr(handler, "service", None)
    if not isinstance(stub, ServiceStub):
        raise TypeError(f"{type(handler).__name__} implements no generated service: derive it from one")
    return stub
