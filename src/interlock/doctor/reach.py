"""What a process needs to reach: database, broker, neighbours, the collector; and whether clocks agree."""

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from interlock.doctor.finding import Finding, Patient, fault, note, ok

LIMIT = 5.0
"""Seconds that one connection may take."""

SKEW = 5.0
"""Seconds by which clocks may differ before tokens and deadlines suffer."""


async def database(patient: Patient) -> Sequence[Finding]:
    """Open the app's database, read from it, and compare its clock with ours."""
    found = patient.app.database if patient.app is not None else None
    if found is None:
        return [] if patient.app is None else [ok("database", "the app has none")]
    try:
        began = time.perf_counter()
        async with asyncio.timeout(LIMIT):
            theirs = await found.probe()
        took = time.perf_counter() - began
    except Exception as error:
        remedy = "start it, or correct the URL, the user or the network"
        return [fault("database", f"{found.shown}: {_said(error)}", remedy)]
    skew = abs(theirs - time.time())
    if skew > SKEW:
        told = f"the database's clock differs from this machine's by {skew:.0f} s"
        return [fault("clock", told, "synchronise both (chrony, systemd-timesyncd)")]
    return [
        ok("database", f"{found.shown} answers in {took * 1000:.1f} ms"),
        ok("clock", f"agrees within {skew:.1f} s"),
    ]


async def broker(patient: Patient) -> Sequence[Finding]:
    """Open the broker and ask how it is."""
    from interlock.events.broker import open_broker  # noqa: PLC0415 - only here

    url = patient.settings.broker.reveal()
    if patient.app is not None and patient.app.broker is None:
        return [ok("broker", "the app has no events")]
    shown = str(patient.settings.broker)
    if _to_be_made(url):
        return [ok("broker", f"{shown} is made at the first start")]
    try:
        found = open_broker(url)
        async with asyncio.timeout(LIMIT):
            await found.start()
            await found.stop()
    except (ValueError, ImportError) as error:
        return [fault("broker", str(error), "correct INTERLOCK_BROKER, or install the extra it names")]
    except Exception as error:
        return [fault("broker", f"{shown}: {_said(error)}", "start it, or correct INTERLOCK_BROKER")]
    return [ok("broker", f"{shown} answers")]


def _to_be_made(url: str) -> bool:
    return url.startswith("embedded:") and not Path(url.removeprefix("embedded:")).exists()


async def upstreams(patient: Patient) -> Sequence[Finding]:
    """Connect to every neighbour."""
    given = patient.settings.upstreams
    return await asyncio.gather(*(_upstream(name, address) for name, address in sorted(given.items())))


async def _upstream(name: str, address: str) -> Finding:
    part = f"upstream {name}"
    host, port = place(address)
    told = await refused(host, port)
    if told:
        return fault(part, f"{address}: {told}", f"start {name}, or correct INTERLOCK_UPSTREAMS__{name.upper()}")
    return ok(part, f"{address} takes connections")


async def collector(patient: Patient) -> Sequence[Finding]:
    """Connect to the collector of traces; without one calls go on all the same."""
    url = patient.settings.otlp_endpoint
    if not url:
        return [ok("collector", "no traces are exported")]
    told = await refused(*place(url.reveal()))
    if told:
        return [
            note(
                "collector", f"{url}: {told}; traces are lost meanwhile", "start it, or correct INTERLOCK_OTLP_ENDPOINT"
            )
        ]
    return [ok("collector", f"{url} takes connections")]


def place(address: str) -> tuple[str, int]:
    """Return host and port of an address or a URL; ValueError for a port that is none."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


async def refused(host: str, port: int) -> str:
    """Connect, and return why that is not possible; empty where it is."""
    try:
        async with asyncio.timeout(LIMIT):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer within {LIMIT:g} s"
    except OSError as error:  # asyncio's own texts are of addresses and lists of failures
        if isinstance(error, socket.gaierror) or not error.errno:
            return error.strerror or "no connection is taken"
        return os.strerror(error.errno)
    writer.close()
    return ""


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {LIMIT:g} s"
    return (str(error).splitlines() or [type(error).__name__])[0]
