"""A contract as plain values, for JSON and tables."""

from datetime import timedelta
from typing import Any

from interlock.contract.model import Contract, Deprecation, Event, HttpBinding, Objectives, Operation, Service


def describe(contract: Contract) -> dict[str, Any]:
    """Return what the contract says as dictionaries, lists, texts and numbers; durations are in seconds."""
    return {
        "services": [_service(each) for each in contract.services],
        "events": [_event(each) for each in contract.events],
    }


def _service(service: Service) -> dict[str, Any]:
    return {
        "name": service.name,
        "owner": service.owner,
        "tier": service.tier.name,
        "publishes": list(service.publishes),
        "subscribes": list(service.subscribes),
        "calls": list(service.calls),
        "objectives": _objectives(service.objectives),
        "comment": service.comment,
        "source": str(service.source),
        "operations": [_operation(each) for each in service.operations],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    limit = operation.rate_limit
    return {
        "name": operation.name,
        "path": operation.path,
        "kind": operation.kind.value,
        "request": operation.request_type.desc().type_name,
        "reply": operation.reply_type.desc().type_name,
        "http": [_route(each) for each in operation.http],
        "permission": operation.permission,
        "unauthenticated": operation.unauthenticated,
        "exposure": operation.exposure.name,
        "timeout": _seconds(operation.timeout),
        "idempotency": operation.idempotency.name,
        "rate_limit": {"requests": limit.requests, "per": _seconds(limit.per)} if limit else None,
        "tier": operation.tier.name,
        "errors": list(operation.errors),
        "examples": [{"name": e.name, "request": e.request, "reply": e.reply} for e in operation.examples],
        "deprecation": _deprecation(operation.deprecation),
        "objectives": _objectives(operation.objectives),
        "comment": operation.comment,
        "source": str(operation.source),
    }


def _route(binding: HttpBinding) -> dict[str, str]:
    return {
        "verb": binding.verb,
        "path": str(binding.template),
        "body": binding.body,
        "response_body": binding.response_body,
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "type": event.type,
        "message": event.message_type.desc().type_name,
        "key": event.key,
        "deprecation": _deprecation(event.deprecation),
        "comment": event.comment,
        "source": str(event.source),
    }


def _deprecation(given: Deprecation | None) -> dict[str, str] | None:
    if given is None:
        return None
    dates = {"since": given.since, "sunset": given.sunset}
    return {**{name: day.isoformat() for name, day in dates.items() if day}, "successor": given.successor}


def _objectives(given: Objectives) -> dict[str, float | None]:
    return {
        "latency_p95": _seconds(given.latency_p95),
        "success_ratio": given.success_ratio,
        "requests_per_second": given.requests_per_second,
    }


def _seconds(duration: timedelta | None) -> float | None:
    return duration.total_seconds() if duration is not None else None
