"""Where calls go: a host and a port that somebody named, and whether that is this machine."""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from interlock.bench.plan import Refused

_TARGET = re.compile(r"(?:(https?|grpcs)://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._\-]+)(?::([0-9]{1,5}))?/?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where and how calls go: over gRPC, or over Connect for the URL of a host. `str()` is `host:port`."""

    host: str
    port: int
    secure: bool
    connect: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the host, for Connect."""
        return f"{'https' if self.secure else 'http'}://{self}"

    @property
    def loopback(self) -> bool:
        """Whether it is this machine for certain: `localhost` or a loopback address; other names are not looked up."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def read_target(text: str) -> Target:
    """Read `host:port` (gRPC), `grpcs://host` (gRPC over TLS), or `http://host`, `https://host` (Connect).

    Where a scheme comes without a port it is 443, for `http` 80.

    Refused for anything else, gRPC's other schemes of names included.
    """
    found = _TARGET.match(text)
    if found is None:
        raise Refused(
            f"{text!r} is no target; write host:port or grpcs://host for gRPC, "
            f"http://host:port or https://host for Connect"
        )
    scheme, host, port = found.groups()
    if port is None and scheme is None:
        raise Refused(f"{text!r} lacks a port; write {text}:8080")
    number = int(port) if port is not None else 80 if scheme == "http" else 443
    if not 1 <= number <= 65535:
        raise Refused(f"{number} is no port")
    return Target(
        host=host.strip("[]"), port=number, secure=scheme in ("https", "grpcs"), connect=scheme in ("http", "https")
    )


def refuse_foreign(target: Target, *, owned: bool) -> None:
    """Refuse to load a machine that is not this one, unless somebody says that it is theirs."""
    if not target.loopback and not owned:
        raise Refused(
            f"{target.host} is not this machine, and load on a host of others is an attack on it; "
            f"if it is yours, or its owner agreed, say --i-own-this-host"
        )
