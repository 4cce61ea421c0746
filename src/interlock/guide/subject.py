"""What a guide is about: the EXTERNAL side of an effective contract, the facts, and the operations worth an example."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from interlock.contract.gen.interlock.v1.options_pb import Exposure
from interlock.contract.model import Contract, HttpBinding, Operation, Service
from interlock.contract.names import snake_case
from interlock.contract.openapi import openapi
from interlock.contract.project import Project
from interlock.contract.rest_shape import creates, page_field
from interlock.guide.facts import Facts
from interlock.guide.sample import sample


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """One REST route that callers from outside may use; `described` is its operation in the OpenAPI document."""

    service: Service
    operation: Operation
    binding: HttpBinding
    described: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """The operations that the examples use, all of one service; None where it has none of that kind."""

    service: Service
    retrieve: Route | None
    create: Route | None
    paginate: Route | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """All that the sections of a guide are written from."""

    contract: Contract
    facts: Facts
    package: str
    routes: tuple[Route, ...]
    rpc_only: tuple[Operation, ...]
    chosen: Chosen | None
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of what is integrated."""
        return self.facts.text("document.name")

    @property
    def services(self) -> tuple[Service, ...]:
        """The services of the contract."""
        return self.contract.services

    @property
    def prefix(self) -> str:
        """What the callers' environment variables start with (`SHOP`)."""
        return variable_prefix(self.facts)

    def variable(self, name: str) -> str:
        """Return the name of one of the callers' environment variables (`SHOP_ENDPOINT`)."""
        return f"{self.prefix}_{name}"


def variable_prefix(facts: Facts) -> str:
    """Return what the callers' environment variables start with."""
    given = facts.text("variables.prefix") or facts.given.get("document.name", "SERVICE")
    return re.sub(r"[^A-Z0-9]+", "_", given.upper()).strip("_") or "SERVICE"


def subject(contract: Contract, facts: Facts, package: str) -> Subject:
    """Gather what a guide says; `contract` is the effective one, `package` where its Python is generated."""
    external = [
        replace(each, operations=tuple(one for one in each.operations if one.exposure is Exposure.EXTERNAL))
        for each in contract.services
    ]
    document = openapi([each for each in external if each.operations], images=[contract.image])
    described = {
        operation["operationId"]: operation for item in document["paths"].values() for operation in item.values()
    }
    routes = tuple(_routes(external, described))
    return Subject(
        contract=contract,
        facts=facts,
        package=package,
        routes=routes,
        rpc_only=tuple(one for each in external for one in each.operations if not one.http or one.kind.client_streams),
        chosen=_choose(routes),
        document=document,
    )


def python_package(project: Project) -> str:
    """Return the dotted name of the package that is generated for a project (`shop.gen`)."""
    parts = project.output.relative_to(project.root).parts
    return ".".join(parts[1:] if parts[:1] == ("src",) else parts)


def request_of(route: Route) -> Mapping[str, Any]:
    """Return a request as JSON: the contract's first example, else one made of its fields."""
    examples = route.operation.examples
    if examples and examples[0].request:
        found: Mapping[str, Any] = json.loads(examples[0].request)
        return found
    made: Mapping[str, Any] = sample(route.operation.request_type.desc(), request=True)
    return made


def id_variable(chosen: Chosen) -> str:
    """Return the environment variable that names a resource in the examples (`ORDER_ID`); empty without one."""
    return "" if chosen.retrieve is None else id_field(chosen.retrieve).upper()


def id_field(retrieve: Route) -> str:
    """Return the path variable that names the resource (`order_id`)."""
    return retrieve.binding.template.variables[0].field


def id_in_reply(chosen: Chosen) -> str:
    """Return the field of a created resource that names it; empty where it does not show."""
    if chosen.create is None or chosen.retrieve is None or not _same_resource(chosen.create, chosen.retrieve):
        return ""
    fields = {each.name for each in chosen.create.operation.reply_type.desc().fields}
    return next((each for each in (id_field(chosen.retrieve), "id") if each in fields), "")


def python_name(route: Route) -> str:
    """Return the variable that holds a reply in the examples (`order`)."""
    return snake_case(route.operation.reply_type.desc().name)


def _routes(services: Iterable[Service], described: Mapping[str, Any]) -> Iterable[Route]:
    for service in services:
        for operation in service.operations:
            for index, binding in enumerate(operation.http):
                name = f"{service.short_name}_{operation.name}" + (f"_{index + 1}" if index else "")
                if name in described:
                    yield Route(service=service, operation=operation, binding=binding, described=described[name])


def _choose(routes: Iterable[Route]) -> Chosen | None:
    by_service: dict[str, list[Route]] = {}
    for each in routes:
        by_service.setdefault(each.service.name, []).append(each)
    found = [_of_service(each) for each in by_service.values()]
    # max keeps the first of equals, so the order of the contract decides between services that offer as much
    return max(found, key=lambda each: sum(map(bool, (each.retrieve, each.create, each.paginate))), default=None)


def _of_service(routes: list[Route]) -> Chosen:
    retrievals = [each for each in routes if _retrieves(each)]
    creations = [each for each in routes if creates(each.operation, each.binding) and not _bound(each)]
    pairs = ((one, other) for other in creations for one in retrievals if _same_resource(one, other))
    retrieve, create = next(pairs, (next(iter(retrievals), None), next(iter(creations), None)))
    lists = [each for each in routes if each.binding.verb == "GET" and not _bound(each) and _lists(each)]
    return Chosen(service=routes[0].service, retrieve=retrieve, create=create, paginate=next(iter(lists), None))


def _retrieves(route: Route) -> bool:
    variables = _bound(route)
    plain = route.binding.verb == "GET" and not route.operation.kind.server_streams and not _lists(route)
    return plain and len(variables) == 1 and "." not in variables[0]


def _bound(route: Route) -> list[str]:
    return [each.field for each in route.binding.template.variables]


def _lists(route: Route) -> bool:
    return page_field(route.operation.reply_type.desc()) is not None


def _same_resource(one: Route, other: Route) -> bool:
    return one.operation.reply_type.desc().type_name == other.operation.reply_type.desc().type_name
