"""Access: which roles hold which permissions, and whether a principal may call an operation. Denied by default."""

import json
import re
import tomllib
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from interlock.call import Call, Handler, Layer, Middleware, Principal, Reply
from interlock.contract.model import Operation
from interlock.errors import PermissionDenied, Unauthenticated
from interlock.security import audit

_PATTERN = re.compile(r"\*\Z|[a-z][a-z0-9_-]*:(\*|[a-z][a-z0-9_-]*)\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_TABLES = ("roles", "certificates")
_KEYS = (*_TABLES, "privileged")


class RolesError(Exception):
    """A roles file that cannot be used; the message says where and how it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """What each role permits, and the roles of the services that show a certificate instead of a token.

    A permission is granted by itself (`orders:read`), by `orders:*` or by `*`. An empty `Roles` permits nothing.
    `privileged` permissions leave a line in the audit log whenever they let somebody through.
    """

    permissions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    certificates: Mapping[str, frozenset[str]] = field(default_factory=dict)
    privileged: frozenset[str] = frozenset()

    def granting(self, permission: str) -> frozenset[str]:
        """Return the roles that hold `permission`; none for an empty one."""
        patterns = _patterns(permission)
        return frozenset(role for role, held in self.permissions.items() if not patterns.isdisjoint(held))

    def audits(self, permission: str) -> bool:
        """Tell whether a call that `permission` lets through is one to keep an eye on."""
        return not self.privileged.isdisjoint(_patterns(permission))


def _patterns(permission: str) -> frozenset[str]:
    if not permission:
        return frozenset()
    return frozenset((permission, f"{permission.partition(':')[0]}:*", "*"))


def roles_from(
    permissions: Mapping[str, Iterable[str]],
    certificates: Mapping[str, Iterable[str]] | None = None,
    privileged: Iterable[str] = (),
) -> Roles:
    """Return `Roles` of plain data: permissions by role and, for mutual TLS, roles by name (SPIFFE URI or DNS name).

    `RolesError` for a name or permission that is malformed, or a certificate's role that does not exist.
    """
    held = {str(role): _listed(str(role), given) for role, given in permissions.items()}
    for role, patterns in held.items():
        if not _NAME.match(role):
            raise RolesError(f"{role!r} is no name of a role: up to 64 letters, digits, '.', '_' and '-'")
        _check_patterns(f"role {role}", patterns)
    shown = {name: _listed(name, given) for name, given in (certificates or {}).items()}
    for name, roles in shown.items():
        if unknown := sorted(roles - held.keys()):
            raise RolesError(f"certificate {name}: there is no role {unknown[0]!r}; there are: {', '.join(held)}")
    watched = _listed("privileged", privileged)
    _check_patterns("privileged", watched)
    return Roles(permissions=MappingProxyType(held), certificates=MappingProxyType(shown), privileged=watched)


def _check_patterns(where: str, patterns: Iterable[str]) -> None:
    for pattern in sorted(patterns):
        if not _PATTERN.match(pattern):
            raise RolesError(f"{where}: {pattern!r} is no permission; write `orders:read`, `orders:*` or `*`")


def _listed(name: str, given: object) -> frozenset[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise RolesError(f'{name} must have a list: {name} = ["…"]')
    found = frozenset(given)
    if not all(isinstance(each, str) for each in found):
        raise RolesError(f"{name} lists something that is no text")
    return found


def load_roles(path: Path | None) -> Roles:
    """Read a roles file: YAML, JSON or TOML, by its name; no path gives `Roles` that permit nothing. It blocks.

    `roles` has a list of permissions for each role, `certificates` a list of roles for each name in a certificate,
    `privileged` lists the permissions whose use is audited. `RolesError` names the file and what is wrong in it.
    """
    if path is None:
        return Roles()
    try:
        text = path.read_text(encoding="utf-8")
        data: Any = _parsed(text, path.suffix)
    except FileNotFoundError:
        raise RolesError(f"there is no roles file {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RolesError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict) or not all(isinstance(data.get(each, {}), dict) for each in _TABLES):
        raise RolesError(f"{path} must have a table [roles], and may have a table [certificates]")
    if unknown := sorted(str(each) for each in data if each not in _KEYS):
        raise RolesError(
            f"{path}: {unknown[0]!r} is no table here; there are [roles] and [certificates], and the list privileged"
        )
    try:
        return roles_from(data.get("roles", {}), data.get("certificates", {}), data.get("privileged", ()))
    except RolesError as error:
        raise RolesError(f"{path}: {error}") from None


def _parsed(text: str, suffix: str) -> Any:
    """Return what a text in the format of that suffix says; ValueError if it is none."""
    if suffix == ".json":
        return json.loads(text)
    if suffix in (".yaml", ".yml"):
        from interlock.security.yaml_text import parse_yaml  # noqa: PLC0415 - a library of its own, where it is used

        return parse_yaml(text)
    return tomllib.loads(text)


def access(roles: Roles, *, service_principal: Principal | None = None) -> Layer:
    """Let only principals through whose roles hold the operation's permission; PERMISSION_DENIED names it otherwise.

    Left out of operations open to anybody. For CONSUMED calls give a `service_principal`: a consumer acts as its own
    service, and an operation that names no permission asks for none. Elsewhere such an operation is closed.
    """

    def layer(operation: Operation) -> Middleware | None:
        if operation.unauthenticated:
            return None
        permission = operation.permission
        if service_principal is not None:
            return _acting(service_principal, roles, permission)
        granting = roles.granting(permission)
        audited = roles.audits(permission)

        def permitted(call: Call, proceed: Handler) -> Awaitable[Reply]:
            principal = call.principal
            if principal is None:
                raise Unauthenticated(_NOBODY)
            if granting.isdisjoint(principal.roles):
                raise _denied(call, permission)
            if audited:
                audit.privileged(call, permission)
            call._roles = roles
            return proceed(call)

        return permitted

    return layer


_NOBODY = "nobody is authenticated, and the operation needs a permission"


def _acting(principal: Principal, roles: Roles, permission: str) -> Middleware:
    may = not permission or not roles.granting(permission).isdisjoint(principal.roles)

    def as_service(call: Call, proceed: Handler) -> Awaitable[Reply]:
        call.principal = principal
        call._roles = roles
        if not may:
            raise _denied(call, permission)
        return proceed(call)

    return as_service


def authorize(call: Call, permission: str, roles: Roles | None = None, *, owner: str | None = None) -> None:
    """Raise PERMISSION_DENIED unless the call's principal holds `permission`; for handlers that decide by content.

    With `owner`, the principal of that subject may as well: `authorize(call, "orders:read-any", owner=order.customer)`.
    `roles` are those that the call came in by, unless given. Without a principal it is UNAUTHENTICATED. RuntimeError
    for a call that no layer `access` let through, and without `roles`.
    """
    principal = call.principal
    if principal is None:
        raise Unauthenticated(_NOBODY)
    if owner and principal.subject == owner:
        return
    held: Roles | None = roles if roles is not None else call._roles
    if held is None:
        raise RuntimeError("the call came in by no layer `access`: hand the roles over")
    if held.granting(permission).isdisjoint(principal.roles):
        raise _denied(call, permission)
    if held.audits(permission):
        audit.privileged(call, permission)


def _denied(call: Call, permission: str) -> PermissionDenied:
    audit.refused(call, f"it needs the permission {permission}" if permission else "its contract names no permission")
    if not permission:
        return PermissionDenied("the contract names no permission for this operation, so nobody may call it")
    return PermissionDenied(f"this needs the permission {permission}, which none of your roles holds")


def why(roles: Roles, role: str, operation: Operation) -> tuple[bool, str]:
    """Tell whether `role` may call `operation`, and why, in one sentence; `RolesError` for a role there is not."""
    if role not in roles.permissions:
        known = ", ".join(sorted(roles.permissions)) or "none"
        raise RolesError(f"there is no role {role!r}; there are: {known}")
    if operation.unauthenticated:
        return True, f"{operation.name} is open to anybody: the contract says `unauthenticated`"
    permission = operation.permission
    if not permission:
        return False, f"{operation.name} names no permission in the contract, so nobody may call it"
    by = sorted(_patterns(permission) & roles.permissions[role])
    if by:
        granted = "" if by[0] == permission else f", by {by[0]}"
        return True, f"{operation.name} needs {permission}, and {role} holds it{granted}"
    others = sorted(roles.granting(permission))
    holders = f"those who hold it: {', '.join(others)}" if others else "no role holds it"
    return False, f"{operation.name} needs {permission}, and {role} does not hold it; {holders}"
