"""What a platform is made of: its services and its gateway, each by the factory that makes its App."""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Services by the name under which the others know them (`settings.upstream(name)`), and the gateway in front.

    Each is `module:function`, as `interlock serve` takes it.
    """

    services: Mapping[str, str]
    gateway: str


class NoPlatform(Exception):
    """The target names no platform."""


def load(target: str) -> Platform:
    """Return the platform that `module:name` names; NoPlatform says what is wrong."""
    module, _, name = target.partition(":")
    if not module or not name:
        raise NoPlatform(f"{target!r} must read MODULE:NAME, such as shop.platform:platform")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as missing:
        raise NoPlatform(f"there is no module {missing.name!r} to import from {Path.cwd()}") from missing
    if not isinstance(found, Platform):
        raise NoPlatform(f"{target} is no interlock.platform.Platform")
    return found
