"""The contract as frozen data: what the `.proto` files say, read once, used by everything else."""

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from interlock.contract.gen.interlock.v1.options_pb import Exposure, Idempotency, Tier
from interlock.contract.path_template import PathTemplate

if TYPE_CHECKING:
    from protobuf import Message, Registry

DEFAULT_TIMEOUT = timedelta(seconds=30)
"""Default and cap of a call whose contract says nothing."""

LONGEST_TIMEOUT = timedelta(hours=1)
"""The longest timeout that a contract or a setting may give."""


class Kind(Enum):
    """The four kinds of RPC."""

    UNARY = "unary"
    CLIENT_STREAM = "client_streaming"
    SERVER_STREAM = "server_streaming"
    BIDI_STREAM = "bidi_streaming"

    @property
    def client_streams(self) -> bool:
        """Whether the request is a stream."""
        return self in (Kind.CLIENT_STREAM, Kind.BIDI_STREAM)

    @property
    def server_streams(self) -> bool:
        """Whether the reply is a stream."""
        return self in (Kind.SERVER_STREAM, Kind.BIDI_STREAM)


@dataclass(frozen=True, slots=True)
class Source:
    """Where something stands in the `.proto` files; `line` counts from 1, 0 where it is not known."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpBinding:
    """One route of an operation (`google.api.http`).

    `body` is `*`, a field of the request, or empty for none; `response_body` a field of the reply, or empty for all.
    """

    verb: str
    template: PathTemplate
    body: str = ""
    response_body: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.template}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """At most `requests` in any window of `per`, for each caller."""

    requests: int
    per: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request worth showing, as JSON, with its reply."""

    name: str
    request: str
    reply: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deprecation:
    """Since when something is deprecated, when it stops working, and what to use instead."""

    since: date | None
    sunset: date | None
    successor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """What callers may rely on; None where nothing is promised."""

    latency_p95: timedelta | None = None
    success_ratio: float | None = None
    requests_per_second: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation:
    """One RPC of the effective contract, with all that the chassis needs to serve or call it.

    `timeout` is default and cap of the whole call; None for a stream whose contract says nothing, which may run on.
    `request_type` and `reply_type` are the generated classes where they are imported, else classes made from the image.
    """

    service: str
    name: str
    python_name: str
    kind: Kind
    request_type: "type[Message[Any]]"
    reply_type: "type[Message[Any]]"
    permission: str = ""
    unauthenticated: bool = False
    exposure: Exposure = Exposure.INTERNAL
    timeout: timedelta | None = DEFAULT_TIMEOUT
    idempotency: Idempotency = Idempotency.NONE
    rate_limit: RateLimit | None = None
    tier: Tier = Tier.STANDARD
    errors: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    deprecation: Deprecation | None = None
    objectives: Objectives = field(default_factory=Objectives)
    http: tuple[HttpBinding, ...] = ()
    policies: "tuple[Mapping[str, Any], ...]" = ()
    """How its callers behave, as the service says and then as the operation says; see `interlock.contract.policies`."""
    comment: str = ""
    source: Source = Source("")

    path: str = field(init=False)
    """The RPC path, `/package.Service/Method`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", f"/{self.service}/{self.name}")

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Event:
    """One event: its type (`order.created`), its message and the field that orders it."""

    type: str
    message_type: "builtins.type[Message[Any]]"
    key: str
    deprecation: Deprecation | None = None
    comment: str = ""
    source: Source = Source("")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Service:
    """One service: its operations and the facts about it."""

    name: str
    operations: tuple[Operation, ...]
    owner: str = ""
    tier: Tier = Tier.STANDARD
    publishes: tuple[str, ...] = ()
    subscribes: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    objectives: Objectives = field(default_factory=Objectives)
    comment: str = ""
    source: Source = Source("")

    @property
    def package(self) -> str:
        """The proto package (`api.order.v1`)."""
        return self.name.rpartition(".")[0]

    @property
    def short_name(self) -> str:
        """The name without its package (`OrderService`)."""
        return self.name.rpartition(".")[2]

    @property
    def version(self) -> str:
        """The API's version as REST replies name it: `1.0` for a package that ends in `v1`, else empty."""
        last = self.package.rpartition(".")[2]
        return f"{last[1:]}.0" if last[:1] == "v" and last[1:].isdigit() else ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contract:
    """All services and events of one image; after `with_settings` the effective contract, which is what runs."""

    services: tuple[Service, ...]
    events: tuple[Event, ...]
    registry: "Registry"
    image: bytes = field(repr=False)

    @cached_property
    def operations(self) -> Mapping[str, Operation]:
        """Every operation by its RPC path."""
        return {each.path: each for service in self.services for each in service.operations}

    def service(self, name: str) -> Service:
        """Return the service of that full name; KeyError names those there are."""
        for each in self.services:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.services) or "none"
        raise KeyError(f"no service {name!r} in the contract; it has: {known}")
