"""A third party as the settings describe it, and its verbs as operations of the chassis."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from protobuf.wkt import Empty

from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import DEFAULT_TIMEOUT, Kind, Operation
from interlock.security.credentials import Credentials

SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""Idempotent verbs (RFC 9110 §9.2.2): repeating them changes nothing more."""
VERBS = SAFE | {"POST", "PATCH"}
OTHER = "OTHER"
"""What every verb is called that is none of these, so that metrics have few series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """A third party: its name in metrics, traces and policies, its URL, the time for a call, what opens it.

    `policies` are what the settings say of its calls.
    """

    name: str
    url: str
    timeout: timedelta = DEFAULT_TIMEOUT
    credentials: Credentials | None = field(default=None, repr=False)
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def operations(name: str) -> list[Operation]:
    """Return every operation of the third party."""
    return [operation(name, verb, Kind.UNARY) for verb in sorted({*VERBS, OTHER})]


@cache
def operation(name: str, verb: str, kind: Kind) -> Operation:
    """Return the operation that a verb of the third party is: `/payments-provider/POST`.

    Other verbs than the idempotent ones are repeated only with an idempotency key.
    """
    return Operation(
        service=name,
        name=verb,
        python_name=verb.lower(),
        kind=kind,
        request_type=Empty,
        reply_type=Empty,
        idempotency=Idempotency.SAFE if verb in SAFE else Idempotency.KEYED,
        timeout=DEFAULT_TIMEOUT,
    )
