"""What tests of services need: apps and platforms at work, keys and tokens, databases, brokers, certificates, a clock.

pytest finds the fixtures by itself (`interlock.testing.plugin`); what they are made of stands here too, for fixtures of
one's own and for other test runners. Each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock.testing.apps import Apps as Apps
    from interlock.testing.apps import ServedApp as ServedApp
    from interlock.testing.apps import app_running as app_running
    from interlock.testing.certificates import Certificates as Certificates
    from interlock.testing.clock import Clock as Clock
    from interlock.testing.events import Events as Events
    from interlock.testing.events import Failed as Failed
    from interlock.testing.keyring import Keyring as Keyring
    from interlock.testing.nats_server import nats_process as nats_process
    from interlock.testing.nats_server import nats_server as nats_server
    from interlock.testing.platforms import Platforms as Platforms
    from interlock.testing.platforms import ServedPlatform as ServedPlatform
    from interlock.testing.platforms import platform_running as platform_running
    from interlock.testing.postgresql import postgresql_databases as postgresql_databases
    from interlock.testing.postgresql import postgresql_process as postgresql_process
    from interlock.testing.proxy import Bandwidth as Bandwidth
    from interlock.testing.proxy import Blackhole as Blackhole
    from interlock.testing.proxy import CutAfter as CutAfter
    from interlock.testing.proxy import FaultyProxy as FaultyProxy
    from interlock.testing.proxy import Latency as Latency
    from interlock.testing.proxy import Reset as Reset
    from interlock.testing.proxy import SlowClose as SlowClose
    from interlock.testing.proxy import Timeout as Timeout
    from interlock.testing.rabbitmq_server import rabbitmq_process as rabbitmq_process
    from interlock.testing.rabbitmq_server import rabbitmq_server as rabbitmq_server
    from interlock.testing.servers import NoServer as NoServer
    from interlock.testing.servers import ServerProcess as ServerProcess
    from interlock.testing.surroundings import Surroundings as Surroundings
    from interlock.testing.waiting import until as until

_HOMES = {
    "apps": ("Apps", "ServedApp", "app_running"),
    "certificates": ("Certificates",),
    "clock": ("Clock",),
    "events": ("Events", "Failed"),
    "keyring": ("Keyring",),
    "nats_server": ("nats_process", "nats_server"),
    "platforms": ("Platforms", "ServedPlatform", "platform_running"),
    "postgresql": ("postgresql_databases", "postgresql_process"),
    "proxy": ("Bandwidth", "Blackhole", "CutAfter", "FaultyProxy", "Latency", "Reset", "SlowClose", "Timeout"),
    "rabbitmq_server": ("rabbitmq_process", "rabbitmq_server"),
    "servers": ("NoServer", "ServerProcess"),
    "surroundings": ("Surroundings",),
    "waiting": ("until",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605 - made from the one table above


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
