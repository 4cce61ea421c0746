"""The channels below a gRPC client: name resolution, balancing, keepalive and GOAWAY are grpcio's, told how from here.

The addresses of a name take turns; one that fails nearly every call while others answer is left out for a while.
"""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from interlock.protocols.client_tls import Tls

EJECTION = {
    "interval": "2s",
    "baseEjectionTime": "10s",
    "maxEjectionTime": "60s",
    "maxEjectionPercent": 30,
    "failurePercentageEjection": {
        "threshold": 90,
        "enforcementPercentage": 100,
        "minimumHosts": 2,
        "requestVolume": 5,
    },
    "childPolicy": [{"round_robin": {}}],
}
"""Outlier detection (gRFC A50): every 2 s an address with 5 calls or more, of which over 90 % failed, is left out.

For 10 s, then 20 s and so on, up to a minute; no further one is left out where three tenths are. To gRPC every status
but OK is a failure, so the share is high: an address that only says NOT_FOUND may be fine.
"""
KEEPALIVE = timedelta(seconds=330)
"""A ping after so long without a frame, while calls are open: servers of gRPC's defaults punish any under 300 s."""
KEEPALIVE_TIMEOUT = timedelta(seconds=20)
"""A connection whose ping is not answered for so long, or whose bytes are not acknowledged, is given up."""
RESOLVE_AFTER = timedelta(seconds=2)
"""A name is looked up again when a connection was lost, but not sooner than this after the time before."""


def options(*, target: str, connections: int, max_bytes: int, connect: timedelta) -> list[tuple[str, Any]]:
    """Return the options of channels to `target`, of which there are `connections`."""
    chosen: list[tuple[str, Any]] = [
        # no retry policy: what is tried again is only what no server has seen (refused behind a GOAWAY)
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"outlier_detection_experimental": EJECTION}]})),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.dns_min_time_between_resolutions_ms", _milliseconds(RESOLVE_AFTER)),
        ("grpc.keepalive_time_ms", _milliseconds(KEEPALIVE)),
        ("grpc.keepalive_timeout_ms", _milliseconds(KEEPALIVE_TIMEOUT)),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_send_message_length", max_bytes),
        ("grpc.primary_user_agent", "interlock"),
        ("grpc.min_reconnect_backoff_ms", _milliseconds(connect)),  # its name for: time to connect
        ("grpc.initial_reconnect_backoff_ms", 250),  # a neighbour that is back is found soon, not after two minutes
        ("grpc.max_reconnect_backoff_ms", 3000),
    ]
    if connections > 1:  # channels of equal options would share one connection
        chosen.append(("grpc.use_local_subchannel_pool", 1))
    kind, _, addresses = target.partition(":")
    if kind in ("ipv4", "ipv6") and "," in addresses:  # the list as a whole is no authority
        chosen.append(("grpc.default_authority", addresses.partition(",")[0]))
    return chosen


def open_channel(target: str, tls: Tls | None, chosen: list[tuple[str, Any]]) -> aio.Channel:
    """Return a new channel, which connects with its first call; OSError if a file of `tls` can't be read."""
    if tls is None:
        return aio.insecure_channel(target, chosen)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(tls.authorities),
        private_key=_read(tls.key),
        certificate_chain=_read(tls.certificate),
    )
    return aio.secure_channel(target, credentials, chosen)


def _read(path: Path | str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _milliseconds(time: timedelta) -> int:
    return int(time.total_seconds() * 1000)
