"""The stacks: which layers a call passes, outermost first, each position with its reason."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protovalidate import Validator

from interlock.call import Direction, Layer, Principal
from interlock.contract.model import Operation
from interlock.data.unit import unit_of_work
from interlock.events.attempts import Redelivery, attempts
from interlock.events.dead_letters import dead_letter
from interlock.events.inbox import inbox
from interlock.observability.deprecation import deprecation
from interlock.observability.logging import AccessLog, log
from interlock.observability.measure import Meter, metrics, metrics_of_caller
from interlock.observability.metrics import Metrics
from interlock.observability.tracing import Tracing, attempt, trace
from interlock.protocols.decode import decode, validate
from interlock.protocols.rest_condition import if_match
from interlock.resilience.deadline import Wheel, deadline
from interlock.resilience.idempotency import idempotency, idempotency_key
from interlock.resilience.neighbour import Neighbour
from interlock.resilience.rate_limit import Limiter, rate_limit
from interlock.resilience.sent_deadline import sent_deadline
from interlock.resilience.shedding import Shedder, load, shed
from interlock.security.access import Roles, access
from interlock.security.authenticate import authenticate
from interlock.security.credentials import Credentials, credentials

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.idempotency import StoredAnswers
    from interlock.data.purge import Purge
    from interlock.events.broker import Broker
    from interlock.security.api_keys import ApiKeys
    from interlock.security.mutual_tls import CertificateIdentities
    from interlock.security.verifier import Verifier


@dataclass(frozen=True, slots=True)
class Named:
    """A layer under the name by which others are placed around it."""

    name: str
    layer: Layer


@dataclass(frozen=True, slots=True)
class Placed:
    """A user's layer and where it goes: right after, or right before, the layer called `anchor`."""

    anchor: str
    layer: Layer
    behind: bool


def after(anchor: str, layer: Layer) -> Placed:
    """Place `layer` right behind the layer called `anchor`, nearer to the handler."""
    return Placed(anchor, layer, behind=True)


def before(anchor: str, layer: Layer) -> Placed:
    """Place `layer` right in front of the layer called `anchor`, nearer to the caller."""
    return Placed(anchor, layer, behind=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the layers of an app share; made once for it."""

    tracing: Tracing
    metrics: Metrics
    callers: frozenset[str]
    meters: Sequence[Meter]
    access_log: AccessLog | None
    wheel: Wheel
    shedder: Shedder | None
    validator: Validator
    verifier: "Verifier | None"
    certificates: "CertificateIdentities | None"
    api_keys: "ApiKeys | None"
    roles: Roles
    acting: Principal
    limiter: Limiter
    answers: "StoredAnswers | None"
    database: "Database | None"
    purge: "Purge | None"


def served(parts: Parts) -> list[Named]:
    """Return the stack of SERVED calls."""
    return [
        # ids first: log, metrics and spans of all that follows name them
        Named("trace", trace(parts.tracing)),
        # what is refused further in is counted and told of too
        Named("metrics", metrics(parts.metrics.served)),
        *(Named("metrics", metrics(meter)) for meter in parts.meters),
        Named("log", log(parts.access_log) if parts.access_log is not None else _nothing),
        # first of what may refuse: an overloaded service pays nothing for a call; told of by what stands before
        Named("shed", shed(parts.shedder)),
        # from here on time runs; before the body is read, so that a slow sender is cut off too
        Named("deadline", deadline(parts.wheel)),
        # who asks decides what follows; on the head alone, before a byte of the body is read
        Named("authenticate", authenticate(parts.verifier, parts.certificates, parts.api_keys)),
        # knows who calls; callers who are refused further in are told too
        Named("deprecation", deprecation(parts.metrics, parts.callers)),
        # per principal, so behind authenticate; before anything is paid for the call
        Named("limit", rate_limit(parts.limiter)),
        # behind the limit, so that a refused caller is limited too
        Named("access", access(parts.roles)),
        # the body is read only now, behind all that decides on the head alone
        Named("decode", decode),
        # a call is load once it is whole: who holds back a body keeps nobody out
        Named("load", load(parts.shedder)),
        # the handler sees nothing that breaks its contract
        Named("validate", validate(parts.validator)),
        # knows the request by now; outside the unit of work, which commits its answer
        Named("idempotency", idempotency(parts.answers)),
        # each entity tag is tried in a unit of work of its own
        Named("if_match", if_match(validate(parts.validator))),
        # around the handler alone, which it may run again
        Named("unit_of_work", unit_of_work()),
    ]


def consumed(parts: Parts, broker: "Broker", policy: Redelivery) -> list[Named]:
    """Return the stack of CONSUMED calls."""
    database = parts.database
    return [
        Named("trace", trace(parts.tracing)),
        Named("metrics", metrics(parts.metrics.consumed)),
        Named("log", log(parts.access_log) if parts.access_log is not None else _nothing),
        Named("deadline", deadline(parts.wheel)),
        # counted before the handler runs, so that an event which kills the process is counted too
        Named("attempts", attempts(policy, database)),
        # behind the count, which tells when it is enough
        Named("dead_letter", dead_letter(broker)),
        # a consumer acts as its own service, whoever the event says caused it
        Named("access", access(parts.roles, service_principal=parts.acting)),
        Named("decode", decode),
        Named("validate", validate(parts.validator)),
        # the event is noted in the same transaction as its effect
        Named("inbox", inbox(database) if database is not None else _nothing),
        Named("unit_of_work", unit_of_work(Direction.CONSUMED)),
    ]


def published(parts: Parts) -> list[Layer]:
    """Return the layers of PUBLISHED calls: what is wrong with an event is its publisher's to know."""
    return [trace(parts.tracing), metrics(parts.metrics.published), decode, validate(parts.validator)]


def sent(*, wheel: Wheel, to: Neighbour, shown: Credentials) -> list[Named]:
    """Return the stack of SENT calls; what stands behind `retry` runs once an attempt."""
    return [
        Named("trace", trace()),
        Named("metrics", metrics_of_caller(to.target, to.states, to.places)),
        # bounds everything inside: all attempts, the waits between them, the fetching of tokens
        Named("deadline", sent_deadline(wheel)),
        # outside retry, so that all attempts carry one key
        Named("idempotency_key", idempotency_key()),
        Named("retry", to.retry),
        *_attempt(to, shown),
    ]


def sent_over_http(*, wheel: Wheel, to: Neighbour, shown: Credentials) -> list[Named]:
    """Return the stack of calls to a service without a contract; its requests say themselves what may be repeated."""
    return [
        Named("trace", trace()),
        Named("metrics", metrics_of_caller(to.target, to.states, to.places, external=True)),
        Named("deadline", sent_deadline(wheel)),
        Named("retry", to.retry),
        *_attempt(to, shown),
    ]


def _attempt(to: Neighbour, shown: Credentials) -> list[Named]:
    return [
        # each attempt is a span of its own
        Named("span", attempt(target=to.target)),
        # outside the breaker, whose probes must not wait for their turn
        Named("throttle", to.throttle),
        # inside retry: it judges attempts
        Named("breaker", to.breaker),
        # behind the breaker, so that nobody queues for a circuit that is open
        Named("concurrency", to.concurrency),
        # innermost: each attempt shows a credential that is fresh then; a refused one is renewed once here
        Named("credentials", credentials(shown)),
    ]


def _nothing(_operation: Operation) -> None:
    """Hold the place of a layer that an app does without, so that others can be placed around it all the same."""


def insert(stack: Sequence[Named], placed: Iterable[Placed]) -> list[Layer]:
    """Return the layers of `stack` with the user's in their places; ValueError names the anchors there are."""
    result = list(stack)
    for each in placed:
        names = [named.name for named in result]
        if not each.anchor or each.anchor not in names:
            known = ", ".join(dict.fromkeys(filter(None, names)))
            raise ValueError(f"no layer is called {each.anchor!r}; there are: {known or 'none'}")
        at = len(names) - names[::-1].index(each.anchor) if each.behind else names.index(each.anchor)
        # layers placed behind one anchor keep their order
        while each.behind and at < len(result) and not result[at].name:
            at += 1
        result.insert(at, Named("", each.layer))
    return [named.layer for named in result]
