"""What applies to each operation that a client calls: a preset, then what contract, code and settings say of it.

The strongest last: the contract of the service, of the operation, the client's constructor, the settings.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, NamedTuple

from interlock.contract.effective import concerning, is_pattern
from interlock.contract.model import Operation
from interlock.contract.names import nearest
from interlock.contract.policies import FIELDS, PRESETS, Said
from interlock.resilience.circuit_breaker import BreakerPolicy, counting
from interlock.resilience.concurrency import BulkheadPolicy
from interlock.resilience.retry import RetryPolicy

EVERYTHING = "*"
"""The name under which settings say what applies to every call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How one operation is called.

    `breaker` None: there is none. `throttle`: whether the client keeps itself under the rate limit that it was told.
    `timeout` replaces the contract's.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: BreakerPolicy | None = field(default_factory=BreakerPolicy)
    bulkhead: BulkheadPolicy = field(default_factory=BulkheadPolicy)
    throttle: bool = True
    timeout: timedelta | None = None


STANDARD = Policy()
PATIENT = Policy(
    retry=RetryPolicy(retries=6, base=timedelta(milliseconds=200), longest_backoff=timedelta(seconds=10)),
    bulkhead=BulkheadPolicy(waiting=10_000, wait=timedelta(seconds=10)),
)
STRICT = Policy(
    retry=RetryPolicy(retries=1, base=timedelta(milliseconds=50), longest_pause=timedelta(seconds=1)),
    breaker=BreakerPolicy(minimum_calls=10, slow=timedelta(seconds=1)),
    bulkhead=BulkheadPolicy(calls=50, waiting=50, wait=timedelta(milliseconds=100)),
)
COUNTING = Policy(breaker=counting())
OFF = Policy(retry=RetryPolicy(retries=0), breaker=None, bulkhead=BulkheadPolicy(calls=0), throttle=False)

_BY_NAME: Mapping[str, Policy] = {
    "standard": STANDARD, "patient": PATIENT, "strict": STRICT, "counting": COUNTING, "off": OFF,
}  # fmt: skip
_RENAMED = {"retry.attempts": "retries", "retry.cap": "longest_backoff"}


def preset(name: str) -> Policy:
    """Return the preset of that name; ValueError names those there are."""
    found = _BY_NAME.get(name)
    if found is None:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}{nearest(name, PRESETS)}")
    return found


class Origin(NamedTuple):
    """What was said, and where: `contract`, `code`, `settings (orders)`."""

    where: str
    said: Said


@dataclass(frozen=True, slots=True)
class Resolved:
    """A policy, and where each of its values was said, by the names of `interlock.contract.policies`."""

    policy: Policy
    origins: Mapping[str, str]


def resolve(said: Iterable[Origin]) -> Resolved:
    """Return what follows from what was said, the weakest first; a preset sets all values anew but a timeout.

    ValueError where values don't go together.
    """
    policy = STANDARD
    origins = dict.fromkeys(FIELDS, "preset standard")
    for where, each in said:
        if "preset" in each:
            policy = replace(preset(each["preset"]), timeout=policy.timeout)
            origins.update(dict.fromkeys(FIELDS, f"preset {each['preset']}, {where}"))
        values = {name: value for name, value in each.items() if name != "preset"}
        if values:
            policy = _changed(policy, values)
            origins.update(dict.fromkeys(values, where))
    return Resolved(policy, origins)


def _changed(policy: Policy, values: Said) -> Policy:
    sections: dict[str, dict[str, Any]] = {"retry": {}, "breaker": {}, "bulkhead": {}, "": {}}
    for name, value in values.items():
        section, _, own = name.rpartition(".")
        sections[section][_RENAMED.get(name, own)] = value
    retry, breaker = sections["retry"], sections["breaker"]
    if "retries" in retry:
        retry["retries"] -= 1  # attempts count the first
    enabled = breaker.pop("enabled", policy.breaker is not None or bool(breaker))
    return replace(
        policy,
        retry=replace(policy.retry, **retry),
        breaker=replace(policy.breaker or BreakerPolicy(), **breaker) if enabled else None,
        bulkhead=replace(policy.bulkhead, **sections["bulkhead"]),
        **sections[""],
    )


def said_of(part: RetryPolicy | BreakerPolicy | BulkheadPolicy) -> Said:
    """Return the values of a part of a policy under their names in contracts and settings."""
    section = {RetryPolicy: "retry", BreakerPolicy: "breaker", BulkheadPolicy: "bulkhead"}[type(part)]
    names = {given: name for name, given in _RENAMED.items()}
    said = {names.get(each.name, f"{section}.{each.name}"): getattr(part, each.name) for each in fields(part)}
    if isinstance(part, RetryPolicy):
        said["retry.attempts"] += 1
    if isinstance(part, BreakerPolicy):
        said["breaker.enabled"] = True
    return said


def said_in_code(
    policy: str,
    *parts: RetryPolicy | BreakerPolicy | BulkheadPolicy | None,
    timeout: timedelta | None = None,
) -> Said:
    """Return what a client's constructor says: a preset's name, empty for none, and parts that replace its own.

    ValueError for a preset that is not there.
    """
    said: dict[str, Any] = {"timeout": timeout} if timeout is not None else {}
    if policy:
        preset(policy)
        said["preset"] = policy
    for part in parts:
        if part is not None:
            said.update(said_of(part))
    return said


class Target(str):
    """The address of a neighbour as the settings give it: a text that knows its name, and what they say of calls."""

    __slots__ = ("name", "policies")

    name: str
    policies: Mapping[str, Said]

    def __new__(cls, address: str, name: str = "", policies: Mapping[str, Said] | None = None) -> "Target":
        """Make the text, with `policies` by whom they concern."""
        made = super().__new__(cls, address)
        made.name = name
        made.policies = policies or {}
        return made


class Policies:
    """The policies of one client's calls to `target`, by operation.

    `code` is what its constructor says; `settings` says it by `*`, target, service, pattern of operations or operation,
    in that order of strength.
    """

    def __init__(
        self, target: str = "", *, code: Said | None = None, settings: Mapping[str, Said] | None = None
    ) -> None:
        self.target = target
        self._names = {str(target), getattr(target, "name", "")} - {""}
        self._code = code or {}
        self._settings = getattr(target, "policies", {}) if settings is None else settings
        self._found: dict[str, Resolved] = {}

    def of(self, operation: Operation) -> Policy:
        """Return what applies to calls of `operation`; ValueError where what was said does not go together."""
        return self.resolved(operation).policy

    def resolved(self, operation: Operation) -> Resolved:
        """Return it with its origins."""
        found = self._found.get(operation.path)
        if found is None:
            try:
                found = self._found[operation.path] = resolve(self._said(operation))
            except ValueError as wrong:
                raise ValueError(f"the policy of {operation.path}: {wrong}") from wrong
        return found

    def has_own_bulkhead(self, operation: Operation) -> bool:
        """Tell whether a bulkhead is said of `operation` itself, so that it shares none with others."""
        own = ("contract", _where(operation.path), _where(operation.path[1:]))
        origins = self.resolved(operation).origins.items()
        return any(where.rpartition(", ")[2] in own for name, where in origins if name.startswith("bulkhead."))

    def check(self, service: str, operations: Iterable[str]) -> None:
        """Raise ValueError where the settings name an operation of `service` that is none of `operations` (paths)."""
        known = {path.removeprefix("/") for path in operations}
        for name in self._settings:
            bare = name.removeprefix("/")
            if bare.startswith(f"{service}/") and not is_pattern(bare) and bare not in known:
                raise ValueError(f"the setting policies names {name!r}, which is no operation{nearest(bare, known)}")

    def _said(self, operation: Operation) -> Iterable[Origin]:
        of_service, own = operation.policies or ({}, {})
        yield Origin(f"contract ({operation.service})", of_service)
        yield Origin("contract", own)
        yield Origin("code", self._code)
        settings = self._settings
        if not settings:
            return
        names = [EVERYTHING, *sorted(self._names)]
        names += concerning((each for each in settings if each not in names), operation)
        for name in names:
            if name in settings:
                yield Origin(_where(name), settings[name])


def _where(name: str) -> str:
    return f"settings ({name})"
