"""The API reference: base URLs, headers, and each endpoint with request, response and status codes."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Operation
from interlock.contract.rest_shape import data_field, success_status
from interlock.guide.examples import body_of
from interlock.guide.markdown import block, bullets, joined, table
from interlock.guide.sample import sample
from interlock.guide.subject import Route, Subject

META = {"timestamp": "2026-01-31T12:00:00.000Z", "request_id": "0198e7c4-53f0-7c1e-9d52-3f6a1b2c4d5e"}
KEY = "Idempotency-Key: {unique for each intent}"


def base_url(subject: Subject) -> str:
    """List the base URLs."""
    facts = subject.facts
    names = ("production", "staging", "test")
    return block("", "\n".join(f"{each.capitalize()}: {facts.text(f'environments.{each}')}" for each in names))


def common_headers(subject: Subject) -> str:
    """List the headers of requests, then those of replies."""
    lines = ["Content-Type: application/json", "Authorization: Bearer {token}", "traceparent: {W3C trace context}"]
    keyed = any(each.operation.idempotency is Idempotency.KEYED for each in subject.routes)
    if keyed:
        lines.append(KEY)
    told = [
        "`X-Request-Id` comes with every reply; name it when you ask for help.",
        "`grpc-timeout` (`500m`, `2S`) sets a deadline below the operation's own.",
        "`RateLimit` and `RateLimit-Policy` tell what is left of a limit, `Retry-After` when to come back.",
    ]
    if keyed:
        told.append(
            "A request repeated with the same `Idempotency-Key` has one effect and gets the first answer again."
        )
    return joined(block("http", "\n".join(lines)), bullets(told))


def endpoints(subject: Subject) -> str:
    """List the endpoints; those with a route follow one by one."""
    rows = (
        (f"`{each.binding}`", f"`{each.operation.path}`", _first_line(each.operation), _access(each.operation))
        for each in subject.routes
    )
    rpc = (
        ("gRPC only", f"`{each.path}`", f"{_first_line(each)} ({each.kind.value.replace('_', ' ')})", _access(each))
        for each in subject.rpc_only
    )
    return table(("Endpoint", "gRPC", "Purpose", "Permission"), [*rows, *rpc])


def endpoint(subject: Subject, route: Route) -> str:
    """Describe one endpoint."""
    operation = route.operation
    return joined(
        f"**Purpose**: {operation.comment or operation.name}",
        _facts(operation),
        "**Request:**",
        block("http", _request(route)),
        _parameters(route),
        "**Response:**",
        _response(route),
        f"**Status Codes:**\n{bullets(_codes(subject, route))}",
    )


def _first_line(operation: Operation) -> str:
    return operation.comment.partition("\n")[0]


def _access(operation: Operation) -> str:
    return "anybody" if operation.unauthenticated else f"`{operation.permission}`"


def _facts(operation: Operation) -> str:
    facts = [f"Permission: {_access(operation)}"]
    if operation.timeout is not None:
        facts.append(f"timeout: {operation.timeout.total_seconds():g} s")
    if operation.idempotency is Idempotency.KEYED:
        facts.append("repeatable with an `Idempotency-Key`")
    if operation.errors:
        facts.append(f"reasons of its own errors: {', '.join(f'`{each}`' for each in operation.errors)}")
    if (gone := operation.deprecation) is not None:
        until = f", until {gone.sunset}" if gone.sunset else ""
        facts.append(f"deprecated{until}: use `{gone.successor}`")
    return f"{'; '.join(facts)}."


def _request(route: Route) -> str:
    lines = [str(route.binding)]
    if not route.operation.unauthenticated:
        lines.append("Authorization: Bearer {token}")
    if route.operation.idempotency is Idempotency.KEYED:
        lines.append(KEY)
    if route.binding.body:
        lines += ["Content-Type: application/json", "", _json(body_of(route))]
    return "\n".join(lines)


def _parameters(route: Route) -> str:
    rows = [
        (
            f"`{each['name']}`",
            each["in"],
            "yes" if each.get("required") else "no",
            each.get("description") or each["schema"].get("description", ""),
        )
        for each in route.described.get("parameters", ())
    ]
    return table(("Parameter", "In", "Required", "Meaning"), rows) if rows else ""


def _response(route: Route) -> str:
    operation, binding = route.operation, route.binding
    if success_status(operation, binding) == 204:
        return "Empty."
    reply = operation.reply_type.desc()
    value = _example(operation) or sample(reply)
    if operation.kind.server_streams:
        return joined(
            "A line of JSON for each message:", block("json", json.dumps({"data": value}, ensure_ascii=False))
        )
    version = {"version": route.service.version} if route.service.version else {}
    meta: dict[str, Any] = {**META, **version}
    field = data_field(operation, binding)
    if field is not None:
        if not binding.response_body:
            meta |= {name: each for name, each in value.items() if name != field.name}
        value = value.get(field.name)
    return block("json", _json({"data": value, "meta": meta}))


def _example(operation: Operation) -> Any:
    replies = (json.loads(each.reply) for each in operation.examples if each.reply)
    return next(replies, None)


def _codes(subject: Subject, route: Route) -> Iterator[str]:
    shared = subject.document["components"]["responses"]
    for status, response in route.described["responses"].items():
        described = _resolved(response, shared)["description"]
        yield f"`{status}`: {described}" if status != "default" else f"`500`, `503`, `504` and others: {described}"


def _resolved(response: Mapping[str, Any], shared: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = shared[response["$ref"].rpartition("/")[2]] if "$ref" in response else response
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


BODIES = {"Base URL": base_url, "Common Headers": common_headers, "Endpoints": endpoints}
