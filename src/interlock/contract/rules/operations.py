"""Rules of one RPC: who may call it, how long it may take, what repeating it does, what it promises."""

import re
from collections.abc import Iterator
from datetime import timedelta

from interlock.contract.declared import NO_SIDE_EFFECTS, DeclaredRpc
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.http import verb_and_path
from interlock.contract.mistakes import Mistake
from interlock.contract.model import LONGEST_TIMEOUT
from interlock.contract.rules.deprecation import deprecation_mistakes
from interlock.contract.rules.examples import example_mistakes
from interlock.contract.rules.objectives import objectives_mistakes

PERMISSION = re.compile(r"[a-z][a-z0-9_-]*:[a-z][a-z0-9_-]*\Z")
REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*\Z")


def operation_mistakes(rpc: DeclaredRpc) -> Iterator[Mistake]:
    """Yield what is wrong with the options of `rpc`."""
    yield from _access(rpc)
    yield from _limits(rpc)
    yield from _idempotency(rpc)
    for index, reason in enumerate(rpc.options.errors):
        if not REASON.match(reason):
            message = f"{rpc}: {reason!r} is no error reason"
            yield Mistake(rpc.where("errors", index), message, "write it in UPPER_SNAKE_CASE (`OUT_OF_STOCK`)")
    yield from example_mistakes(rpc)
    yield from deprecation_mistakes(str(rpc), rpc.options.deprecation, rpc.where)
    yield from objectives_mistakes(str(rpc), rpc.options.objectives, rpc.where)


def _access(rpc: DeclaredRpc) -> Iterator[Mistake]:
    access = rpc.options.access
    if access is None or access.value in ("", False):
        message = f"{rpc} says neither `permission` nor `unauthenticated: true`, so nobody may call it"
        yield Mistake(rpc.place.source, message, 'name the permission it needs (`permission: "orders:read"`)')
    elif isinstance(access.value, str) and not PERMISSION.match(access.value):
        message = f"{rpc}: {access.value!r} is no permission"
        yield Mistake(rpc.where("permission"), message, "write `resource:action` in lower case (`orders:create`)")


def _limits(rpc: DeclaredRpc) -> Iterator[Mistake]:
    timeout, limit = rpc.options.timeout, rpc.options.rate_limit
    if timeout is not None and not timedelta() < timeout.to_timedelta() <= LONGEST_TIMEOUT:
        message = f"{rpc}: a timeout of {timeout.to_timedelta().total_seconds():g} s cannot be"
        yield Mistake(rpc.where("timeout"), message, "give a time above 0 and at most 1 hour")
    if limit is None:
        return
    if not limit.requests:
        message = f"{rpc}: a rate limit of 0 requests lets nobody through"
        yield Mistake(rpc.where("rate_limit"), message, "say how many, or leave the limit out")
    if limit.per is None or limit.per.to_timedelta() <= timedelta():
        message = f"{rpc}: its rate limit says no time above 0"
        yield Mistake(rpc.where("rate_limit"), message, "say in how long: `per: { seconds: 60 }`")


def _idempotency(rpc: DeclaredRpc) -> Iterator[Mistake]:
    if not rpc.options.has_field("idempotency") or rpc.options.idempotency != Idempotency.KEYED:
        return
    source = rpc.where("idempotency")
    if rpc.method.method_kind != "unary":
        yield Mistake(source, f"{rpc} is KEYED, but a stream's answer is not stored", "drop it, or make the RPC unary")
    if any(verb_and_path(rule)[0] == "GET" for rule, _ in rpc.http):
        yield Mistake(source, f"{rpc} is KEYED, but it is a GET, which needs no key", "say SAFE, or bind it to POST")
    if rpc.method.idempotency == NO_SIDE_EFFECTS:
        yield Mistake(source, f"{rpc} is KEYED, but also NO_SIDE_EFFECTS", "keep the one that is true")
