"""A platform at work: every service on a port of its own on loopback, the gateway on the one that is asked for."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from interlock.app import App
from interlock.platform.events import check_events, documents_of
from interlock.platform.platform import Platform
from interlock.server.application import StartError
from interlock.server.application import load as load_app
from interlock.server.embedded import Address, serving

HOST = "127.0.0.1"
START_LIMIT = 60.0
STOP_LIMIT = 45.0


@dataclass(slots=True)
class Running:
    """A platform that serves; `apps` are there where it runs in this process, `processes` where it is split."""

    gateway: Address
    services: Mapping[str, Address]
    platform: Platform
    apps: dict[str, App] = field(default_factory=dict)
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)


Told = Callable[[str, Address], None]
"""Called with each service's name and address once it serves, the gateway last."""


def _silent(_name: str, _address: Address) -> None:
    """Tell nobody."""


@asynccontextmanager
async def run_here(
    platform: Platform, *, host: str = HOST, port: int = 0, told: Told = _silent
) -> AsyncIterator[Running]:
    """Run all of a platform in this process while the block runs.

    The services' addresses stand in the environment meanwhile (INTERLOCK_UPSTREAMS__NAME), where their settings look.
    """
    addresses = _addresses(platform)
    before = dict(os.environ)
    os.environ.update(_upstreams(addresses))
    try:
        async with AsyncExitStack() as stack:
            apps: dict[str, App] = {}
            for name, target in platform.services.items():
                apps[name] = load_app(target)  # type: ignore[assignment]  # an App is what these factories make
                told(name, await stack.enter_async_context(serving(apps[name], host=HOST, port=addresses[name].port)))
            check_events({name: json.loads(app.asyncapi()) for name, app in apps.items()})
            apps["gateway"] = load_app(platform.gateway)  # type: ignore[assignment]
            front = await stack.enter_async_context(serving(apps["gateway"], host=host, port=port))
            told("gateway", front)
            yield Running(front, addresses, platform, apps=apps)
    finally:
        os.environ.clear()
        os.environ.update(before)


@asynccontextmanager
async def run_split(
    platform: Platform, *, host: str = HOST, port: int = 0, told: Told = _silent
) -> AsyncIterator[Running]:
    """Run a platform with a process for each service and for the gateway while the block runs."""
    addresses = _addresses(platform)
    front = Address(host=host, port=port or _free_port())
    running = Running(front, addresses, platform)
    try:
        for name, target in platform.services.items():
            running.processes[name] = await start_service(target, addresses[name], addresses)
        running.processes["gateway"] = await start_service(platform.gateway, front, addresses)
        for name, address in (*addresses.items(), ("gateway", front)):
            await _until_ready(name, address, running.processes[name])
            told(name, address)
        check_events(await documents_of(addresses))
        yield running
    finally:
        await _stop(running.processes)


async def restart_service(running: Running, name: str) -> None:
    """Start a service (or the gateway) of a split platform again, once its process has ended; wait until it is ready.

    StartError if it does not start, RuntimeError while its process still runs.
    """
    process = running.processes.get(name)
    if process is None or process.returncode is None:
        raise RuntimeError(f"{name} {'still runs' if process else 'has no process of its own'}: nothing to start again")
    gateway = name == "gateway"
    target = running.platform.gateway if gateway else running.platform.services[name]
    address = running.gateway if gateway else running.services[name]
    running.processes[name] = await start_service(target, address, running.services)
    await _until_ready(name, address, running.processes[name])


async def start_service(target: str, address: Address, others: Mapping[str, Address]) -> asyncio.subprocess.Process:
    """Start one service as `interlock serve` does, in a process of its own."""
    environment = {
        **os.environ,
        **_upstreams(others),
        "INTERLOCK_HOST": address.host,
        "INTERLOCK_PORT": str(address.port),
        "INTERLOCK_OPERATIONS_PORT": "0",
    }
    command = (sys.executable, "-m", "interlock.cli", "serve", target)
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )


def interruption() -> asyncio.Event:
    """Return what Ctrl-C and SIGTERM set from now on; a second Ctrl-C ends the process at once: KeyboardInterrupt."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stop.set()

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, interrupt)
    return stop


async def _until_ready(name: str, address: Address, process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(START_LIMIT):
            while not await _is_ready(address):
                if process.returncode is not None:
                    raise StartError(f"{name} did not start (exit code {process.returncode}); its reason stands above")
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise StartError(f"{name} was not ready within {START_LIMIT:g} s") from None


async def _is_ready(address: Address) -> bool:
    try:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    try:
        writer.write(f"GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n".encode())
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()


async def _stop(processes: Mapping[str, asyncio.subprocess.Process]) -> None:
    for process in reversed(list(processes.values())):
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
    for process in processes.values():
        try:
            await asyncio.wait_for(process.wait(), STOP_LIMIT)
        except TimeoutError:
            process.kill()
            await process.wait()


def _addresses(platform: Platform) -> dict[str, Address]:
    return {name: Address(host=HOST, port=_free_port()) for name in platform.services}


def _upstreams(addresses: Mapping[str, Address]) -> dict[str, str]:
    return {f"INTERLOCK_UPSTREAMS__{name.upper()}": str(address) for name, address in addresses.items()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
