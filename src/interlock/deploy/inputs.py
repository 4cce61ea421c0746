"""What a deployment needs and no contract knows: `deploy.toml`, read once into frozen data with its mistakes named."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from interlock.contract.gen.interlock.v1.options_pb import Tier
from interlock.contract.model import Contract, Service
from interlock.contract.names import nearest
from interlock.platform.platform import NoPlatform, Platform, load

FILE = "deploy.toml"
API_PORT = 8080
OPERATIONS_PORT = 8081
PUBLISHING = "INTERLOCK_"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?\Z")
_TOP = ("platform", "settings", "gateway", "services")
_PLATFORM = ("name", "target", "image", "namespace", "drain_limit", "readiness_grace", "secrets", "python")
_SERVICE = ("implements", "replicas", "most_replicas", "cpu", "memory", "secrets", "settings", "calls_out")


class DeployError(Exception):
    """`deploy.toml` is missing or wrong; the text names the key and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One process kind to run: a service of the platform, or its gateway.

    `cpu` and `memory` are what a replica asks for, in Kubernetes' units; `secrets` are names of Kubernetes Secrets
    whose entries become environment variables; `calls` are names of other workloads that it connects to, `calls_out`
    ports on hosts outside (its database, its broker).
    """

    name: str
    target: str
    services: tuple[Service, ...]
    calls: tuple[str, ...]
    replicas: int = 2
    most_replicas: int = 6
    cpu: str = "500m"
    memory: str = "256Mi"
    secrets: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    calls_out: tuple[int, ...] = ()
    gateway: bool = False

    @property
    def tier(self) -> Tier:
        """The busiest tier among its services."""
        return min((each.tier or Tier.STANDARD for each in self.services), default=Tier.STANDARD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A platform as it is deployed; everything that `interlock deploy` writes comes from here."""

    name: str
    image: str
    namespace: str
    python: str
    drain_limit: timedelta
    readiness_grace: timedelta
    workloads: tuple[Workload, ...]
    settings: Mapping[str, str]
    secrets: tuple[str, ...]
    contract: Contract

    def environment(self, workload: Workload) -> dict[str, str]:
        """Return the variables of a workload: ports open to the cluster, neighbours by name, the settings given."""
        chosen = {
            "host": "0.0.0.0",  # noqa: S104 - in a container, behind its Service and NetworkPolicy
            "port": str(API_PORT),
            "operations_host": "0.0.0.0",  # noqa: S104 - probes and scrapers come from other addresses
            "operations_port": str(OPERATIONS_PORT),
            "environment": "production",
            "log_format": "json",
            "drain_limit": _seconds(self.drain_limit),
            "readiness_grace": _seconds(self.readiness_grace),
            **({} if workload.gateway else {"service_name": workload.name}),
            **{f"upstreams__{_variable(name)}": f"{self.host(name)}:{API_PORT}" for name in workload.calls},
            **self.settings,
            **workload.settings,
        }
        return {f"{PUBLISHING}{name.upper()}": value for name, value in chosen.items()}

    def host(self, name: str) -> str:
        """Return the name under which a workload is found."""
        return f"{self.name}-{name}"


def read_deployment(path: Path, contract: Contract) -> Deployment:
    """Read `path` (a `deploy.toml`) and join it with the platform that it names and with `contract`."""
    if not path.exists():
        raise DeployError(f"there is no {path}: it names the platform, its image and what implements what")
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeployError(f"{path} is not TOML: {error}") from error
    try:
        return _deployment(given, contract)
    except DeployError as error:
        raise DeployError(f"{path}: {error}") from error


def _deployment(given: Mapping[str, Any], contract: Contract) -> Deployment:
    _known(given, _TOP, "")
    about = _table(given, "platform")
    _known(about, _PLATFORM, "platform.")
    name = _text(about, "name", "platform.name")
    if not _NAME.match(name):
        raise DeployError(f"platform.name {name!r} is no DNS label: lower-case letters, digits and '-', at most 42")
    try:
        platform = load(_text(about, "target", "platform.target"))
    except NoPlatform as error:
        raise DeployError(f"platform.target: {error}") from error
    return Deployment(
        name=name,
        image=_text(about, "image", "platform.image"),
        namespace=_text(about, "namespace", "platform.namespace", default=name),
        python=_text(about, "python", "platform.python", default="3.13"),
        drain_limit=_duration(about, "drain_limit", 30),
        readiness_grace=_duration(about, "readiness_grace", 5),
        workloads=_workloads(given, platform, contract),
        settings=_settings(_table(given, "settings"), "settings"),
        secrets=_texts(about, "secrets", "platform.secrets"),
        contract=contract,
    )


def _workloads(given: Mapping[str, Any], platform: Platform, contract: Contract) -> tuple[Workload, ...]:
    described = _table(given, "services")
    for name in described:
        if name not in platform.services:
            raise DeployError(f"services.{name} is no service of the platform{nearest(name, list(platform.services))}")
    by_contract = {each.name: each for each in contract.services}
    implemented: dict[str, tuple[Service, ...]] = {}
    for name in platform.services:
        named = _texts(_table(described, name), "implements", f"services.{name}.implements")
        if not named:
            raise DeployError(f'services.{name}.implements is missing: the services it serves ("api.x.v1.XService")')
        for each in named:
            if each not in by_contract:
                raise DeployError(f"services.{name}.implements: no service {each}{nearest(each, list(by_contract))}")
        implemented[name] = tuple(by_contract[each] for each in named)
    owner = {service.name: name for name, services in implemented.items() for service in services}
    workloads = [
        _workload(name, target, implemented[name], _calls(name, implemented[name], owner), _table(described, name))
        for name, target in platform.services.items()
    ]
    behind = tuple(platform.services)
    front = _workload("gateway", platform.gateway, contract.services, behind, _table(given, "gateway"), gateway=True)
    return (*workloads, front)


def _calls(name: str, services: Sequence[Service], owner: Mapping[str, str]) -> tuple[str, ...]:
    called = {target for service in services for target in service.calls}
    for each in sorted(called):
        if each not in owner:
            raise DeployError(f"services.{name} calls {each}, which no service of the platform implements")
    return tuple(sorted({owner[each] for each in called} - {name}))


def _workload(
    name: str,
    target: str,
    services: tuple[Service, ...],
    calls: tuple[str, ...],
    table: Mapping[str, Any],
    *,
    gateway: bool = False,
) -> Workload:
    where = "gateway" if gateway else f"services.{name}"
    _known(table, _SERVICE, f"{where}.")
    least = _number(table, "replicas", where, 2)
    return Workload(
        name=name,
        target=target,
        services=services,
        calls=calls,
        replicas=least,
        most_replicas=_number(table, "most_replicas", where, max(least, 6)),
        cpu=_text(table, "cpu", f"{where}.cpu", default="500m"),
        memory=_text(table, "memory", f"{where}.memory", default="256Mi"),
        secrets=_texts(table, "secrets", f"{where}.secrets"),
        settings=_settings(_table(table, "settings"), f"{where}.settings"),
        calls_out=tuple(_ports(table, where)),
        gateway=gateway,
    )


def _known(table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in table:
        if key not in keys:
            raise DeployError(f"{where}{key} is no key{nearest(key, keys)}")


def _table(given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = given.get(key, {})
    if not isinstance(found, Mapping):
        raise DeployError(f"{key} must be a table")
    return found


def _text(table: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    found = table.get(key, default)
    if not isinstance(found, str) or not found:
        raise DeployError(f"{where} is missing" if found is None else f"{where} must be a text, not {found!r}")
    return found


def _texts(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise DeployError(f"{where} must be a list of texts")
    return tuple(found)


def _number(table: Mapping[str, Any], key: str, where: str, default: int) -> int:
    found = table.get(key, default)
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= 1000:
        raise DeployError(f"{where}.{key} must be a number from 1 to 1000, not {found!r}")
    return found


def _ports(table: Mapping[str, Any], where: str) -> list[int]:
    found = table.get("calls_out", [])
    if not isinstance(found, list) or not all(isinstance(each, int) and 0 < each < 65536 for each in found):
        raise DeployError(f"{where}.calls_out must be a list of ports, such as [5432]")
    return found


def _duration(table: Mapping[str, Any], key: str, default: int) -> timedelta:
    found = table.get(key, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 3600:
        raise DeployError(f"platform.{key} must be seconds from 0 to 3600, not {found!r}")
    return timedelta(seconds=found)


def _settings(table: Mapping[str, Any], where: str) -> dict[str, str]:
    chosen = {}
    for name, value in table.items():
        if isinstance(value, dict | list):
            raise DeployError(f"{where}.{name} must be a text, a number or true/false; nest with a__b")
        chosen[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return chosen


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g}s"


def _variable(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())
