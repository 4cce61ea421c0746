"""Settings applied to a contract: the result, the effective contract, is what runs."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import Any

from interlock.contract.gen.interlock.v1.options_pb import Exposure, Tier
from interlock.contract.mistakes import ContractError, Mistake
from interlock.contract.model import LONGEST_TIMEOUT, Contract, Operation, RateLimit, Service, Source
from interlock.contract.names import nearest

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?\Z")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours"}
_RATE = re.compile(r"(\d+)/(.+)\Z")

Overrides = Mapping[str, Mapping[str, object]]
"""Whom it concerns -> key -> value.

Whom: an operation (`/pkg.Service/Method`, the slash may be left out), a service (`pkg.Service`), or a pattern of
operations (`pkg.Service/List*`, `pkg.*`).
"""


def effective(contract: Contract, overrides: Overrides) -> Contract:
    """Return `contract` with `overrides` applied: a service's first, then patterns', the longest last, then its own.

    Keys are `timeout` (seconds, or `5s`, `250ms`), `rate_limit` (`100/60s`), `exposure` and `tier`. ContractError
    names every unknown operation, service, key and value.
    """
    mistakes: list[Mistake] = []
    changes = {name.removeprefix("/"): _changes(name, given, mistakes) for name, given in overrides.items()}
    known = _names(contract)
    unknown = [name for name in changes if not _is_known(name, known)]
    told = "the contract has no such operation or service"
    mistakes += [_mistake(name, f"{told}{nearest(name, known)}") for name in unknown]
    if mistakes:
        raise ContractError(sorted(mistakes, key=str))
    services = tuple(_service(each, changes) for each in contract.services)
    return replace(contract, services=services)


def effective_together(contracts: Sequence[Contract], overrides: Overrides) -> list[Contract]:
    """Return several contracts with `overrides` applied, where each name must be known to one of them."""
    known = set().union(*map(_names, contracts))
    return [
        effective(
            each, {key: given for key, given in overrides.items() if _concerns(key.removeprefix("/"), each, known)}
        )
        for each in contracts
    ]


def _concerns(name: str, contract: Contract, known: set[str]) -> bool:
    return _is_known(name, _names(contract)) or not _is_known(name, known)


def _is_known(name: str, known: set[str]) -> bool:
    return name in known or (is_pattern(name) and any("/" in each and fnmatchcase(each, name) for each in known))


def is_pattern(name: str) -> bool:
    """Tell whether `name` stands for several operations: it has a `*`, `?` or `[…]`."""
    return any(each in name for each in "*?[")


def concerning(names: Iterable[str], operation: Operation) -> list[str]:
    """Return those of `names` that concern `operation`, the weakest first: service, patterns (longest last), itself."""
    path = operation.path[1:]
    found = [(name.removeprefix("/"), name) for name in names]
    patterns = sorted((len(bare), name) for bare, name in found if is_pattern(bare) and fnmatchcase(path, bare))
    return [
        *(name for bare, name in found if bare == operation.service),
        *(name for _, name in patterns),
        *(name for bare, name in found if bare == path),
    ]


def _names(contract: Contract) -> set[str]:
    return {each.name for each in contract.services} | {path[1:] for path in contract.operations}


def duration(value: object) -> timedelta:
    """Read a duration: seconds as a number, or a text with a unit (`250ms`, `5s`, `2m`, `1h`); else ValueError."""
    found = _DURATION.match(str(value).strip()) if isinstance(value, int | float | str) else None
    if found is None or isinstance(value, bool):
        raise ValueError(f"{value!r} is no duration; write seconds (2.5) or a unit (250ms, 5s, 2m, 1h)")
    return timedelta(**{_UNITS[found[2] or "s"]: float(found[1])})


def timeout(value: object) -> timedelta:
    """Read the timeout of a call, above 0 and at most 1 h; else ValueError."""
    found = duration(value)
    if not timedelta() < found <= LONGEST_TIMEOUT:
        raise ValueError(f"{value!r} is not above 0 and at most 1h")
    return found


def _service(service: Service, changes: Mapping[str, Mapping[str, Any]]) -> Service:
    of_service = changes.get(service.name, {})
    operations = tuple(_operation(each, changes) for each in service.operations)
    return replace(service, operations=operations, tier=of_service.get("tier", service.tier))


def _operation(operation: Operation, changes: Mapping[str, Mapping[str, Any]]) -> Operation:
    merged: dict[str, Any] = {}
    for name in concerning(changes, operation):
        merged.update(changes[name])
    return replace(operation, **merged) if merged else operation


def _changes(name: str, given: Mapping[str, object], mistakes: list[Mistake]) -> Mapping[str, Any]:
    read: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _READERS:
            keys = ", ".join(_READERS)
            mistakes.append(_mistake(name, f"{key!r} cannot be set, only {keys}{nearest(key, _READERS)}"))
            continue
        try:
            read[key] = _READERS[key](value)
        except (ValueError, OverflowError) as error:
            mistakes.append(_mistake(name, f"{key}: {error}"))
    return read


def _rate_limit(value: object) -> RateLimit:
    found = _RATE.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is no rate; write requests/duration (100/60s)")
    requests, per = int(found[1]), duration(found[2])
    if not requests or not per:
        raise ValueError(f"{value!r} lets nothing through; both sides must be above 0")
    return RateLimit(requests=requests, per=per)


def _exposure(value: object) -> Exposure:
    return Exposure(_member(Exposure, value))


def _tier(value: object) -> Tier:
    return Tier(_member(Tier, value))


def _member(kind: Any, value: object) -> IntEnum:
    names = [each.name for each in kind if each.name != "UNSPECIFIED"]
    if not isinstance(value, str) or value.upper() not in names:
        raise ValueError(f"{value!r} is none of {', '.join(names)}{nearest(str(value).upper(), names)}")
    found: IntEnum = kind[value.upper()]
    return found


_READERS: Mapping[str, Callable[[object], object]] = {
    "timeout": timeout,
    "rate_limit": _rate_limit,
    "exposure": _exposure,
    "tier": _tier,
}


def _mistake(name: str, message: str) -> Mistake:
    return Mistake(Source("settings"), f"{name}: {message}", "")
