"""An image becomes a Contract: read, checked by the rules, then built with its effective defaults."""

from datetime import date, timedelta

from protobuf.wkt import Duration

from interlock.contract import model
from interlock.contract.declared import NO_SIDE_EFFECTS, Declared, DeclaredEvent, DeclaredRpc, DeclaredService, read
from interlock.contract.gen.interlock.v1 import options_pb as options
from interlock.contract.http import binding, verb_and_path
from interlock.contract.mistakes import ContractError
from interlock.contract.names import snake_case
from interlock.contract.policies import Said, declared_policy
from interlock.contract.rules import find_mistakes


def load(image: bytes) -> model.Contract:
    """Read the contract from an image (a FileDescriptorSet); ContractError lists all its mistakes.

    An image without source info has no comments, and its mistakes have no lines.
    """
    declared = read(image)
    if mistakes := sorted(find_mistakes(declared), key=lambda each: (each.source.file, each.source.line)):
        raise ContractError(mistakes)
    return build(declared, image)


def build(declared: Declared, image: bytes) -> model.Contract:
    """Build the contract of what is declared and free of mistakes."""
    return model.Contract(
        services=tuple(map(_service, declared.services)),
        events=tuple(map(_event, declared.events)),
        registry=declared.registry,
        image=image,
    )


def _service(declared: DeclaredService) -> model.Service:
    facts = declared.options
    tier = facts.tier or options.Tier.STANDARD
    objectives = _objectives(facts.objectives, model.Objectives())
    policy = declared_policy(facts.policy)
    return model.Service(
        name=declared.service.type_name,
        operations=tuple(_operation(each, tier, objectives, policy) for each in declared.rpcs),
        owner=facts.owner,
        tier=tier,
        publishes=tuple(facts.publishes),
        subscribes=tuple(facts.subscribes),
        calls=tuple(facts.calls),
        objectives=objectives,
        comment=declared.place.comment,
        source=declared.place.source,
    )


def _operation(
    declared: DeclaredRpc, tier: options.Tier, objectives: model.Objectives, policy: Said
) -> model.Operation:
    method, rules = declared.method, declared.options
    access = rules.access
    return model.Operation(
        service=method.parent.type_name,
        name=method.name,
        python_name=snake_case(method.name),
        kind=model.Kind(method.method_kind),
        request_type=method.input.type,
        reply_type=method.output.type,
        permission=str(access.value) if access is not None and access.field == "permission" else "",
        unauthenticated=access is not None and access.field == "unauthenticated" and bool(access.value),
        exposure=rules.exposure,
        timeout=_duration(rules.timeout) or (model.DEFAULT_TIMEOUT if method.method_kind == "unary" else None),
        idempotency=_idempotency(declared),
        rate_limit=_rate_limit(rules.rate_limit),
        tier=rules.tier or tier,
        errors=tuple(rules.errors),
        examples=tuple(model.Example(name=e.name, request=e.request, reply=e.reply) for e in rules.examples),
        deprecation=_deprecation(rules.deprecation),
        objectives=_objectives(rules.objectives, objectives),
        http=tuple(binding(rule) for rule, _ in declared.http),
        policies=(policy, declared_policy(rules.policy)),
        comment=declared.place.comment,
        source=declared.place.source,
    )


def _event(declared: DeclaredEvent) -> model.Event:
    return model.Event(
        type=declared.options.type,
        message_type=declared.message.type,
        key=declared.options.key,
        deprecation=_deprecation(declared.options.deprecation),
        comment=declared.place.comment,
        source=declared.place.source,
    )


def _idempotency(declared: DeclaredRpc) -> options.Idempotency:
    if declared.options.has_field("idempotency"):
        return declared.options.idempotency
    reads = any(verb_and_path(rule)[0] == "GET" for rule, _ in declared.http)
    safe = reads or declared.method.idempotency == NO_SIDE_EFFECTS
    return options.Idempotency.SAFE if safe else options.Idempotency.NONE


def _objectives(given: options.Objectives | None, default: model.Objectives) -> model.Objectives:
    if given is None:
        return default
    return model.Objectives(
        latency_p95=_duration(given.latency_p95) or default.latency_p95,
        success_ratio=given.success_ratio or default.success_ratio,
        requests_per_second=given.requests_per_second or default.requests_per_second,
    )


def _rate_limit(given: options.RateLimit | None) -> model.RateLimit | None:
    if given is None:
        return None
    return model.RateLimit(requests=given.requests, per=_duration(given.per) or timedelta())


def _deprecation(given: options.Deprecation | None) -> model.Deprecation | None:
    if given is None:
        return None
    return model.Deprecation(since=_date(given.since), sunset=_date(given.sunset), successor=given.successor)


def _date(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def _duration(given: Duration | None) -> timedelta | None:
    return given.to_timedelta() if given is not None else None
